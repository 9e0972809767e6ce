"""HTML pages: the demo and the API documentation; all their files are served from here."""

import json
from functools import cache
from html import escape
from pathlib import Path
from string import Template
from typing import Any, Final

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

from service import __version__
from service.inference.eye_finder import read_finder_info
from service.inference.model_files import model_path
from service.inference.onnx_metadata import LicenceClass
from service.settings import Settings

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

_LINK: Final = '<a href="docs">HTTP API</a>'

_LICENSES: Final[dict[LicenceClass, str]] = {"research": "for research only", "open": "for any use"}

_read_finder = cache(read_finder_info)
"""The shipped eye finder's; it is loaded once, too."""


class WholeFiles(StaticFiles):
    """Files without `Range`, which servers may ignore: Starlette answers a wrong one in plain text.

    Source: RFC 9110, section 14.2.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles a request as any ASGI application."""
        headers = [each for each in scope["headers"] if each[0] != b"range"]
        await super().__call__({**scope, "headers": headers}, receive, send)

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        """The file, or 304 if the client has it."""
        response = super().file_response(*args, **kwargs)
        response.headers["accept-ranges"] = "none"
        return response


page = APIRouter(include_in_schema=False)
documentation = APIRouter(include_in_schema=False)


@page.get("/")
async def show_page(request: Request) -> HTMLResponse:
    """The demo page, with the facts of the service that it shows."""
    settings: Settings = request.app.state.settings
    text = Template((WEB / "index.html").read_text("utf-8")).substitute(
        service=escape(json.dumps(_facts(request))),
        version=__version__,
        models=escape(_models(request)),
        link=_LINK if settings.docs else "",
    )
    return HTMLResponse(text, headers=_HEADERS)


def _facts(request: Request) -> dict[str, Any]:
    """What the page's scripts need to know: `ask.js`."""
    settings, access = request.app.state.settings, request.app.state.access
    return {
        "needs_key": bool(access.keys.keys),
        "thresholds": {
            "size_px": settings.min_eye_px,
            "light": settings.min_eye_light,
            "sharpness": settings.min_eye_sharpness,
        },
        "scores_are_probabilities": settings.eye_finder != "haar",
    }


def _models(request: Request) -> str:
    """The networks in use and who may use them; they are not known while the service starts."""
    engine = getattr(request.state, "engine", None)
    if engine is None:
        return "the model is loading"
    info = engine.model.current.synthesizer.info
    used = [(f"model {info.name} {info.version}", info.licence_class)]
    if request.app.state.settings.eye_finder == "learned":
        finder = _read_finder(model_path("eye_finder"))
        used.append((f"eye finder {finder.version}", finder.licence_class))
    return " · ".join(f"{name}, {_LICENSES[license_]}" for name, license_ in used)


@documentation.get("/docs")
async def show_documentation() -> HTMLResponse:
    """The API documentation: Swagger UI with /openapi.json."""
    return HTMLResponse((WEB / "docs.html").read_text("utf-8"), headers=_HEADERS)
