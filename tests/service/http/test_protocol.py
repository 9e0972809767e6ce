"""What a connection may send, how long it may take, and what it gets; over real sockets."""

import asyncio
import contextlib
import hashlib
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.http import protocol
from service.http.app import create_app
from service.http.protocol import HttpProtocol
from service.inference.catalog import Catalog
from service.settings import Settings
from tests.fakes import astronaut, encoded
from tests.mqtt import wait_for
from tests.running import served_here

HOST = b"Host: localhost\r\n"
CHUNKED = b"Content-Type: image/png\r\nTransfer-Encoding: chunked\r\n\r\n"
LAST = b"GET /livez HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n"


@pytest.fixture(scope="module")
def service(model: Path) -> Iterator[str]:
    """A service with short timeouts."""
    settings = Settings(model=str(model), device="cpu", max_upload_bytes=1_000_000)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(protocol, "REST_TIMEOUT_S", 0.5)
        patch.setattr(protocol, "_CHECK_INTERVAL_S", 0.05)
        with served_here(create_app(settings), http=HttpProtocol) as (address, _):
            yield address


def connect(address: str, sent: bytes = b"") -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])), timeout=20)
    with contextlib.suppress(ConnectionError):
        connection.sendall(sent)
    return connection


def read_all(connection: socket.socket) -> bytes:
    """What comes until the other end closes; fails after the socket's time-out."""
    return b"".join(iter(lambda: connection.recv(65536), b""))


def ask(address: str, sent: bytes) -> bytes:
    with connect(address, sent) as client:
        return read_all(client)


TOO_LARGE = {
    "URL": b"GET /" + b"x" * 100_000,
    "one header": b"GET /livez HTTP/1.1\r\n" + HOST + b"X: " + b"x" * 100_000,
    "names": b"GET /livez HTTP/1.1\r\n" + HOST + b"x:\r\n" * 300 + b"\r\n",
    "tabs": b"GET /livez HTTP/1.1\r\n" + HOST + b"X:" + b"\t" * 100_000,
    "lines before it": b"\r\n" * 50_000,
    "trailers": b"POST /eyes HTTP/1.1\r\n" + HOST + CHUNKED + b"0\r\n" + b"x: y\r\n" * 300 + b"\r\n",
    "one trailer": b"POST /eyes HTTP/1.1\r\n" + HOST + CHUNKED + b"0\r\nx: " + b"y" * 100_000,
    "one extension": b"POST /eyes HTTP/1.1\r\n" + HOST + CHUNKED + b"1;x=" + b"y" * 100_000,
    "extensions": b"POST /eyes HTTP/1.1\r\n" + HOST + CHUNKED + (b"1;" + b"y" * 98 + b"\r\nx\r\n") * 1000,
    "trailers of a GET": b"GET /livez HTTP/1.1\r\n" + HOST + CHUNKED + b"0\r\n" + b"x: y\r\n" * 300 + b"\r\n",
}


@pytest.mark.parametrize("kind", TOO_LARGE)
def test_what_is_no_body_is_bounded(service: str, kind: str) -> None:
    answer = ask(service, TOO_LARGE[kind])
    assert answer.startswith(b"HTTP/1.1 431 Request Header Fields Too Large\r\n")
    assert b"content-type: application/problem+json\r\n" in answer and b"x-request-id: " in answer
    assert b'"code":"head_too_large"' in answer and answer.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize("piece", [700, 100_000])
def test_heads_and_chunks_within_the_bounds_are_taken(service: str, piece: int) -> None:
    names, long = b"X: y\r\n" * 250, b"X: " + b"y" * 30_000 + b"\r\n"
    chunks = b"POST /eyes HTTP/1.1\r\n" + HOST + CHUNKED + b"30;x=y\r\n" + b"z" * 48 + b"\r\n"
    chunks += (b"30\r\n" + b"z" * 48 + b"\r\n") * 10_000 + b"0\r\nX: y\r\n\r\n"
    sent = b"GET /livez HTTP/1.1\r\n" + HOST + names + b"\r\n"
    sent += b"GET /livez HTTP/1.1\r\n" + HOST + long + b"\r\n" + chunks + LAST
    with connect(service) as client:
        for start in range(0, len(sent), piece):
            client.sendall(sent[start : start + piece])
        answers = read_all(client).split(b"HTTP/1.1 ")[1:]
    assert [answer[:3] for answer in answers] == [b"200", b"200", b"415", b"200"]


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="Linux counts writes")
def test_a_response_is_sent_in_one_write(service: str) -> None:
    def num_writes() -> int:
        return int(Path("/proc/self/io").read_text().partition("syscw: ")[2].split()[0])

    with connect(service) as client:
        before = num_writes()
        for method, end in [(b"GET", b"}"), (b"HEAD", b"\r\n\r\n")] * 10:
            client.sendall(method + b" /livez HTTP/1.1\r\n" + HOST + b"\r\n")
            assert client.recv(65536).endswith(end)
        assert 20 <= num_writes() - before < 30


