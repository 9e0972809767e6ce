"""The service as a process: its end, its logs, rude connections, and a system that gives it too little."""

import contextlib
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.http import app as app_module
from service.http import protocol as connections
from service.http import server
from service.http.app import create_app
from service.http.protocol import HttpProtocol
from service.http.server import run_server, startup_message
from service.settings import ConfigurationError, Settings
from tests.fakes import astronaut, encoded
from tests.running import find_free_port, served_here, wait_until_ready
from tests.service.shapes import check_problem

ROOT = Path(__file__).parents[3]
JPEG = {"content-type": "image/jpeg"}
HEAD = b"POST /synthesize HTTP/1.1\r\nHost: localhost\r\n"


class Process:
    """A service in a process of its own."""

    def __init__(
        self, model: Path, log: Path, max_descriptors: int | None = None, **settings: object
    ) -> None:
        self.port, self.log = find_free_port(), log
        self.address = f"http://127.0.0.1:{self.port}"
        own = {"port": self.port, "model": model, "device": "cpu"} | settings
        environment = os.environ | {f"EYE2FACE_{name.upper()}": str(value) for name, value in own.items()}

        def limit() -> None:
            if max_descriptors is not None:
                resource.setrlimit(resource.RLIMIT_NOFILE, (max_descriptors, max_descriptors))

        with log.open("wb") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "service", "serve"], cwd=ROOT, env=environment,
                stdout=subprocess.DEVNULL, stderr=stderr, preexec_fn=limit,
            )  # fmt: skip

    def __enter__(self) -> "Process":
        wait_until_ready(self.address, self.process)
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(30)

    def wait_until_refused(self) -> None:
        end = time.monotonic() + 30
        while True:
            try:
                self.connect().close()
            except ConnectionRefusedError:
                return
            assert time.monotonic() < end
            time.sleep(0.01)

    def connect(self, sent: bytes = b"") -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=20)
        connection.sendall(sent)
        return connection


def test_a_service_names_its_documentation_if_there_is_any() -> None:
    assert "/docs" in startup_message("http://x", Settings())
    without = startup_message("http://x", Settings(docs=False))
    assert "/docs" not in without and "curl" in without and "Ctrl+C" in without


def test_a_service_that_requires_keys_shows_how_to_send_one() -> None:
    assert "X-API-Key" not in startup_message("http://x", Settings())
    assert "-H 'X-API-Key: KEY'" in startup_message("http://x", Settings(api_keys_file="keys.txt"))


def test_an_address_that_is_taken_is_one_sentence_with_what_to_do() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"port {port}: Address already in use.*EYE2FACE_PORT"):
            run_server(Settings(port=port))


def test_idle_connections_outlive_those_of_load_balancers(
    monkeypatch: pytest.MonkeyPatch, model: Path
) -> None:
    kept: list[float] = []
    monkeypatch.setattr(server._Server, "run", lambda running: kept.append(running.config.timeout_keep_alive))
    run_server(Settings(model=str(model), port=0))
    assert kept[0] > 60


@pytest.mark.slow
def test_sigterm_lets_what_is_in_flight_finish_and_exits_0(model: Path, tmp_path: Path) -> None:
    photo = encoded(astronaut(), "jpeg")
    head = HEAD + b"Content-Type: image/jpeg\r\nExpect: 100-continue\r\n"
    head += b"Content-Length: %d\r\n\r\n" % len(photo)
    with Process(model, tmp_path / "log", log_format="json") as service, contextlib.ExitStack() as crowd:
        askers = [crowd.enter_context(service.connect(head)) for _ in range(4)]
        for asker in askers:
            assert asker.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        service.process.send_signal(signal.SIGTERM)
        service.wait_until_refused()
        for asker in askers:
            asker.sendall(photo)
        answers = [read_all(asker) for asker in askers]
        assert [answer[:13] for answer in answers] == [b"HTTP/1.1 200 "] * len(askers)
        assert service.process.wait(30) == 0
    lines = [json.loads(line) for line in service.log.read_text().splitlines()]
    told = [line for line in lines if line["logger"] == "service.requests"]
    ids = [line["request_id"].encode() for line in told if line["path"] == "/synthesize"]
    assert all(any(b"x-request-id: " + each in answer for each in ids) for answer in answers)
    line = next(line for line in told if line["path"] == "/synthesize")
    assert set(line) == {
        "time", "level", "logger", "message", "request_id", "method", "path", "status", "code", "ms",
        "client", "key",
    }  # fmt: skip
    assert (line["method"], line["status"], line["code"]) == ("POST", 200, None)
    assert (line["client"], line["key"]) == ("127.0.0.1", None)
    assert service.log.stat().st_size < 20_000  # no pixels


