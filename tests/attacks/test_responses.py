"""Responses that nobody reads, or slowly, and clients that leave."""

import contextlib
import socket
import ssl
import time
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from tests.attacks.target import HOST, Target, read_all
from tests.certificates import certify
from tests.fakes import encoded, tiny_model
from tests.running import running_service

pytestmark = [pytest.mark.slow, pytest.mark.serial]

LARGE = b"GET /web/swagger/swagger-ui-bundle.js HTTP/1.1\r\n" + HOST
NUM_CONNECTIONS = 250
CLOSED_AFTER_S = 14


def overlay() -> bytes:
    """A request whose response has thirty times its bytes."""
    noise = np.random.default_rng(0).integers(0, 256, (1000, 1000, 3), np.uint8)
    photo = encoded(noise, "jpeg", quality=1)
    head = b"POST /eyes?overlay=true HTTP/1.1\r\nContent-Type: image/jpeg\r\n" + HOST
    return head + b"Content-Length: %d\r\n\r\n" % len(photo) + photo


def assert_closed(connections: Sequence[socket.socket], since: float) -> None:
    """Whoever reads at last gets no more than the kernel had, and the end."""
    time.sleep(max(0, since + CLOSED_AFTER_S - time.monotonic()))
    for connection in connections:
        connection.settimeout(2)
        read_all(connection)


def test_responses_that_nobody_reads_are_aborted(target: Target) -> None:
    with contextlib.ExitStack() as crowd, target.stays_well(max_growth_mb=120):
        begin = time.monotonic()
        files = [crowd.enter_context(target.connect((LARGE + b"\r\n") * 50)) for _ in range(NUM_CONNECTIONS)]
        overlays = [crowd.enter_context(target.connect(overlay())) for _ in range(20)]
        assert_closed(files + overlays, begin)


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
    before = encrypted.memory_mb()
    context = ssl._create_unverified_context()
    with contextlib.ExitStack() as crowd:
        begin = time.monotonic()
        connections = []
        for _ in range(40):
            plain = crowd.enter_context(encrypted.connect())
            client = crowd.enter_context(context.wrap_socket(plain))
            client.sendall(overlay())
            connections.append(client)
        assert_closed(connections, begin)
    time.sleep(1)
    assert encrypted.memory_mb() - before < 120
