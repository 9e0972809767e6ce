"""HTML pages: the demo and the API documentation; all their files are served from here."""

from pathlib import Path
from typing import Final

from fastapi import APIRouter, Request
from starlette.responses import FileResponse, HTMLResponse, Response

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

_LINK_TO_DOCUMENTATION: Final = '<footer><a href="docs">The HTTP interface</a></footer>'

page = APIRouter(include_in_schema=False)
documentation = APIRouter(include_in_schema=False)


@page.get("/")
async def show_page(request: Request) -> Response:
    """The demo page; links to the documentation if it is served."""
    file = WEB / "index.html"
    if request.app.state.settings.docs:
        return FileResponse(file, headers=_HEADERS)
    return HTMLResponse(file.read_text("utf-8").replace(_LINK_TO_DOCUMENTATION, ""), headers=_HEADERS)


@documentation.get("/docs")
async def show_documentation() -> FileResponse:
    """The API documentation: Swagger UI with /openapi.json."""
    return FileResponse(WEB / "docs.html", headers=_HEADERS)
