"""uvicorn's HTTP protocol with limits on headers, pipelining and time."""

import asyncio
import math
import re
from collections.abc import Callable
from functools import partial
from socket import IPPROTO_TCP, SO_ERROR, SOL_SOCKET, TCP_NOTSENT_LOWAT
from typing import Any, Final, Literal

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT, FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from service.errors import HeadTooLarge, RequestError, UploadTooSlow
from service.http.connections import MAX_CONNECTIONS, make_room, record_refused

MAX_HEAD_BYTES: Final = 32 * 1024
"""Bytes of a message that are no body: request line, headers, chunk sizes and extensions, trailers. Four
bytes of the body allow another one, for chunks may be small."""

MAX_HEADERS: Final = 256
"""Headers and trailers of a message."""

HEAD_TIMEOUT_S: Final = 10.0
"""From the start of a connection, or the first byte of a request, to the end of its head."""

REST_TIMEOUT_S: Final = 10.0
"""From a response to the end of its request, if that goes on; no client needs to send it."""

WRITE_TIMEOUT_S: Final = 10.0
"""For `_SLICE_BYTES` of a response to leave, and for a closed connection to end."""

TLS_CLOSE_TIMEOUT_S: Final = 3.0
"""At shutdown, until an idle TLS connection is aborted: pools answer its close when they use it again."""

_CHECK_INTERVAL_S: Final = 1.0

_PIECE_BYTES: Final = 1024
"""What is parsed at once, unless it is body: a limit may be exceeded by so much."""

_MAX_PIECES: Final = MAX_HEAD_BYTES // _PIECE_BYTES + 1
"""What is parsed of one connection before the others have their turn: at most 3 ms of small chunks."""

_SLICE_BYTES: Final = 32 * 1024
"""What is written at once: the transport of TLS does not tell how much of what it encrypted has left."""

_ABSOLUTE_URL: Final = re.compile(rb"\w+://([^/?#]*)")
_EVERY_START: Final = b"HTTP/1.1 "
_INVALID: Final = "This is not a request in HTTP/1.1, plain or chunked. Send one, or check scheme and port."


