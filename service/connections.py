"""Connections that must come to the point: uvicorn waits for a request's head without end."""

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_TIMEOUT_S: Final = 10.0
"""From a connection's begin, or a request's first byte, to the end of its head; some KB at most."""


class PromptHttp(HttpToolsProtocol):
    """Closes a connection whose request's head does not come: each one open costs a descriptor."""

    head_timer: asyncio.TimerHandle | None = None
    head_is_open = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """Begins to wait for the first request."""
        super().connection_made(transport)
        self._wait_for_head()

    def data_received(self, data: bytes) -> None:
        """Waits for the rest of a head that did not come in one piece; most do."""
        super().data_received(data)
        if self.head_is_open and self.head_timer is None:
            self._wait_for_head()

    def on_message_begin(self) -> None:
        """A head begins, perhaps that of a later request."""
        super().on_message_begin()
        self.head_is_open = True

    def on_headers_complete(self) -> None:
        """The head is there; what follows is the application's to wait for."""
        self.head_is_open = False
        self._stop_waiting()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Waits no more."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _wait_for_head(self) -> None:
        self.head_timer = self.loop.call_later(HEAD_TIMEOUT_S, self._give_up)

    def _stop_waiting(self) -> None:
        if self.head_timer is not None:
            self.head_timer.cancel()
            self.head_timer = None

    def _give_up(self) -> Any:
        if not self.transport.is_closing():
            self.transport.close()
