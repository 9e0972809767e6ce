"""Connections that must come to the point: uvicorn waits for a request's head without end.

And where a client would like another protocol, its request is answered in HTTP/1.1 all the same.
"""

import asyncio
import sys
from collections.abc import Callable
from typing import Any, Final

from httptools import HttpParserUpgrade, HttpRequestParser
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_TIMEOUT_S: Final = 10.0
"""From a connection's begin, or a request's first byte, to the end of its head; some KB at most."""


GOODBYE_S: Final = 3.0
"""At a stop, from the end of an idle TLS connection to the other side's goodbye. Callers with a pool of them
do not say it before they use one again, and the stop would wait for them as long as it may."""

CALLER: Final = "eye2face.caller"
"""The ASGI extension that is the request's `Caller`."""


class Caller:
    """Who is at the other end of a connection, and what is to be called when they hang up."""

    def __init__(self) -> None:
        self.has_left = False
        self.has_sent_all = False
        """Whether the request that came last is there to the end of its body."""
        self.when_left: set[Callable[[], None]] = set()

    def leave(self) -> None:
        """Calls them."""
        self.has_left = True
        for each in tuple(self.when_left):
            each()


class PromptHttp(HttpToolsProtocol):
    """Closes a connection whose request's head does not come: each one open costs a descriptor.

    A wish to change the protocol is passed over, as RFC 9110, section 7.8, allows: Java's HttpClient asks for
    `h2c` with each of its requests. uvicorn's parser would take the request's body for the new protocol.
    """

    head_timer: asyncio.TimerHandle | None = None
    goodbye: asyncio.TimerHandle | None = None
    head_is_open = False
    head_ends_at: int | None = None
    """In the bytes that came last, where the head of a request with such a wish ends."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """Begins to wait for the first request."""
        super().connection_made(_Joined(transport, self.loop))  # type: ignore[arg-type]  # as far as it is used
        self.caller = Caller()
        self._wait_for_head()

    def data_received(self, data: bytes) -> None:
        """Waits for the rest of a head that did not come in one piece; most do."""
        super().data_received(data)
        if self.head_ends_at is not None:
            rest, self.head_ends_at = data[self.head_ends_at :], None
            self.parser = HttpRequestParser(self)
            self.data_received(self._plain_head() + rest)
        elif self.head_is_open and self.head_timer is None:
            self._wait_for_head()

    def on_message_begin(self) -> None:
        """A head begins, perhaps that of a later request."""
        super().on_message_begin()
        self.scope["extensions"] = {CALLER: self.caller}  # type: ignore[dict-item]  # it is no dict
        self.caller.has_sent_all = False
        self.head_is_open = True

    def on_headers_complete(self) -> None:
        """The head is there; what follows is the application's to wait for."""
        self.head_is_open = False
        self._stop_waiting()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The body is there, too."""
        super().on_message_complete()
        self.caller.has_sent_all = True

    def _should_upgrade(self) -> bool:
        return self._get_upgrade() is not None  # then uvicorn leaves all else to the next one

    def handle_websocket_upgrade(self) -> None:
        """Takes note of a head with such a wish; called while the parser's exception is handled."""
        upgrade = sys.exception()
        assert isinstance(upgrade, HttpParserUpgrade)
        self.head_ends_at = upgrade.args[0]

    def _plain_head(self) -> bytes:
        """The head that came, without the wish."""
        method, version = self.scope["method"], self.scope["http_version"]
        headers = [b"%b: %b\r\n" % each for each in self.headers if each[0] != b"upgrade"]
        return b"%b %b HTTP/%b\r\n%b\r\n" % (method.encode(), self.url, version.encode(), b"".join(headers))

    def shutdown(self) -> None:
        """The server stops: closes the connection, or lets its answer be the last one."""
        super().shutdown()
        is_idle = self.cycle is None or self.cycle.response_complete
        if is_idle and self.scheme == "https":
            self.goodbye = self.loop.call_later(GOODBYE_S, self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        """Waits no more, and tells who works for this caller."""
        self._stop_waiting()
        if self.goodbye is not None:
            self.goodbye.cancel()
        super().connection_lost(exc)
        self.caller.leave()

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
