"""Middleware: request ID and standard headers, request log and metrics, HEAD as GET."""

import logging
import re
import time
from random import Random
from typing import Any, Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import Eye2FaceError
from service.observability.metrics import Metrics
from service.observability.tracing import tag_request_span

PROBES: Final = ("/livez", "/readyz", "/metrics")
"""Routes that are polled: successes are logged at level debug."""

_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._-]{1,64}")

_log = logging.getLogger("service.requests")


class RequestLog:
    """Counts each response; logs its route, status, code, duration, request ID and caller, never its body."""

    def __init__(self, app: ASGIApp, metrics: Metrics, *, traced: bool = False) -> None:
        """With `traced`, the trace gets the request ID, and the log record the trace ID."""
        self._app = app
        self._metrics = metrics
        self._traced = traced

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles a request as any ASGI application."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begin = time.monotonic()
        trace_id = tag_request_span(scope["state"]["request_id"]) if self._traced else None
        status: int | None = None

        async def send_noting_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_noting_status)
        finally:
            if status is None:  # an unexpected error: its response does not pass this middleware
                status, scope["state"]["code"] = Eye2FaceError.status, Eye2FaceError.code
            self._record(scope, status, time.monotonic() - begin, trace_id)

    def _record(self, scope: Scope, status: int, seconds: float, trace_id: str | None) -> None:
        # The path of an unknown route is not a label: each would be a new time series.
        route = getattr(scope.get("route"), "path", "other")
        code = scope["state"].get("code")
        self._metrics.count_request(route, status, seconds)
        if code is not None:
            self._metrics.count_problem(code)
        level = logging.DEBUG if route in PROBES and status < 400 else logging.INFO
        if not _log.isEnabledFor(level):
            return
        facts: dict[str, Any] = {
            "request_id": scope["state"]["request_id"],
            "method": scope["method"][:20],
            "path": scope["path"][:200],
            "status": status,
            "code": code,
            "ms": round(seconds * 1000, 1),
            "client": (scope.get("client") or (None,))[0],
            "key": scope["state"].get("key"),
        }
        if trace_id is not None:
            facts["trace_id"] = trace_id
        text = "{method} {path!r} {status}".format(**facts) + (f" {code}" if code else "")
        text += " {ms} ms {request_id} {client}".format(**facts)
        _log.log(level, text + (f" {facts['key']!r}" if facts["key"] else ""), extra=facts)


class HeadAsGet:
    """Handles HEAD as GET without a body; monitors and load balancers send it. Source: RFC 9110, 9.3.2."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles a request as any ASGI application."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def send_without_body(message: Message) -> None:
            scope["method"] = "HEAD"  # the server needs the real method
            await send(message if message["type"] != "http.response.body" else {**message, "body": b""})

        scope["method"] = "GET"
        try:
            await self._app(scope, receive, send_without_body)
        finally:
            scope["method"] = "HEAD"


class StandardHeaders:
    """Sets the request ID in `scope["state"]`, the caller's if it is sane, and every response's headers."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._random = Random()  # IDs must be unique, not secret

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles a request as any ASGI application."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        if "request_id" not in state:  # set by Ray Serve
            sent = dict(scope["headers"]).get(b"x-request-id", b"")
            is_kept = _REQUEST_ID.fullmatch(sent)
            state["request_id"] = sent.decode() if is_kept else f"{self._random.getrandbits(128):032x}"
        request_id: str = state["request_id"]

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = list(message.get("headers", ()))
                present = {name for name, _ in headers}
                own = [(b"x-request-id", request_id.encode()), *_RAW_HEADERS]
                message["headers"] = headers + [pair for pair in own if pair[0] not in present]
            await send(message)

        await self._app(scope, receive, send_with_headers)


def standard_headers(request_id: str) -> dict[str, str]:
    """The headers of every response; HTML pages set a Content-Security-Policy of their own."""
    return _HEADERS | {"X-Request-Id": request_id}


_HEADERS: Final = {
    "X-Synthetic": "true",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}
_RAW_HEADERS: Final = [(name.lower().encode(), value.encode()) for name, value in _HEADERS.items()]