@pytest.mark.slow
def test_what_codecs_write_is_a_line_of_the_log(model: Path, tmp_path: Path) -> None:
    photo = bytearray(encoded(astronaut(), "jpeg"))
    photo[len(photo) // 2 : len(photo) // 2 + 200] = bytes(200)
    with Process(model, tmp_path / "log", log_format="json") as service:
        httpx.post(f"{service.address}/synthesize", content=bytes(photo), headers=JPEG)
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(30) == 0
    lines = [json.loads(line) for line in service.log.read_text().splitlines()]
    told = [line["message"] for line in lines if line["logger"] == "stderr"]
    assert told == ["Corrupt JPEG data: bad Huffman code"] * len(told) and told


@pytest.mark.slow
def test_sigterm_waits_for_nobody_beyond_its_limit(model: Path, tmp_path: Path) -> None:
    with Process(model, tmp_path / "log", stop_timeout_s=1) as service:
        head = HEAD + b"Content-Type: image/png\r\nContent-Length: 99\r\n\r\n"
        large = b"GET /web/swagger/swagger-ui-bundle.js HTTP/1.1\r\nHost: localhost\r\n\r\n"
        with (
            service.connect(head + b"never more") as asker,
            service.connect(),
            service.connect(b"GET /li"),
            service.connect(large * 50),
        ):
            time.sleep(0.2)
            begin = time.monotonic()
            service.process.send_signal(signal.SIGTERM)
            answer = read_all(asker)
            assert service.process.wait(30) == 0
            assert time.monotonic() - begin < 15
    assert answer.startswith(b"HTTP/1.1 503 ") and b'"code":"not_ready"' in answer
    assert "Traceback" not in service.log.read_text()


@pytest.mark.slow
def test_who_presses_ctrl_c_again_is_not_kept_waiting_nor_shown_a_traceback(
    model: Path, tmp_path: Path
) -> None:
    head = HEAD + b"Content-Type: image/png\r\nContent-Length: 99\r\n\r\n"
    with (
        Process(model, tmp_path / "log", stop_timeout_s=60) as service,
        service.connect(head + b"never more") as asker,
    ):
        time.sleep(0.2)
        service.process.send_signal(signal.SIGINT)
        service.wait_until_refused()
        service.process.send_signal(signal.SIGINT)
        answer = read_all(asker)
        assert service.process.wait(30) == 0
    assert answer.startswith(b"HTTP/1.1 503 ") and b'"code":"not_ready"' in answer
    said = service.log.read_text()
    assert "Shutting down" in said and "Traceback" not in said


@pytest.mark.slow
def test_more_connections_than_descriptors_keep_nobody_out(model: Path, tmp_path: Path) -> None:
    with Process(model, tmp_path / "log", max_descriptors=64) as service, contextlib.ExitStack() as crowd:
        for sent in [b"", b"GET /", HEAD + b"Content-Type: image/png\r\nContent-Length: 99\r\n\r\nx"] * 50:
            with contextlib.suppress(OSError):
                crowd.enter_context(service.connect(sent))
        photo = encoded(astronaut()[60:150, 150:290].copy(), "jpeg")
        answer = httpx.post(
            f"{service.address}/synthesize?input=eye", content=photo, headers=JPEG, timeout=30
        )
        assert answer.status_code == 200
        for path in ("/", "/web/index.html", "/models", "/livez"):
            assert httpx.get(f"{service.address}{path}").status_code == 200
    assert "Traceback" not in service.log.read_text()


def read_all(connection: socket.socket) -> bytes:
    """What comes until the other end closes; fails after the socket's time-out."""
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while chunk := connection.recv(65536):
            received += chunk
    return received


@pytest.fixture
def impatient(model: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(connections, "HEAD_TIMEOUT_S", 0.3)
    settings = Settings(model=str(model), device="cpu", upload_timeout_s=0.3)
    with served_here(create_app(settings), http=HttpProtocol) as (address, _):
        yield address


def connect(address: str, sent: bytes) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])), timeout=20)
    connection.sendall(sent)
    return connection


@pytest.mark.slow
@pytest.mark.parametrize("sent", [b"", b"GET /livez HTTP/1.1\r\nHos", b"POST /synthe"])
def test_a_connection_whose_head_does_not_come_is_closed(impatient: str, sent: bytes) -> None:
    with connect(impatient, sent) as slow:
        assert read_all(slow)[:13] == (b"HTTP/1.1 408 " if sent else b"")


