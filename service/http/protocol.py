"""Connections that must come to the point: uvicorn waits for a request's head without end.

And where a client would like another protocol, its request is answered in HTTP/1.1 all the same.
"""

import asyncio
import sys
from typing import Any, Final

from httptools import HttpParserUpgrade, HttpRequestParser
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_TIMEOUT_S: Final = 10.0
"""From a connection's begin, or a request's first byte, to the end of its head; some KB at most."""


GOODBYE_S: Final = 3.0
"""At a stop, from the end of an idle TLS connection to the other side's goodbye. Callers with a pool of them
do not say it before they use one again, and the stop would wait for them as long as it may."""


class HttpProtocol(HttpToolsProtocol):
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
        super().connection_made(transport)
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
        self.head_is_open = True

    def on_headers_complete(self) -> None:
        """The head is there; what follows is the application's to wait for."""
        self.head_is_open = False
        self._stop_waiting()
        super().on_headers_complete()

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
        """Waits no more."""
        self._stop_waiting()
        if self.goodbye is not None:
            self.goodbye.cancel()
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