def test_a_refusal_comes_after_the_responses_to_what_came_before(service: str) -> None:
    first = b"GET /livez HTTP/1.1\r\n" + HOST + b"\r\n"
    answers = ask(service, first + first + TOO_LARGE["names"] + first).split(b"HTTP/1.1 ")[1:]
    assert [answer[:3] for answer in answers] == [b"200", b"200", b"431"]


def test_too_many_connections_close_the_one_that_waits_longest_for_its_client(
    service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def list_slowly(*_: object) -> list[object]:
        begun.set()
        go_on.wait(20)
        return []

    monkeypatch.setattr(protocol, "MAX_CONNECTIONS", 2)
    monkeypatch.setattr(Catalog, "list", list_slowly)
    with (
        connect(service, b"GET /models HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n") as at_work,
        connect(service, b"GET /livez HTTP/1.1\r\n" + HOST + b"\r\n") as kept_alive,
    ):
        assert begun.wait(20) and b"alive" in kept_alive.recv(65536)
        for waiting in (kept_alive, connect(service, b"GET /li")):
            assert b"alive" in ask(service, LAST)
            with contextlib.suppress(ConnectionResetError), waiting:
                assert waiting.recv(65536) == b""
        go_on.set()
        assert read_all(at_work).startswith(b"HTTP/1.1 200 ")


class Book:
    """What the service has recorded of its requests since the last time."""

    def __init__(self, address: str, caplog: pytest.LogCaptureFixture) -> None:
        self._address, self._caplog = address, caplog
        self._before = self._count()
        caplog.set_level("INFO", "service.requests")

    def _count(self) -> dict[str, float]:
        told = httpx.get(f"{self._address}/metrics").text
        found = re.findall(r"^(eye2face_(?:requests|problems)_total\S+) (\S+)$", told, flags=re.M)
        return {name: float(value) for name, value in found if "/metrics" not in name}

    def read(self) -> tuple[dict[str, float], list[str]]:
        """What was counted, and the lines."""
        now, before = self._count(), self._before
        counted = {name: now[name] - before.get(name, 0) for name in now if now[name] != before.get(name, 0)}
        lines = [each.message for each in self._caplog.records if each.name == "service.requests"]
        return counted, lines


REFUSED = {
    "head": (b"GET /livez?x HTTP/1.1\r\n" + HOST + b"x:\r\n" * 300, "GET '/livez' 431 head_too_large"),
    "URL": (b"GET /v2/" + b"x" * 100_000, "GET '/v2/xxxx"),
    "no HTTP": (b"\x16\x03\x01 hello\r\n\r\n", "- '' 400 bad_request"),
    "version": (b"GET /livez HTTP/9.9\r\n\r\n", "GET '/livez' 400 bad_request"),
    "version 0.9": (b"GET /livez\r\n\r\n", "GET '/livez' 400 bad_request"),
    "CONNECT": (b"CONNECT a:1 HTTP/1.1\r\n\r\n", "400 bad_request"),
    "extension": (TOO_LARGE["one extension"], "POST '/eyes' 431 head_too_large"),
    "chunk": (b"POST /eyes HTTP/1.1\r\n" + HOST + CHUNKED + b"xyz\r\n", "POST '/eyes' 400 bad_request"),
    "trailers": (TOO_LARGE["trailers"], "POST '/eyes' 431 head_too_large"),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.parametrize("num_before", [0, 2])
def test_a_refused_request_is_recorded_once(
    service: str, caplog: pytest.LogCaptureFixture, kind: str, num_before: int
) -> None:
    sent, line = REFUSED[kind]
    book = Book(service, caplog)
    answers = ask(service, (b"GET /livez HTTP/1.1\r\n" + HOST + b"\r\n") * num_before + sent)
    counted, lines = book.read()
    status = answers.split(b"HTTP/1.1 ")[-1][:3].decode()
    code = {"431": "head_too_large", "400": "bad_request"}[status]
    assert len(lines) == 1 and line in lines[0], lines
    request_id = re.findall(rb"x-request-id: (\S+)", answers)[-1].decode()
    assert lines[0].endswith(f" {request_id} 127.0.0.1")
    (route,) = {re.findall(r'route="([^"]*)"', name)[0] for name in counted if status in name}
    assert route in ("other", "/eyes")
    assert counted == {
        f'eye2face_requests_total{{route="{route}",status="{status}"}}': 1.0,
        f'eye2face_problems_total{{code="{code}"}}': 1.0,
        **({'eye2face_requests_total{route="/livez",status="200"}': num_before} if num_before else {}),
    }


def test_a_request_that_is_refused_after_its_response_is_recorded_once(
    service: str, caplog: pytest.LogCaptureFixture
) -> None:
    book = Book(service, caplog)
    assert ask(service, TOO_LARGE["trailers of a GET"]).count(b"HTTP/1.1 ") == 1
    counted, lines = book.read()
    assert len(counted) == 2 and set(counted.values()) == {1.0} and len(lines) == 1


@pytest.mark.slow
def test_a_head_that_is_slow_is_refused_and_recorded(
    model: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "HEAD_TIMEOUT_S", 0.3)
    monkeypatch.setattr(protocol, "_CHECK_INTERVAL_S", 0.05)
    with served_here(create_app(Settings(model=str(model), device="cpu")), http=HttpProtocol) as (address, _):
        book = Book(address, caplog)
        begin = time.monotonic()
        assert ask(address, b"") == ask(address, b"\r\n") == b""  # no request
        assert b'"code":"upload_too_slow"' in ask(address, b"GET /livez HTTP/1.1\r\nX: ")
        assert 0.8 < time.monotonic() - begin < 5
        counted, (line,) = book.read()
    assert line.startswith("GET '/livez' 408 upload_too_slow ")
    assert float(line.split()[4]) > 200
    assert counted == {
        'eye2face_requests_total{route="other",status="408"}': 1.0,
        'eye2face_problems_total{code="upload_too_slow"}': 1.0,
    }


@pytest.mark.slow
@pytest.mark.parametrize("rest", [b"", b"0\r\n\r\n"])
def test_a_connection_that_is_idle_after_a_response_is_closed(
    monkeypatch: pytest.MonkeyPatch, rest: bytes
) -> None:
    monkeypatch.setattr(protocol, "_CHECK_INTERVAL_S", 0.05)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await answer(send, b"ready")

    served = served_here(app, http=HttpProtocol, lifespan="off", timeout_keep_alive=1)  # type: ignore[arg-type]
    head = b"GET / HTTP/1.1\r\n" + HOST + (CHUNKED if rest else b"\r\n")
    with served as (address, _), connect(address, head) as client:
        received = client.recv(65536)
        client.sendall(rest)  # of a body that the response did not wait for
        begin = time.monotonic()
        assert (received + read_all(client)).endswith(b"ready")
        assert time.monotonic() - begin < 5


def test_a_connection_that_sends_nothing_is_closed(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEAD_TIMEOUT_S", 0.1)
    begin = time.monotonic()
    assert ask(service, b"") == b""
    assert time.monotonic() - begin < 5


def test_a_slow_head_does_not_end_the_response_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEAD_TIMEOUT_S", 0.1)
    monkeypatch.setattr(protocol, "_CHECK_INTERVAL_S", 0.05)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(0.5)
        await answer(send, b"ready")

    with served_here(app, http=HttpProtocol, lifespan="off") as (address, _):  # type: ignore[arg-type]
        answers = ask(address, b"GET / HTTP/1.1\r\n" + HOST + b"\r\nGET / HTTP/1.1\r\nX: ")
    assert b"ready" in answers and answers.split(b"HTTP/1.1 ")[-1].startswith(b"408 ")


def test_a_refusal_has_the_callers_request_id_and_the_shape_of_its_api(service: str) -> None:
    head = b"POST /v2/models/tiny/infer HTTP/1.1\r\nX-Request-Id: mine\r\n" + HOST
    for rest in (b"x:\r\n" * 300, CHUNKED + b"xyz\r\n"):
        said = ask(service, head + rest)
        assert b"x-request-id: mine\r\n" in said and b"content-type: application/json\r\n" in said
        assert b'{"error": "' in said


URL = b"GET http://localhost/livez HTTP/1.1\r\n"


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /livez HTTP/1.1\r\n", b"400"),
        (b"GET /livez HTTP/1.1\r\n" + HOST + HOST, b"400"),
        (b"GET http://rebound.example/livez HTTP/1.1\r\n" + HOST, b"400"),
        (b"GET http://rebound.example?x HTTP/1.0\r\n", b"400"),
        (URL, b"400"),
        (URL + HOST, b"200"),
        (b"GET /livez HTTP/1.0\r\n", b"200"),
    ],
)
def test_a_request_names_one_host(service: str, head: bytes, status: bytes) -> None:
    assert ask(service, head + b"Connection: close\r\n\r\n").startswith(b"HTTP/1.1 " + status)


def test_what_is_no_http_is_a_problem(service: str) -> None:
    answer = ask(service, b"\x16\x03\x01 hello\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n") and b'"code":"bad_request"' in answer


def test_trailers_are_no_headers(model: Path) -> None:
    key = hashlib.sha256(b"secret").hexdigest()
    sent = b"POST /eyes HTTP/1.1\r\n" + HOST + CHUNKED + b"1\r\nx\r\n0\r\nX-API-Key: secret\r\n\r\n" + LAST
    settings = Settings(model=str(model), device="cpu", api_keys=(key,))
    with served_here(create_app(settings), http=HttpProtocol) as (address, _):
        assert ask(address, sent).startswith(b"HTTP/1.1 401 ")


@pytest.mark.parametrize("extra", [b"", b"Connection: Upgrade\r\nUpgrade: h2c\r\n"])
def test_a_thousand_pipelined_requests_are_answered(service: str, extra: bytes) -> None:
    answer = ask(service, (b"GET /livez HTTP/1.1\r\n" + HOST + extra + b"\r\n") * 1000 + LAST)
    assert answer.count(b"HTTP/1.1 200 OK\r\n") == answer.count(b'"alive"') == 1001


def test_pipelined_requests_wait_unparsed() -> None:
    most = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal most
        most = max([most, *(len(each.pipeline) for each in scope["state"]["connections"])])
        await answer(send, b"")

    class Listed(HttpProtocol):
        def on_message_begin(self) -> None:
            super().on_message_begin()
            self.scope["state"]["connections"] = self.connections

    with served_here(app, http=Listed, lifespan="off") as (address, _):  # type: ignore[arg-type]
        sent = ask(address, b"GET / HTTP/1.1\r\nHost:\r\n\r\n" * 2000 + LAST)
    assert sent.count(b"HTTP/1.1 200 ") == 2001
    assert 1 <= most <= 1024 / 25 + 1


async def answer(send: Any, body: bytes) -> None:
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


LARGE = bytes(range(256)) * 80_000


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, threading.Event]]:
    """The address of an application with a large response, and whether that was sent to its end."""
    monkeypatch.setattr(protocol, "WRITE_TIMEOUT_S", 1.0)
    monkeypatch.setattr(protocol, "_CHECK_INTERVAL_S", 0.05)
    ended = threading.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await answer(send, LARGE)
        ended.set()

    with served_here(app, http=HttpProtocol, lifespan="off") as (address, _):  # type: ignore[arg-type]
        yield address, ended


