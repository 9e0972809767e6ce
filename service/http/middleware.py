"""Middleware: request ID and standard headers, request log and metrics, HEAD as GET."""

import logging
import re
import time
from collections.abc import Iterable
from random import Random
from typing import Any, Final
from uuid import uuid4

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import Eye2FaceError, RequestError
from service.observability.metrics import Metrics
from service.observability.tracing import tag_request_span

PROBES: Final = ("/livez", "/readyz", "/metrics", "/v2/health/live", "/v2/health/ready")
"""Routes that are polled: successes are logged at level debug."""

_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._-]{1,64}")

_log = logging.getLogger("service.requests")


class RequestMiddleware:
    """Gives each request an ID, and each response the standard headers, its metrics and a line in the log.

    A sane ID of the caller is kept. The line has route, status, code, duration, ID and caller, never a body.
    HEAD is answered as GET without the body; monitors and load balancers send it. Source: RFC 9110, 9.3.2.
    """

    def __init__(
        self, app: ASGIApp, metrics: Metrics, *, traced: bool = False, has_watermark: bool = True
    ) -> None:
        """With `traced`, the trace gets the request ID, and the log record the trace ID."""
        self._own_headers = _RAW_HEADERS + ([] if has_watermark else [(b"x-marking", b"off")])
        self._app = app
        self._metrics = metrics
        self._traced = traced
        self._random = Random()  # IDs must be unique, not secret

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles a request as any ASGI application."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        state["request_id"] = find_request_id(scope["headers"]) or f"{self._random.getrandbits(128):032x}"
        own_headers = [(b"x-request-id", state["request_id"].encode()), *self._own_headers]
        trace_id = tag_request_span(state["request_id"]) if self._traced else None
        begin, method = time.monotonic(), scope["method"]
        status: int | None = None

        async def send_completed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = list(message.get("headers", ()))
                present = {name for name, _ in headers}
                message["headers"] = headers + [pair for pair in own_headers if pair[0] not in present]
                scope["method"] = method  # the server needs it
            elif method == "HEAD" and message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        scope["method"] = "GET" if method == "HEAD" else method
        try:
            await self._app(scope, receive, send_completed)
        finally:
            scope["method"] = method
            if status is None:  # an unexpected error: its response does not pass this middleware
                status, state["code"] = Eye2FaceError.status, Eye2FaceError.code
            if not state.get("is_recorded"):
                record_request(self._metrics, scope, status, time.monotonic() - begin, trace_id)


def record_request(
    metrics: Metrics, scope: Scope, status: int, seconds: float, trace_id: str | None = None
) -> None:
    """Counts a request, and logs a line with what the scope and its state say."""
    # The path of an unknown route is not a label: each would be a new time series.
    route = getattr(scope.get("route"), "path", "other")
    code = scope["state"].get("code")
    metrics.count_request(route, status, seconds)
    if code is not None:
        metrics.count_problem(code)
    level = logging.DEBUG if route in PROBES and status < 400 else logging.INFO
    if not _log.isEnabledFor(level):
        return
    client = scope.get("client")  # a trusted proxy may say anything
    facts: dict[str, Any] = {
        "request_id": scope["state"]["request_id"],
        "method": scope["method"][:20],
        "path": scope["path"][:200],
        "status": status,
        "code": code,
        "ms": round(seconds * 1000, 1),
        "client": client[0][:60].encode("ascii", "backslashreplace").decode() if client else None,
        "key": scope["state"].get("key"),
    }
    if trace_id is not None:
        facts["trace_id"] = trace_id
    text = "{method} {path!r} {status}".format(**facts) + (f" {code}" if code else "")
    text += " {ms} ms {request_id} {client}".format(**facts)
    _log.log(level, text + (f" {facts['key']!r}" if facts["key"] else ""), extra=facts)


def record_refusal(metrics: Metrics | None, scope: Scope, error: RequestError, seconds: float) -> str:
    """Records a request that does not reach the application, and returns its ID."""
    state = scope.setdefault("state", {})
    request_id: str = state.setdefault("request_id", find_request_id(scope["headers"]) or uuid4().hex)
    state |= {"code": error.code, "is_recorded": True}
    if metrics is not None:
        record_request(metrics, scope, error.status, seconds)
    return request_id


def find_request_id(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """The caller's ID of a request, if it is sane."""
    sent = dict(headers).get(b"x-request-id", b"")
    return sent.decode() if _REQUEST_ID.fullmatch(sent) else None


def standard_headers(request_id: str) -> dict[str, str]:
    """The headers of every response; HTML pages set a Content-Security-Policy of their own."""
    return _HEADERS | {"X-Request-Id": request_id}


_HEADERS: Final = {
    "X-Synthetic": "true",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Link": '</policy>; rel="terms-of-service"',
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}
_RAW_HEADERS: Final = [(name.lower().encode(), value.encode()) for name, value in _HEADERS.items()]
