"""A small faulty HTTP server on loopback: its first requests fail in chosen ways."""

import http.client
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Seen:
    """One request as it came in."""

    at: float
    path: str
    headers: dict[str, str]
    body: bytes


Trouble = Callable[[BaseHTTPRequestHandler], None]


@dataclass
class Server:
    """The running server: its address, its requests, and the troubles left, one a request."""

    address: str
    troubles: list[Trouble]
    then: Trouble | None
    seen: list[Seen] = field(default_factory=list)
    num_at_once: int = 0
    most_at_once: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


@contextmanager
def make_trouble(troubles: Sequence[Trouble], then: Trouble | None = None) -> Iterator[Server]:
    """A server whose first requests get one of the `troubles` each, and whose others get `then`."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            with server.lock:
                self.seen = Seen(time.monotonic(), f"{self.command} {self.path}", headers, body)
                server.seen.append(self.seen)
                next_one = server.troubles.pop(0) if server.troubles else server.then
                server.num_at_once += 1
                server.most_at_once = max(server.most_at_once, server.num_at_once)
            try:
                assert next_one is not None
                next_one(self)
            finally:
                with server.lock:
                    server.num_at_once -= 1

        do_POST = do_GET  # noqa: N815  # the name that the library looks for

        def log_message(self, format: str, *args: object) -> None:
            return

    http_server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http_server.daemon_threads = True
    http_server.handle_error = lambda *_: None  # type: ignore[method-assign]  # callers that left
    server = Server(f"http://127.0.0.1:{http_server.server_port}", list(troubles), then)
    thread = threading.Thread(target=http_server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        http_server.shutdown()
        thread.join()
        http_server.server_close()


def pass_on(address: str, *, below: str = "") -> Trouble:
    """No trouble: what the real service at that address answers; with `below` to paths that begin so."""

    def ask(handler: BaseHTTPRequestHandler) -> None:
        seen: Seen = handler.seen  # type: ignore[attr-defined]  # set above
        if not handler.path.startswith(f"{below}/"):
            _send(handler, 404, {"Content-Type": "text/plain"}, b"not a path of ours")
            return
        upstream = http.client.HTTPConnection(address.removeprefix("http://"), timeout=60)
        try:
            upstream.request(handler.command, handler.path.removeprefix(below), seen.body, seen.headers)
            answer = upstream.getresponse()
            _send(handler, answer.status, dict(answer.getheaders()), answer.read())
        finally:
            upstream.close()

    return ask


def snapshots(photo: bytes) -> Trouble:
    """Frigate's `/api/events/<id>/snapshot.jpg` as documented; ids in `gone...` it does not know."""

    def give(handler: BaseHTTPRequestHandler) -> None:
        known = re.fullmatch(r"/api/events/(?!gone)[\w.-]+/snapshot\.jpg(\?.*)?", handler.path)
        if handler.command == "GET" and known:
            _send(handler, 200, {"Content-Type": "image/jpeg"}, photo)
        else:
            unknown = b'{"success": false, "message": "Event not found"}'
            _send(handler, 404, {"Content-Type": "application/json"}, unknown)

    return give


def hold(gate: threading.Event, then: Trouble) -> Trouble:
    """Waits for the gate before it does the other."""

    def wait(handler: BaseHTTPRequestHandler) -> None:
        gate.wait(60)
        then(handler)

    return wait


def _send(handler: BaseHTTPRequestHandler, status: int, headers: dict[str, str], body: bytes) -> None:
    handler.send_response_only(status)
    for name, value in headers.items():
        if name.lower() not in ("content-length", "transfer-encoding", "connection"):
            handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def answer(status: int, body: bytes = b"", **headers: str) -> Trouble:
    """Answers with this status; `retry_after="1"` becomes a header."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda handler: _send(handler, status, named, body)


def drop(handler: BaseHTTPRequestHandler) -> None:
    """Closes the connection instead of answering."""
    handler.close_connection = True


def drip(handler: BaseHTTPRequestHandler) -> None:
    """Answers one byte every twentieth of a second, without end."""
    handler.send_response_only(200)
    handler.send_header("Content-Type", "image/png")
    handler.send_header("Content-Length", "1000000")
    handler.end_headers()
    _send_without_end(handler, b"", b".", 0.05)


def drip_head(handler: BaseHTTPRequestHandler) -> None:
    """Sends the head of the answer one byte every twentieth of a second, without end."""
    _send_without_end(handler, b"HTTP/1.1 200 OK\r\nX-Long: ", b".", 0.05)


def early_hints(handler: BaseHTTPRequestHandler) -> None:
    """Sends interim responses without end."""
    _send_without_end(handler, b"", b"HTTP/1.1 103 Early Hints\r\n\r\n", 0.01)


def _send_without_end(handler: BaseHTTPRequestHandler, first: bytes, again: bytes, every_s: float) -> None:
    handler.wfile.write(first)
    while True:
        handler.wfile.write(again)
        time.sleep(every_s)


def cut(handler: BaseHTTPRequestHandler) -> None:
    """Closes the connection in the middle of the answer."""
    handler.send_response_only(200)
    handler.send_header("Content-Type", "image/png")
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b"half")
    handler.close_connection = True


def hang(seconds: float) -> Trouble:
    """Sends nothing for so long, then closes the connection."""

    def wait(handler: BaseHTTPRequestHandler) -> None:
        time.sleep(seconds)
        handler.close_connection = True

    return wait
