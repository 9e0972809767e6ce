"""The error handler: every error becomes problem+json of one shape. Source: RFC 9457."""

import json
import logging
from collections.abc import Iterable
from http import HTTPStatus
from typing import Final

from fastapi.exceptions import RequestValidationError
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from service.errors import (
    Eye2FaceError,
    InvalidParameter,
    MethodNotAllowed,
    NotFound,
    RequestError,
    Unauthorized,
    UploadTooLarge,
    UploadTooSlow,
)
from service.http.middleware import standard_headers
from service.http.openapi import PROBLEM_JSON
from service.http.request_params import JSON
from service.http.schemas import Problem

EXPECTED_ERRORS: tuple[type[Exception], ...] = (
    Eye2FaceError,
    RequestValidationError,
    HTTPException,
    ClientDisconnect,
)
"""Errors of a request that are no bug of the service."""

HANDLED_ERRORS = (*EXPECTED_ERRORS, Exception)
"""Exceptions to register the handler for; FastAPI answers framework errors itself unless each is named."""

_MAX_DISCARDED_BYTES: Final = 200_000_000
"""The server reads and discards up to this much of a body that is too large. Closing the connection while the
caller sends would reset it, and browsers and simple clients would lose the response."""

STOPPED: Final = "The service stopped before it could answer. Send the request again later."
"""Message where the task of a request is canceled: uvicorn stops, or Ray's caller disconnected."""

_log = logging.getLogger(__name__)


async def problem_response(request: Request, error: Exception) -> Response:
    """The response for an error."""
    if isinstance(error, ClientDisconnect):
        return Response(status_code=400)  # nobody reads it
    known = _translate(request, error)
    request_id: str = request.state.request_id
    request.state.code = known.code
    body, media_type = _write(_describe(known, error, request_id), request.scope["path"])
    headers = _headers_for(request, known, error)
    if not isinstance(error, EXPECTED_ERRORS):  # its response does not pass our middleware
        headers = standard_headers(request_id) | headers
    return Response(body, known.status, headers, media_type)


class CrossOriginMiddleware(CORSMiddleware):
    """CORS; a preflight that is refused is a problem."""

    def preflight_response(self, request_headers: Headers) -> Response:
        """The response to a preflight."""
        response = super().preflight_response(request_headers)
        return response if response.status_code == HTTPStatus.OK else _RefusedPreflight(response)


class _RefusedPreflight(Response):
    def __init__(self, plain: Response) -> None:
        """`plain` is Starlette's, which says in a text what is not allowed."""
        super().__init__()
        names = bytes(plain.body).decode().removeprefix("Disallowed CORS ")
        headers = {k: v for k, v in plain.headers.items() if not k.startswith("content-")}
        self._error = HTTPException(400, f"EYE2FACE_CORS_ORIGINS does not allow its {names}.", headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await problem_response(Request(scope), self._error)
        await response(scope, receive, send)


def problem_of(request: Request, error: BaseException) -> Problem:
    """The problem of one photo of a batch."""
    known, request_id = _translate(request, error), request.state.request_id
    if not isinstance(error, EXPECTED_ERRORS):  # nobody else sees it
        _log.error("a photo of request %s failed", request_id, exc_info=error)
    retry_after_s = known.retry_after_s or None
    return _describe(known, error, request_id).model_copy(update={"retry_after_s": retry_after_s})


def raw_problem(
    error: RequestError, headers: Iterable[tuple[bytes, bytes]], *, path: str, request_id: str
) -> bytes:
    """The last response of a connection whose request does not reach the application."""
    text, media_type = _write(_describe(error, error, request_id), path)
    body = text.encode()
    own = standard_headers(request_id) | {
        "Content-Type": media_type,
        "Content-Length": str(len(body)),
        "Connection": "close",
    }
    lines = [b"HTTP/1.1 %d %b" % (error.status, HTTPStatus(error.status).phrase.encode())]
    lines += [b"%b: %b" % each for each in headers]
    lines += [f"{name.lower()}: {value}".encode() for name, value in own.items()]
    return b"\r\n".join([*lines, b"", body])


def _write(problem: Problem, path: str) -> tuple[str, str]:
    """The body and its media type, of the API that the path belongs to."""
    if not f"{path}/".startswith("/v2/"):
        return problem.model_dump_json(), PROBLEM_JSON
    return json.dumps({"error": f"{problem.code}: {problem.detail}"}), JSON


def _describe(known: Eye2FaceError, error: BaseException, request_id: str) -> Problem:
    if known.status == HTTPStatus.INTERNAL_SERVER_ERROR:
        _log.error("request %s failed: %s", request_id, type(error).__name__)
    return Problem(
        type=f"urn:eye2face:{known.code}",
        title=known.title,
        status=known.status,
        detail=str(known),
        code=known.code,
        request_id=request_id,
        **known.members,
    )


def _translate(request: Request, error: BaseException) -> Eye2FaceError:
    if isinstance(error, Eye2FaceError):
        return error
    if isinstance(error, RequestValidationError):
        return InvalidParameter(_explain(error))
    if isinstance(error, HTTPException):
        return _translate_http(request, error)
    return Eye2FaceError(
        "The service failed; the request may be fine. "
        f"Tell its operator the request ID {request.state.request_id}."
    )


def _translate_http(request: Request, error: HTTPException) -> RequestError:
    path = request.url.path[:80]
    if error.status_code == HTTPStatus.NOT_FOUND:
        hint = "; /docs lists what is" if request.app.openapi_url else ""
        return NotFound(f"Nothing is served at {path}{hint}.")
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = (error.headers or {}).get("Allow", "another method")
        return MethodNotAllowed(f"{path} does not take {request.method[:20]}; use {allowed}.")
    other = RequestError(error.detail)
    other.status = error.status_code
    return other


def _headers_for(request: Request, known: Eye2FaceError, error: Exception) -> dict[str, str]:
    if isinstance(known, UploadTooLarge):
        length = request.headers.get("content-length", "")
        runs_out = length.isdecimal() and int(length[:20]) <= _MAX_DISCARDED_BYTES
        return {} if runs_out else {"Connection": "close"}
    if isinstance(known, UploadTooSlow):
        return {"Connection": "close"}
    if known.retry_after_s:
        return {"Retry-After": str(known.retry_after_s)}
    if isinstance(known, Unauthorized):
        return {"WWW-Authenticate": "Bearer"}
    return dict(error.headers or {}) if isinstance(error, HTTPException) else {}


def _explain(error: RequestValidationError) -> str:
    """One sentence for each invalid parameter: the value found and the values allowed."""
    wishes: dict[str, list[str]] = {}
    for each in error.errors():
        # `loc` is ("query", name, ...), or ("query",) for the query as a whole, which says it all itself.
        about = f"{each['loc'][1]}={str(each['input'])[:40]!r}" if len(each["loc"]) > 1 else ""
        wishes.setdefault(about, []).append(each["msg"].removeprefix("Input should be ").split(", unable")[0])
    return " ".join(
        f"{about} must be {' or '.join(wanted)}." if about else wanted[0] for about, wanted in wishes.items()
    )
