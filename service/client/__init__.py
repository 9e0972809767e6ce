"""The Python client of the HTTP API, waiting and asyncio."""
