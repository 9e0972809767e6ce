"""uvicorn's HTTP protocol with a timeout for request heads, and without protocol upgrades."""

import asyncio
import sys
from typing import Any, Final

from httptools import HttpParserUpgrade, HttpRequestParser
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_TIMEOUT_S: Final = 10.0
"""From the start of a connection, or the first byte of a request, to the end of its head."""


TLS_CLOSE_TIMEOUT_S: Final = 3.0
"""At shutdown, from closing an idle TLS connection to aborting it: clients with connection pools answer the
close only when they use the connection again."""


class HttpProtocol(HttpToolsProtocol):
    """Closes connections whose request head does not arrive in time (slowloris), and ignores upgrades.

    RFC 9110, section 7.8, allows to ignore `Upgrade`: Java's HttpClient asks for `h2c` in each request.
    uvicorn's parser would take the request's body for the new protocol.
    """

    head_timer: asyncio.TimerHandle | None = None
    goodbye: asyncio.TimerHandle | None = None
    head_is_open = False
    head_ends_at: int | None = None
    """Offset in the last data at which the head of a request with `Upgrade` ends."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """Starts the timeout of the first head."""
        super().connection_made(transport)
        self._start_head_timer()

    def data_received(self, data: bytes) -> None:
        """Starts the timeout of a head that is incomplete; most arrive in one piece."""
        super().data_received(data)
        if self.head_ends_at is not None:
            rest, self.head_ends_at = data[self.head_ends_at :], None
            self.parser = HttpRequestParser(self)
            self.data_received(self._plain_head() + rest)
        elif self.head_is_open and self.head_timer is None:
            self._start_head_timer()

    def on_message_begin(self) -> None:
        """A head begins."""
        super().on_message_begin()
        self.head_is_open = True

    def on_headers_complete(self) -> None:
        """The head is complete; the application times the body."""
        self.head_is_open = False
        self._cancel_head_timer()
        super().on_headers_complete()

    def _should_upgrade(self) -> bool:
        return self._get_upgrade() is not None  # then uvicorn calls handle_websocket_upgrade

    def handle_websocket_upgrade(self) -> None:
        """Notes where the head ends; called while the parser's exception is handled."""
        upgrade = sys.exception()
        assert isinstance(upgrade, HttpParserUpgrade)
        self.head_ends_at = upgrade.args[0]

    def _plain_head(self) -> bytes:
        """The head without `Upgrade`."""
        method, version = self.scope["method"], self.scope["http_version"]
        headers = [b"%b: %b\r\n" % each for each in self.headers if each[0] != b"upgrade"]
        return b"%b %b HTTP/%b\r\n%b\r\n" % (method.encode(), self.url, version.encode(), b"".join(headers))

    def shutdown(self) -> None:
        """The server stops: closes the connection, or lets the current response be the last."""
        super().shutdown()
        is_idle = self.cycle is None or self.cycle.response_complete
        if is_idle and self.scheme == "https":
            self.goodbye = self.loop.call_later(TLS_CLOSE_TIMEOUT_S, self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancels the timeouts."""
        self._cancel_head_timer()
        if self.goodbye is not None:
            self.goodbye.cancel()
        super().connection_lost(exc)

    def _start_head_timer(self) -> None:
        self.head_timer = self.loop.call_later(HEAD_TIMEOUT_S, self._close_late)

    def _cancel_head_timer(self) -> None:
        if self.head_timer is not None:
            self.head_timer.cancel()
            self.head_timer = None

    def _close_late(self) -> Any:
        if not self.transport.is_closing():
            self.transport.close()
