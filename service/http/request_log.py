"""Middleware that counts and logs every answer: route, status, code, time, request id and who asked.

Never its body.
"""

import logging
import time
from typing import Any, Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import Eye2FaceError
from service.observability.metrics import Metrics
from service.observability.tracing import tag_request_span

QUIET: Final = ("/livez", "/readyz", "/metrics")
"""Asked every few seconds; their answers are logged only if they are bad news."""

_log = logging.getLogger("service.requests")


class Watch:
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
        level = logging.DEBUG if route in QUIET and status < 400 else logging.INFO
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
