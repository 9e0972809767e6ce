"""The HTTP API: routes, request bodies, responses, problems, OpenAPI, the web page."""