@pytest.mark.slow
def test_a_response_that_nobody_reads_is_aborted(large: tuple[str, threading.Event]) -> None:
    address, ended = large
    with connect(address, LAST) as client:
        assert not ended.wait(0.2)  # held until it has left
        assert ended.wait(10)
        assert len(read_all(client)) < len(LARGE)


def test_a_part_of_a_response_is_sent_when_it_has_left() -> None:
    """The last one, too: what the request holds is released then."""
    left = list[int]()

    class Listed(HttpProtocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            connections.append(self)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(2000):
            await send({"type": "http.response.body", "body": bytes(10_000), "more_body": True})
            left.append(connections[0].transport.get_write_buffer_size())
        await send({"type": "http.response.body", "body": b""})

    connections = list[HttpProtocol]()
    with (
        served_here(app, http=Listed, lifespan="off") as (address, _),  # type: ignore[arg-type]
        connect(address, LAST) as client,
    ):
        wait_for(lambda: connections and connections[0].flow.write_paused)
        assert len(left) < 2000
        assert len(read_all(client)) > 20_000_000
    assert len(left) == 2000 and max(left) == 0


class SlowLine:
    """A loop by whose time 32 KiB take six tenths of what they may take to leave."""

    def __init__(self, loop: asyncio.AbstractEventLoop, transport: asyncio.WriteTransport) -> None:
        self._loop, self._transport = loop, transport
        self.num_written = 0

    def time(self) -> float:
        num_left = self.num_written - self._transport.get_write_buffer_size()
        return 0.6 * protocol.WRITE_TIMEOUT_S * num_left / (32 * 1024)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)