@pytest.mark.slow
def test_on_a_connection_that_is_kept_the_next_head_must_come_too(impatient: str) -> None:
    whole = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with connect(impatient, whole) as slow:
        assert b"alive" in slow.recv(65536)
        slow.sendall(whole[:10])
        assert b"alive" not in read_all(slow)
    with httpx.Client(base_url=impatient) as patient:
        for _ in range(5):  # each is prompt, together they take longer than one head may
            assert patient.get("/livez").status_code == 200
            time.sleep(0.1)


UPGRADES = [b"h2c", b"websocket", b"TLS/1.0"]


@pytest.mark.parametrize("upgrade", UPGRADES)
@pytest.mark.parametrize("piece", [1, 150, 100_000])
def test_a_wish_for_another_protocol_is_passed_over(impatient: str, upgrade: bytes, piece: int) -> None:
    body = b'{"image": "bm90IGFuIGltYWdl"}'
    head = (
        b"POST /eyes HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: "
        + upgrade
    )
    head += b"\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
    last = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    sent = head + body + head + body + last
    with connect(impatient, b"") as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start in range(0, len(sent), piece):
            client.sendall(sent[start : start + piece])
        answer = read_all(client)
    assert answer.count(b"HTTP/1.1 415 ") == answer.count(b'"code":"not_an_image"') == 2
    assert answer.count(b"HTTP/1.1 ") == 3 and answer.endswith(b'"alive"}')


CONNECT = b"CONNECT x:80 HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


@pytest.mark.parametrize("sent", [CONNECT, PREFACE])
def test_what_can_be_nothing_but_another_protocol_is_refused(impatient: str, sent: bytes) -> None:
    with connect(impatient, sent) as client:
        assert read_all(client).startswith(b"HTTP/1.1 400 ")


@pytest.mark.slow
def test_a_body_that_drips_is_refused(impatient: str) -> None:
    def drip() -> Iterator[bytes]:
        for _ in range(200):
            yield b"x"
            time.sleep(0.02)

    answer: Any = None
    with contextlib.suppress(httpx.WriteError, httpx.ReadError):  # closed while it drips
        answer = httpx.post(f"{impatient}/synthesize", content=drip(), headers=JPEG, timeout=20)
    if answer is not None:
        check_problem(answer, 408, "upload_too_slow")
    head = b"POST /eyes HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nContent-Length: 99\r\n\r\n"
    with connect(impatient, head + b"a bit") as slow:
        answer = read_all(slow)
        assert answer.startswith(b"HTTP/1.1 408 ") and b"upload_too_slow" in answer


def test_a_body_that_came_whole_does_not_excuse_the_next_one(impatient: str) -> None:
    head = b"POST /eyes HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nContent-Length: 5\r\n\r\n"
    with connect(impatient, head + b"whole" + head + b"a") as slow:
        first, second = read_all(slow).split(b"HTTP/1.1 ")[1:]
    assert first.startswith(b"415 ") and b"not_an_image" in first
    assert second.startswith(b"408 ") and b"upload_too_slow" in second


@pytest.mark.slow
def test_slow_uploads_do_not_fill_the_memory_and_small_photos_pass(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app_module, "count_memory", lambda: 8 * 1_000_000)
    head = b"POST /eyes HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nContent-Length: 2000000\r\n\r\n"
    small, large = encoded(astronaut()[60:150, 150:290].copy(), "jpeg"), b"\xff\xd8\xff" + bytes(1_900_000)
    assert len(small) < 1_000_000 // 64
    with served_here(create_app(Settings(model=str(model), device="cpu")), http=HttpProtocol) as (address, _):
        with connect(address, head + large):
            time.sleep(0.3)
            for _ in range(2):  # one that is refused leaves its room
                refused = httpx.post(f"{address}/eyes", content=large, headers=JPEG, timeout=30)
                check_problem(refused, 503, "overloaded")
                assert refused.headers["retry-after"] == "1"
            assert httpx.post(f"{address}/eyes", content=small, headers=JPEG, timeout=30).status_code == 200
        time.sleep(0.3)
        alone = httpx.post(f"{address}/eyes", content=large, headers=JPEG, timeout=30)
        check_problem(alone, 422, "image_corrupt")


def test_a_jump_of_the_clock_changes_no_deadline(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photo = encoded(astronaut()[60:150, 150:290].copy(), "jpeg")
    settings = Settings(model=str(model), device="cpu")
    with served_here(create_app(settings), http=HttpProtocol) as (address, _):
        real = time.time
        for jump_s in (86_400, -86_400):
            monkeypatch.setattr(time, "time", lambda jump_s=jump_s: real() + jump_s)
            for _ in range(3):
                answer = httpx.post(f"{address}/eyes", content=photo, headers=JPEG, timeout=30)
                assert answer.status_code == 200
            assert httpx.get(f"{address}/readyz").json()["last_inference_age_s"] < 600