class HttpProtocol(HttpToolsProtocol):
    """One connection, whose bytes are counted before they are parsed.

    Pipelined requests wait unparsed for the response before theirs, which ends when its last byte has left.
    """

    def __init__(
        self, *given: Any, check: Callable[[str, list[tuple[bytes, bytes]]], None] | None = None, **named: Any
    ) -> None:
        """`check` raises RequestError for the method and headers of a request that is refused."""
        super().__init__(*given, **named)
        self.check = check
        self.phase: Literal["idle", "head", "body"] = "idle"
        self.num_head_bytes = self.num_body_bytes = 0  # parsed; announced and not yet parsed
        self.refusal: bytes | None = None  # the last response: the parser cannot go on
        self.is_ending = self.is_half_closed = False
        self.is_started = self.is_head = False
        """Whether the start of the next response is written; whether what is written waits for a body."""
        self.held, self.begun_at = list[bytes](), self.loop.time()
        self.deadline = self.write_deadline = math.inf

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """Starts the timeout of the first head."""
        super().connection_made(transport)
        self.flow = self.input = _Input(transport)
        self.is_closing = transport.is_closing
        transport.set_write_buffer_limits(high=1)  # at 0, uvloop pauses TLS for ever
        # Else the kernel takes megabytes, and asks for more only when a third of them has left.
        transport.get_extra_info("socket").setsockopt(IPPROTO_TCP, TCP_NOTSENT_LOWAT, _SLICE_BYTES)
        self.deadline = self.loop.time() + HEAD_TIMEOUT_S
        self.timer = self.loop.call_later(_CHECK_INTERVAL_S, self._check_deadlines)
        if len(self.connections) > MAX_CONNECTIONS:
            make_room(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stops the timer."""
        self.timer.cancel()
        super().connection_lost(exc)
        self.cycle = None  # type: ignore[assignment]  # its transport is this protocol

    def eof_received(self) -> bool:  # type: ignore[override]  # as asyncio's
        """Whether the connection stays open: the client may wait for its responses.

        Or it closed both halves, and resets when its response starts: `_check_deadlines`. TLS has no halves.
        """
        if self.scheme == "https" or self.is_ending:
            return False
        self.is_half_closed = True
        if self.phase != "idle" and self.refusal is None:
            self._refuse(RequestError("The connection was closed before its request was complete."))
        elif self._is_responding and not (self.pipeline or self.cycle.response_started):
            self.transport.write(_EVERY_START)
            self.is_started = True
        return self._is_responding

    def data_received(self, data: bytes) -> None:
        """Parses what was received."""
        if not self.is_ending:
            self.input.queued += data
            self._parse()
        if self.is_ending or (self.phase == "body" and self.cycle.response_complete):  # discarded
            self._yield()

    def _parse(self) -> None:
        """Parses the queue until a pipelined request has to wait, or other connections."""
        data = memoryview(self.input.queued)
        self.input.queued = b""
        for _ in range(_MAX_PIECES):
            if not data or self.pipeline or self.refusal is not None:
                break
            num_bytes = max(_PIECE_BYTES, self.num_body_bytes)
            again = self._parse_piece(data[:num_bytes])
            data = memoryview(again + data[num_bytes:]) if again else data[num_bytes:]
        if data and not self.is_ending:
            self.input.queued = bytes(data)
            self._yield()

    def _yield(self) -> None:
        """Gives the other connections a turn."""
        self.input.pause_reading()
        self.loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        """Parses what is queued, or reads, unless the application or a response has to come first."""
        if self.is_closing():
            return
        if self.input.queued and not self.pipeline:
            self._parse()
        has_enough = self._is_responding and len(self.cycle.body) > HIGH_WATER_LIMIT
        if not (self.pipeline or has_enough):
            self.input.resume_reading()

    def _parse_piece(self, piece: memoryview) -> bytes:
        """Parses some bytes; what is to be parsed again, without `Upgrade`."""
        self.num_head_bytes += len(piece)
        try:
            self.parser.feed_data(piece)
            self._refuse_large_head()
        except HttpParserUpgrade as upgrade:
            self.parser = HttpRequestParser(self)
            return self._plain_head() + piece[upgrade.args[0] :]
        except HttpParserError as error:
            reason = error.__context__
            self._refuse(reason if isinstance(reason, RequestError) else RequestError(_INVALID))
        except HeadTooLarge as error:
            self._refuse(error)
        return b""

    def on_message_begin(self) -> None:
        """A head begins."""
        super().on_message_begin()
        self.phase, self.num_head_bytes, self.begun_at = "head", 0, self.loop.time()
        self.deadline = self.begun_at + HEAD_TIMEOUT_S

    def on_headers_complete(self) -> None:
        """The head is complete; the application times the body."""
        self._refuse_large_head()
        version, absolute = self.parser.get_http_version(), _ABSOLUTE_URL.match(self.url)
        codings = [value.lower() for name, value in self.headers if name == b"transfer-encoding"]
        if version not in ("1.0", "1.1") or codings not in ([], [b"chunked"]):
            raise RequestError(_INVALID)
        if self.check is not None:
            self.check(self.parser.get_method().decode(), self.headers)
        hosts = [value for name, value in self.headers if name == b"host"]  # source: RFC 9112, section 3.2
        if len(hosts) > 1 or (version == "1.1" and not hosts) or (absolute and hosts != [absolute[1]]):
            raise RequestError("The request does not name one host. Send one Host, and no other in the URL.")
        self.scope["headers"] = self.headers.copy()  # trailers are none
        self.num_body_bytes = int(dict(self.headers).get(b"content-length", 0))
        super().on_headers_complete()
        self.phase, self.deadline = "body", math.inf

    def on_body(self, body: bytes) -> None:
        """A part of the body, which allows a quarter of its length around it."""
        self.num_body_bytes -= len(body)
        self.num_head_bytes = max(0, self.num_head_bytes - len(body) * 5 // 4)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is complete."""
        self._refuse_large_head()
        self.phase, self.num_head_bytes, self.num_body_bytes = "idle", 0, 0
        if not self._is_responding:
            self.deadline = self.loop.time() + self.timeout_keep_alive
        super().on_message_complete()

    def _should_upgrade(self) -> bool:
        return self._get_upgrade() is not None  # then uvicorn waits for HttpParserUpgrade

    def _plain_head(self) -> bytes:
        """The head without `Upgrade`, which Java's HttpClient always sends. Source: RFC 9110, section 7.8."""
        method, version = self.scope["method"], self.scope["http_version"]
        headers = [b"%b: %b\r\n" % each for each in self.headers if each[0] != b"upgrade"]
        return b"%b %b HTTP/%b\r\n%b\r\n" % (method.encode(), self.url, version.encode(), b"".join(headers))

    def _refuse_large_head(self) -> None:
        if self.num_head_bytes > MAX_HEAD_BYTES or len(self.headers or ()) > MAX_HEADERS:
            raise HeadTooLarge(
                f"URL, headers, chunk extensions and trailers have more than {MAX_HEAD_BYTES:,} bytes, or "
                f"there are more than {MAX_HEADERS} headers and trailers."
            )

    def _refuse(self, error: RequestError) -> None:
        """Responds to what the parser stopped at, after the responses to the requests before it."""
        if self.phase == "body" and not self.pipeline and self.cycle.response_started:
            self.refusal = b""  # too late
        else:
            self.refusal = record_refused(self, error)
            if self.phase == "body" and self.pipeline:
                self.pipeline.popleft()
            elif self.phase == "body":
                self.cycle.disconnected = True
                self.cycle.message_event.set()
        if not self._is_responding:
            self._end()

    @property
    def _is_responding(self) -> bool:
        return self.cycle is not None and not (self.cycle.response_complete or self.cycle.disconnected)

    @property
    def awaits_client(self) -> bool:
        """Whether it waits for a request, the rest of one, or for its response to be read."""
        return self.phase != "idle" or not self._is_responding or self.flow.write_paused

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        cycle.transport = self  # type: ignore[assignment]  # `write`, `is_closing` and `close`
        super()._start_asgi_task(cycle, partial(self._respond, cycle, app))

    async def _respond(self, cycle: Any, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Runs the application, for which a part of the response is sent when it has left."""

        async def send_all(message: Message) -> None:
            self.is_head = message["type"] == "http.response.start" and scope["method"] != "HEAD"
            body = memoryview(message.get("body", b""))
            while len(body) > _SLICE_BYTES:
                await send({**message, "body": body[:_SLICE_BYTES], "more_body": True})
                message = {**message, "body": (body := body[_SLICE_BYTES:])}
            await send(message)
            if self.flow.write_paused:
                await self.flow.drain()

        try:
            await app(scope, receive, send_all)
        except asyncio.CancelledError:
            if not cycle.response_started:
                raise
            cycle.disconnected = True  # too late for another response
        if asyncio.current_task().cancelling():  # type: ignore[union-attr]  # the server stops
            self.transport.close()

    def on_response_complete(self) -> None:
        """Starts the next request, or waits for it."""
        self.server_state.total_requests += 1
        if self.is_ending or self.is_closing():
            return
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self.refusal is not None:
            self._end()
        elif self.phase != "head":
            timeout_s = REST_TIMEOUT_S if self.phase == "body" else self.timeout_keep_alive
            self.deadline = self.loop.time() + timeout_s
        self._go_on()
        if self.is_half_closed and not self._is_responding:
            self.transport.close()

    def write(self, data: bytes) -> None:
        """Writes a part of a response; its head with what follows, which saves a system call on each side."""
        if self.is_started:
            data, self.is_started = data.removeprefix(_EVERY_START), False
        self.held.append(data)
        if not self.is_head:
            if not self.is_closing():
                self.transport.writelines(self.held)
            self.held = []

    def close(self) -> None:
        """Closes the connection after the last response."""
        if self.phase == "idle" and not self.input.queued:
            self.deadline = self.loop.time() + WRITE_TIMEOUT_S
            self.transport.close()
        else:
            self._end()

    def _end(self) -> None:
        """Responds for the last time and discards what still comes: a reset would lose the response."""
        if self.is_ending or self.is_closing():
            return
        self.is_ending, self.input.queued = True, b""
        self.deadline = self.loop.time() + REST_TIMEOUT_S
        self.write(self.refusal or b"")
        if self.transport.can_write_eof():
            self.transport.write_eof()
            self.input.resume_reading()
        else:  # uvloop's TLS discards by itself
            self.transport.close()

    def pause_writing(self) -> None:
        """Starts the timeout of what does not leave at once."""
        super().pause_writing()
        self.write_deadline = self.loop.time() + WRITE_TIMEOUT_S

    def resume_writing(self) -> None:
        """All has left."""
        super().resume_writing()
        self.write_deadline = math.inf

    def shutdown(self) -> None:
        """The server stops: closes the connection, or lets the current response be the last."""
        super().shutdown()
        if self.is_closing():
            self.deadline = self.loop.time() + TLS_CLOSE_TIMEOUT_S

    def _check_deadlines(self) -> None:
        now, socket = self.loop.time(), self.transport.get_extra_info("socket")
        is_reset = self.is_half_closed and socket.getsockopt(SOL_SOCKET, SO_ERROR)
        if is_reset or now > self.write_deadline or (now > self.deadline and self.is_closing()):
            self.transport.abort()
            return
        if now > self.deadline:
            if self.phase == "head" and self.refusal is None:
                self._refuse(UploadTooSlow(f"The head was not complete after {HEAD_TIMEOUT_S:g} s."))
            if not self._is_responding:
                self.deadline = now + WRITE_TIMEOUT_S
                self.transport.close()
        self.timer = self.loop.call_later(_CHECK_INTERVAL_S, self._check_deadlines)


class _Input(FlowControl):
    """Flow control that does not read on while pipelined requests are queued."""

    queued = b""
    """What was received and is not parsed yet."""

    def resume_reading(self) -> None:
        if not self.queued:
            super().resume_reading()
