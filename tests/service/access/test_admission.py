"""Access control over HTTP: limits by key and by address, proxies, and slow bodies."""

import hashlib
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from starlette.testclient import TestClient

from service.access.admission import AccessControl
from service.http.app import create_app
from service.settings import Settings
from tests.running import running_service, serving
from tests.service.http.test_app import JPEG
from tests.service.shapes import check_problem

KEYS = ("first", "second")
HASHES = tuple(hashlib.sha256(key.encode()).hexdigest() for key in KEYS)


@contextmanager
def service(model: Path, host: str = "192.0.2.1", **settings: object) -> Iterator[TestClient]:
    known = Settings.model_validate({"model": str(model), "device": "cpu"} | settings)
    with TestClient(create_app(known), client=(host, 50000)) as client:
        yield client


def statuses(client: TestClient, times: int, **headers: str) -> list[int]:
    return [client.post("/eyes", headers=headers).status_code for _ in range(times)]


def test_each_key_has_its_own_share_of_requests(model: Path) -> None:
    with service(model, api_keys=HASHES, max_requests_per_minute=3) as client:
        assert statuses(client, 4, **{"X-API-Key": "first"}) == [400, 400, 400, 429]
        problem = client.post("/eyes", headers={"Authorization": "Bearer first"})
        check_problem(problem, 429, "rate_limited")
        assert 1 <= int(problem.headers["retry-after"]) <= 20
        assert statuses(client, 1, **{"X-API-Key": "second"}) == [400]
        assert statuses(client, 5) == [401] * 5  # no key, no share


def test_what_a_trusted_proxy_says_of_a_caller_fills_no_memory_and_forges_no_line(
    model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "service.requests")
    with service(model, host="\x85forged " + "x" * 30_000, max_requests_per_minute=9) as client:
        assert statuses(client, 1) == [400]
        (caller,) = client.app.state.access.photos.rate._full_at  # type: ignore[attr-defined]  # FastAPI
    assert len(caller) < 50
    (line,) = [record.getMessage() for record in caplog.records if record.name == "service.requests"]
    assert len(line) < 200 and line.isprintable() and r"\x85forged" in line


def test_the_log_tells_who_asked_and_never_a_key(
    model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "keys"
    file.write_text(f"{HASHES[0]} gate camera\n{HASHES[1]}\n")
    caplog.set_level("INFO", "service.requests")
    with service(model, api_keys_file=str(file)) as client:
        for key in (*KEYS, "unknown"):
            client.post("/eyes", headers={"X-API-Key": key})
        client.get("/models", headers={"Authorization": "Bearer first"})
    told = [record for record in caplog.records if record.name == "service.requests"]
    assert [record.__dict__["client"] for record in told] == ["192.0.2.1"] * 4
    assert [record.__dict__["key"] for record in told] == ["gate camera", HASHES[1][:8], None, "gate camera"]
    assert told[0].getMessage().endswith(" 192.0.2.1 'gate camera'")
    assert told[2].getMessage().endswith(" 192.0.2.1") and " 401 unauthorized " in told[2].getMessage()
    assert not any(key in caplog.text for key in (*KEYS, "unknown", HASHES[0], HASHES[1]))


@pytest.mark.parametrize(
    ("first", "second", "together"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("fe80::1%eth0", "fe80::2%eth1", True),
        ("testclient", "testclient", True),
    ],
)
def test_without_keys_each_address_has_its_own_share(
    model: Path, first: str, second: str, together: bool
) -> None:
    app = create_app(Settings(model=str(model), max_requests_per_minute=2))
    assert statuses(TestClient(app, client=(first, 1)), 3)[-1] == 429
    assert statuses(TestClient(app, client=(second, 2)), 1) == [429 if together else 503]


def test_as_many_requests_at_once_as_a_caller_may_have(model: Path, photo: bytes) -> None:
    settings = Settings(model=str(model), device="cpu", max_concurrent_requests=1)
    app = create_app(settings)
    access: AccessControl = app.state.access
    with serving(app) as address, hanging(address):
        wait_for(lambda: len(access.photos.concurrency._num_running) == 1)
        problem = httpx.post(f"{address}/synthesize", content=photo, headers=JPEG, timeout=30)
        check_problem(problem, 429, "too_many_requests")
        assert problem.headers["retry-after"] == "1"
        assert httpx.get(f"{address}/readyz").status_code == 200
    assert not access.photos.concurrency._num_running


@contextmanager
def hanging(address: str) -> Iterator[socket.socket]:
    """A connection that has sent the beginning of a photo and sends no more."""
    host, _, port = address.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(b"POST /synthesize HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\n")
        connection.sendall(b"Content-Length: 1000\r\n\r\nonly a part")
        yield connection


def wait_for(condition: object, max_wait_s: float = 30) -> None:
    end = time.monotonic() + max_wait_s
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_body_that_does_not_come_is_answered_and_its_connection_closed(model: Path) -> None:
    settings = Settings(model=str(model), device="cpu", upload_timeout_s=0.3)
    with serving(create_app(settings)) as address, hanging(address) as connection:
        start = time.monotonic()
        answer = b"".join(iter(lambda: connection.recv(65536), b""))  # until it is closed
        took_s = time.monotonic() - start
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"code":"upload_too_slow"' in answer and b"not complete after 0.3 s" in answer
    assert b"\r\nconnection: close\r\n" in answer.lower()
    assert 0.2 < took_s < 20


def test_a_body_that_drips_is_late_too(model: Path) -> None:
    settings = Settings(model=str(model), device="cpu", upload_timeout_s=0.5)
    with serving(create_app(settings)) as address, hanging(address) as connection:
        stop = threading.Event()

        def drip() -> None:
            while not stop.wait(0.05):
                try:
                    connection.sendall(b".")
                except OSError:  # closed at last
                    return

        dripping = threading.Thread(target=drip)
        dripping.start()
        try:
            assert connection.recv(100).startswith(b"HTTP/1.1 408 ")
        finally:
            stop.set()
            dripping.join()


@pytest.mark.slow
@pytest.mark.parametrize(("trusted", "second"), [("", 429), ("127.0.0.1", 400), ("192.0.2.9", 429)])
def test_only_a_trusted_proxy_says_who_calls(model: Path, tmp_path: Path, trusted: str, second: int) -> None:
    with running_service(
        tmp_path, model=model, max_requests_per_minute=1, trusted_proxies=trusted
    ) as service_there:
        answers = [
            httpx.post(f"{service_there.address}/eyes", headers={"X-Forwarded-For": f"192.0.2.{number}"})
            for number in (1, 2)
        ]
    assert [answer.status_code for answer in answers] == [400, second]
