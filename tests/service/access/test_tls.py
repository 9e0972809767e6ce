"""HTTPS by the service itself: certificates, their renewal, misbehaving clients, and the bridge's CAs."""

import asyncio
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import uvloop

from service.access import tls
from service.access.tls import client_context, server_context, tls_handshake_timeout
from service.bridge.frigate import FrigateEvents
from service.bridge.sources import CameraEvent
from service.client.client import Client
from service.client.models import Unreachable
from service.client.retries import RetryPolicy
from service.settings import BridgeSettings, ConfigurationError
from tests.certificates import certify
from tests.mqtt import Mosquitto, Wire, wait_for
from tests.running import ROOT, Running, running_service
from tests.service.bridges import bridging, ids, online, wait_for_results
from tests.troubled import Server

ONCE = RetryPolicy(max_tries=1)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    folder = tmp_path_factory.mktemp("certificates")
    return {name: certify(folder, name) for name in ("first", "second")}


@pytest.fixture
def shown(tmp_path: Path, pairs: dict[str, tuple[Path, Path]]) -> tuple[Path, Path]:
    """The files that a service is told of; tests write others in their place."""
    shutil.copy(pairs["first"][0], tmp_path / "tls.crt")
    shutil.copy(pairs["first"][1], tmp_path / "tls.key")
    return tmp_path / "tls.crt", tmp_path / "tls.key"


@pytest.fixture
def secure(model: Path, shown: tuple[Path, Path], tmp_path: Path) -> Iterator[Running]:
    files = {"tls_cert_file": shown[0], "tls_key_file": shown[1]}
    with running_service(tmp_path, model=model, **files) as service:
        yield service


def connect(service: Running, known: Path, name: str | None = "localhost") -> ssl.SSLSocket:
    line = socket.create_connection(("127.0.0.1", int(service.address.rpartition(":")[2])), timeout=20)
    context = ssl.create_default_context(cafile=known)
    context.check_hostname = name is not None
    return context.wrap_socket(line, server_hostname=name)


def test_the_service_speaks_https_to_whom_knows_its_certificate(
    secure: Running, pairs: dict[str, tuple[Path, Path]], snapshot: bytes
) -> None:
    with Client(secure.address, verify=client_context(pairs["first"][0])) as client:
        assert client.synthesize(snapshot).startswith(b"\x89PNG")
    with (
        Client(secure.address, verify=client_context(pairs["second"][0]), retry=ONCE) as stranger,
        pytest.raises(Unreachable, match="certificate verify failed"),
    ):
        stranger.check_ready()
    plain = secure.address.replace("https", "http")
    with Client(plain, retry=ONCE) as careless, pytest.raises(Unreachable):
        careless.check_ready()
    log = secure.log.read_text()
    assert f"eye2face is ready on {secure.address}\n" in log and "Traceback" not in log
    with connect(secure, pairs["first"][0]) as line:
        assert line.version() == "TLSv1.3"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["localhost", None])
def test_a_new_certificate_is_shown_without_a_restart(
    secure: Running, shown: tuple[Path, Path], pairs: dict[str, tuple[Path, Path]], name: str | None
) -> None:
    ask = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"

    def shows(which: str) -> bool:
        try:
            connect(secure, pairs[which][0], name).close()
        except ssl.SSLCertVerificationError:
            return False
        return True

    with connect(secure, pairs["first"][0], name) as kept:
        shutil.copy(pairs["second"][0], shown[0])  # its key is not there yet
        wait_for(lambda: shows("first") and "previous: the private key in" in secure.log.read_text())
        shutil.copy(pairs["second"][1], shown[1])
        wait_for(lambda: shows("second"))
        assert not shows("first")
        shown[0].write_text("rubbish")
        wait_for(lambda: shows("second") and "holds no certificate in PEM" in secure.log.read_text())
        shown[0].unlink()
        wait_for(lambda: shows("second") and "cannot be read (No such file" in secure.log.read_text())
        kept.sendall(ask)
        assert kept.recv(65536).startswith(b"HTTP/1.1 200 ")


@pytest.mark.slow
def test_sigterm_does_not_wait_for_the_goodbye_of_idle_connections(
    secure: Running, pairs: dict[str, tuple[Path, Path]]
) -> None:
    with connect(secure, pairs["first"][0]) as idle:
        idle.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert idle.recv(65536).startswith(b"HTTP/1.1 200 ")
        begin = time.monotonic()
        secure.process.send_signal(signal.SIGTERM)
        assert secure.process.wait(30) == 0
        assert time.monotonic() - begin < 10  # it would have 20 s for work


