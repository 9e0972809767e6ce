"""Responses that nobody reads, or slowly, and clients that leave."""

import contextlib
import ssl
import time
from collections.abc import Iterator

import numpy as np
import pytest

from tests.attacks.target import HOST, Target
from tests.certificates import certify
from tests.fakes import encoded, tiny_model
from tests.running import running_service

pytestmark = [pytest.mark.slow, pytest.mark.serial]

LARGE = b"GET /web/swagger/swagger-ui-bundle.js HTTP/1.1\r\n" + HOST
NUM_CONNECTIONS = 250
CLOSED_AFTER_S = 40


def overlay() -> bytes:
    """A request whose response has thirty times its bytes."""
    noise = np.random.default_rng(0).integers(0, 256, (600, 600, 3), np.uint8)
    photo = encoded(noise, "jpeg", quality=1)
    head = b"POST /eyes?overlay=true HTTP/1.1\r\nContent-Type: image/jpeg\r\n" + HOST
    return head + b"Content-Length: %d\r\n\r\n" % len(photo) + photo


def wait_until_open(target: Target, num_connections: int) -> None:
    """Returns when the service has accepted so many connections; fails if it does not."""
    end = time.monotonic() + CLOSED_AFTER_S
    while target.num_connections() < num_connections:
        assert time.monotonic() < end
        time.sleep(0.02)


def wait_until_closed(target: Target, num_connections: int) -> None:
    """Returns when no more connections are open; fails if they stay."""
    end = time.monotonic() + CLOSED_AFTER_S
    while target.num_connections() > num_connections:
        assert time.monotonic() < end
        time.sleep(0.2)


def test_responses_that_nobody_reads_are_aborted(target: Target) -> None:
    open_before = target.num_connections()
    with contextlib.ExitStack() as crowd, target.stays_well(max_growth_mb=200):
        for _ in range(NUM_CONNECTIONS):
            crowd.enter_context(target.connect((LARGE + b"\r\n") * 50))
        for _ in range(5):
            crowd.enter_context(target.connect(overlay()))
        wait_until_open(target, open_before + NUM_CONNECTIONS + 5)
        wait_until_closed(target, open_before + 5)  # some ask /livez


def test_a_slow_reader_gets_all_of_its_pipelined_responses(target: Target) -> None:
    with target.connect(LARGE + b"\r\n" + LARGE + b"Connection: close\r\n\r\n") as client:
        received = b""
        while chunk := client.recv(100_000):
            received += chunk
            time.sleep(0.05)
    assert received.count(b"HTTP/1.1 200 OK") == 2
    assert received.endswith(received[received.index(b"\r\n\r\n") + 4 : received.rindex(b"HTTP/1.1 200 OK")])


@pytest.fixture
def encrypted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    folder = tmp_path_factory.mktemp("encrypted")
    certificate, key = certify(folder, "tls")
    model = tiny_model(folder / "tiny.onnx")
    settings = {"model": model, "tls_cert_file": certificate, "tls_key_file": key, "max_wait_ms": 60_000}
    with running_service(folder, **settings) as service:
        yield Target(int(service.address.rpartition(":")[2]), service.process.pid)


def test_encrypted_responses_that_nobody_reads_are_aborted(encrypted: Target) -> None:
    before, open_before = encrypted.memory_mb(), encrypted.num_connections()
    context = ssl._create_unverified_context()
    with contextlib.ExitStack() as crowd:
        for _ in range(5):
            client = crowd.enter_context(context.wrap_socket(encrypted.connect()))
            client.sendall(overlay())
        wait_until_closed(encrypted, open_before + 1)
    assert encrypted.memory_mb() - before < 200
