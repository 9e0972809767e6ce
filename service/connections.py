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
        super().connection_made(_Joined(transport, self.loop))  # type: ignore[arg-type]  # as far as it is used
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


class _Joined:
    """A transport that sends an answer's head with its body: uvicorn writes one after the other.

    uvloop writes at once, so that were two calls of the system for each answer, and two packets.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._held = b""

    def write(self, data: bytes) -> None:
        """Sends what was held with it, or holds it until the loop's next turn."""
        if self._held:
            held, self._held = self._held, b""
            self._transport.writelines((held, data))
        else:
            self._held = data
            self._loop.call_soon(self._flush)

    def close(self) -> None:
        """Closes the connection after all that was written."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._held:
            held, self._held = self._held, b""
            self._transport.write(held)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
