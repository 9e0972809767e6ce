"""Middleware: the request's id and the headers of every answer, the line in the log, and HEAD."""

import logging
import time
from random import Random
from typing import Any, Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import Eye2FaceError
from service.observability.metrics import Metrics
from service.observability.tracing import tag_request_span

PROBES: Final = ("/livez", "/readyz", "/metrics")
"""Asked every few seconds; their answers are logged only if they are bad news."""

_log = logging.getLogger("service.requests")


class RequestLog:
    """Counts and logs each answer; the request's id must be in its state by then."""

    def __init__(self, app: ASGIApp, metrics: Metrics, *, traced: bool = False) -> None:
        """With `traced` the request's trace has its id, and its line in the log that of the trace."""
        self._app = app
        self._metrics = metrics
        self._traced = traced

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, and looks at the status of the answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begin = time.monotonic()
        trace_id = tag_request_span(scope["state"]["request_id"]) if self._traced else None
        status = 500  # a crash is answered outside of this middleware

        async def send_watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_watched)
        except Exception:
            scope["state"]["code"] = Eye2FaceError.code
            raise
        finally:
            self._note(scope, status, time.monotonic() - begin, trace_id)

    def _note(self, scope: Scope, status: int, seconds: float, trace_id: str | None) -> None:
        # A path that is no route is the caller's invention: it would make a new time series each time.
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
    """Middleware: what lies within it sees GET; many who watch a service or balance load send HEAD."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def send_without_body(message: Message) -> None:
            scope["method"] = "HEAD"  # the server wants to know
            await send(message if message["type"] != "http.response.body" else {**message, "body": b""})

        scope["method"] = "GET"
        try:
            await self._app(scope, receive, send_without_body)
        finally:
            scope["method"] = "HEAD"


class StandardHeaders:
    """Middleware: gives each request its id, and each answer the headers that all of them carry."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._random = Random()  # an id must be like no other one, not beyond guessing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, and stamps the answer on its way back."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        if "request_id" not in state:  # a server around it may have given one
            state["request_id"] = f"{self._random.getrandbits(128):032x}"
        request_id: str = state["request_id"]

        async def send_stamped(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = list(message.get("headers", ()))
                there = {name for name, _ in headers}
                own = [(b"x-request-id", request_id.encode()), *_STAMPS]
                message["headers"] = headers + [stamp for stamp in own if stamp[0] not in there]
            await send(message)

        await self._app(scope, receive, send_stamped)


def standard_headers(request_id: str) -> dict[str, str]:
    """The headers of every answer, errors and health included; a page has a policy of its own instead."""
    return _SAME_FOR_ALL | {"X-Request-Id": request_id}


_SAME_FOR_ALL: Final = {
    "X-Synthetic": "true",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}
_STAMPS: Final = [(name.lower().encode(), value.encode()) for name, value in _SAME_FOR_ALL.items()]
