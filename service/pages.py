"""What a browser gets: the page to try the service, and the documentation. Every file of them is shipped."""

from pathlib import Path
from typing import Final

from fastapi import APIRouter
from starlette.responses import FileResponse

WEB: Final = Path(__file__).parent / "web"
"""Served under /web."""

_OWN_FILES_ONLY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS: Final = {
    "Content-Security-Policy": _OWN_FILES_ONLY,
    "Cross-Origin-Opener-Policy": "same-origin",
}

page = APIRouter(include_in_schema=False)
documentation = APIRouter(include_in_schema=False)


@page.get("/")
async def show_page() -> FileResponse:
    """The page to drop a photo on."""
    return FileResponse(WEB / "index.html", headers=_HEADERS)


@documentation.get("/docs")
async def show_documentation() -> FileResponse:
    """The documentation of the routes, by Swagger UI, made from /openapi.json."""
    return FileResponse(WEB / "docs.html", headers=_HEADERS)
