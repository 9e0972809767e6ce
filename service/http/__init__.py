"""The HTTP API: routes, request bodies, responses, problems, OpenAPI, the server, the web page."""