@pytest.mark.parametrize("run", [uvloop.run, asyncio.run])
def test_who_does_not_begin_to_speak_tls_is_not_waited_for(
    pairs: dict[str, tuple[Path, Path]], monkeypatch: pytest.MonkeyPatch, run: Callable[..., float]
) -> None:
    monkeypatch.setattr(tls, "HANDSHAKE_TIMEOUT_S", 0.2)

    async def wait_for_the_end() -> float:
        loop = asyncio.get_running_loop()
        before = loop.create_server
        context = server_context(*pairs["first"])
        with tls_handshake_timeout(loop):
            server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0, ssl=context)
            plain = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
        assert loop.create_server == before
        plain.close()
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        begin = time.monotonic()
        assert await asyncio.wait_for(reader.read(), 20) == b""
        writer.close()
        server.close()
        return time.monotonic() - begin

    assert 0.1 < run(wait_for_the_end()) < 10


def test_the_key_may_be_in_the_file_of_the_certificate(
    tmp_path: Path, pairs: dict[str, tuple[Path, Path]]
) -> None:
    both = tmp_path / "both.pem"
    both.write_bytes(pairs["first"][0].read_bytes() + pairs["first"][1].read_bytes())
    assert server_context(both).minimum_version == ssl.TLSVersion.TLSv1_2


def test_files_that_are_no_certificate_are_refused_with_the_reason(
    tmp_path: Path, pairs: dict[str, tuple[Path, Path]]
) -> None:
    certificate, key = pairs["first"]
    rubbish = tmp_path / "rubbish"
    rubbish.write_bytes(b"\0rubbish")
    os.mkfifo(tmp_path / "fifo")
    large = tmp_path / "large"
    large.write_bytes(certificate.read_bytes() + b"\n" * tls.MAX_FILE_BYTES)
    encrypted = certify(tmp_path, "encrypted", "-passout", "pass:secret")
    for files, told in {
        (tmp_path / "none", key): r"none cannot be read \(No such file",
        (certificate, tmp_path / "none"): r"none cannot be read \(No such file",
        (tmp_path, key): r"cannot be read \(Is a directory",
        (tmp_path / "fifo", key): r"cannot be read \(Not a regular file",
        (certificate, Path("/dev/zero")): r"cannot be read \(Not a regular file",
        (large, None): r"cannot be read \(Larger than",
        (certificate, None): "or .* not its private key",
        (rubbish, key): "rubbish holds no certificate in PEM",
        (certificate, rubbish): "or .*rubbish not its private key",
        (certificate, pairs["second"][1]): "second.key is not that of the certificate in .*first.pem",
        encrypted: "is encrypted",
    }.items():
        with pytest.raises(ConfigurationError, match=told):
            server_context(*files)
    for path, told in {tmp_path / "none": "cannot be read", rubbish: "holds no certificates"}.items():
        with pytest.raises(ConfigurationError, match=told):
            client_context(path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("serve", "the file /none cannot be read (No such file or directory)"),
        ("bridge", "EYE2FACE_BRIDGE_CA_FILE: Path does not point to a file"),
    ],
)
def test_what_cannot_be_used_is_told_in_a_sentence(command: str, told: str) -> None:
    own = {"EYE2FACE_TLS_CERT_FILE": "/none", "EYE2FACE_BRIDGE_CA_FILE": "/none"}
    done = subprocess.run(
        [sys.executable, "-m", "service", command],
        cwd=ROOT, env=os.environ | own, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == f"eye2face: {told}\n"


@pytest.mark.slow
def test_the_bridge_trusts_a_service_whose_certificate_it_was_given(
    secure: Running, pairs: dict[str, tuple[Path, Path]], broker: Mosquitto, wire: Wire, frigate: Server
) -> None:
    with bridging(broker, frigate.address, secure.address, ca_file=pairs["second"][0], deadline_s=2):
        wait_for(lambda: online(wire))
        wire.event("1.0-a")
        wait_for(lambda: ids(wire, "error"))
    (error,) = wire.json_on("eye2face/front_door/error")
    assert "certificate verify failed" in error["detail"]
    with bridging(broker, frigate.address, secure.address, ca_file=pairs["first"][0]):
        wait_for(lambda: online(wire))
        wire.event("2.0-b")
        wait_for_results(wire, 1)


@pytest.mark.slow
def test_the_bridge_trusts_a_frigate_whose_certificate_it_was_given(
    secure: Running, pairs: dict[str, tuple[Path, Path]]
) -> None:
    """Any server with a certificate will do: this one has no such events and says so."""
    settings = BridgeSettings(frigate=secure.address, deadline_s=1)
    event = CameraEvent("1.0-a", "yard", event_id="1.0-a")
    known = FrigateEvents(settings, client_context(pairs["first"][0]))
    stranger = FrigateEvents(settings)
    with pytest.raises(Exception, match="it answers 404"):
        known.fetch(event)
    with pytest.raises(Exception, match="certificate verify failed"):
        stranger.fetch(event)
    known.close()
    stranger.close()