def test_each_part_of_a_response_has_its_own_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "_CHECK_INTERVAL_S", 0.001)
    connections = list[HttpProtocol]()

    class Slow(HttpProtocol):
        loop: Any

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            self.loop = SlowLine(self.loop, transport)
            super().connection_made(transport)
            connections.append(self)

        def write(self, data: bytes) -> None:
            self.loop.num_written += len(data)
            super().write(data)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await answer(send, LARGE)

    with (
        served_here(app, http=Slow, lifespan="off") as (address, _),  # type: ignore[arg-type]
        connect(address, LAST) as client,
    ):
        wait_for(lambda: connections and connections[0].flow.write_paused)
        assert read_all(client).endswith(LARGE)


@pytest.mark.slow
@pytest.mark.parametrize("path", [b"/livez", b"/nowhere", b"/eyes"])
def test_a_body_that_drips_after_its_response_has_one_deadline(service: str, path: bytes) -> None:
    method = b"POST" if path == b"/eyes" else b"GET"
    head = method + b" " + path + b" HTTP/1.1\r\n" + HOST + b"Content-Length: 2000000\r\n\r\n"
    with connect(service, head) as client:
        client.settimeout(0.05)
        received, begin = b"", time.monotonic()
        while True:
            try:
                chunk = client.recv(65536)
            except TimeoutError:
                client.sendall(b"x")
                continue
            except ConnectionError:
                break
            received += chunk
            if not chunk:
                break
        assert 0.4 < time.monotonic() - begin < 5
    assert received.count(b"HTTP/1.1 ") == 1


