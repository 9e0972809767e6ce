"""The Python client of the HTTP API, synchronous and asyncio."""