def test_trailers_that_drip_after_the_response_have_one_deadline(service: str) -> None:
    with connect(service, b"GET /livez HTTP/1.1\r\n" + HOST + CHUNKED + b"0\r\n") as client:
        begin = time.monotonic()
        with contextlib.suppress(ConnectionError):
            while time.monotonic() - begin < 10:
                client.sendall(b"x: y\r\n")
                time.sleep(0.05)
        assert time.monotonic() - begin < 5


@pytest.mark.parametrize("extra", [b"", b"Connection: close\r\n"])
def test_a_client_that_sends_all_of_a_refused_body_first_sees_why(service: str, extra: bytes) -> None:
    head = b"POST /eyes HTTP/1.1\r\n" + HOST + extra
    head += b"Content-Type: image/png\r\nContent-Length: 9000000\r\n\r\n"
    with connect(service) as client:
        client.sendall(head + bytes(9_000_000))
        assert client.recv(65536).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("num_requests", [1, 3])
def test_a_client_that_closed_its_half_gets_its_responses(service: str, num_requests: int) -> None:
    photo = encoded(astronaut()[60:150, 150:290].copy(), "jpeg")
    head = b"POST /synthesize?input=eye HTTP/1.1\r\n" + HOST
    head += b"Content-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(photo)
    with connect(service, (head + photo) * num_requests) as client:
        client.shutdown(socket.SHUT_WR)
        assert read_all(client).count(b"HTTP/1.1 200 OK") == num_requests


CUT = (b"GET /livez HTT", b"GET /livez HTTP/1.1\r\n" + HOST, b"POST /eyes HTTP/1.1\r\n" + HOST + CHUNKED)


@pytest.mark.parametrize("cut", CUT)
@pytest.mark.parametrize("num_before", [0, 1])
def test_a_client_that_closed_its_half_within_a_request_sees_why_it_is_not_answered(
    service: str, num_before: int, cut: bytes
) -> None:
    before = b"POST /eyes HTTP/1.1\r\n" + HOST + b"Content-Length: 0\r\n\r\n"
    with connect(service, before * num_before + cut) as client:
        client.shutdown(socket.SHUT_WR)
        answers = read_all(client).split(b"HTTP/1.1 ")[1:]
    assert len(answers) == num_before + 1 and all(answer.startswith(b"400 ") for answer in answers)
    assert b"closed before its request was complete" in answers[-1]


def test_a_client_that_closed_its_half_without_a_request_gets_nothing(service: str) -> None:
    with connect(service) as client:
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == b""


def test_a_client_that_closed_both_halves_is_disconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "_CHECK_INTERVAL_S", 0.05)
    disconnected = threading.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(receive(), 2)
            disconnected.set()

    with (
        served_here(app, http=HttpProtocol, lifespan="off") as (address, _),  # type: ignore[arg-type]
        connect(address, LAST) as patient,
    ):
        patient.shutdown(socket.SHUT_WR)
        assert not disconnected.wait(0.3)  # it may wait for its response
        connect(address, LAST).close()
        assert disconnected.wait(10)
