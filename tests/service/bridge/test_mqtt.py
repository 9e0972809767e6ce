"""What the MQTT connection survives: lost brokers, killed bridges, bursts; nothing twice, nothing lost."""

import base64
import json
import re
import signal
import subprocess
import threading
import time
from pathlib import Path

import httpx
import pytest

from tests.certificates import certify
from tests.mqtt import Mosquitto, Wire, wait_for
from tests.real import require
from tests.running import find_free_port
from tests.service.bridges import bridge_process, bridging, ids, online, wait_for_results
from tests.troubled import Server, Trouble, answer, hold, make_trouble, snapshots

pytestmark = pytest.mark.slow


def test_what_is_drawn_while_the_broker_is_dead_is_published_once_when_it_is_back(
    tmp_path: Path, snapshot: bytes, ready_answer: Trouble
) -> None:
    gate = threading.Event()
    broker = Mosquitto(tmp_path / "mosquitto")
    broker.start()
    wire = Wire(broker.port)
    wanted = {f"1.{n}-a": 1 for n in range(12)}
    with (
        make_trouble([], then=hold(gate, snapshots(snapshot))) as frigate,
        make_trouble([], then=ready_answer) as drawing,
        bridging(broker, frigate.address, drawing.address, num_workers=4),
    ):
        wait_for(lambda: online(wire))
        for id in wanted:
            wire.event(id, qos=int(id[2]) % 2)
        wait_for(lambda: len(frigate.seen) == 4)
        broker.kill()
        gate.set()  # snapshots come, faces are drawn, and nobody is there to publish them to
        wait_for(lambda: len(drawing.seen) >= 4)
        broker.start()
        wait_for(lambda: len(ids(wire, "result")) == len(wanted))
        time.sleep(0.3)
    wire.close()
    broker.stop()
    assert ids(wire, "result") == wanted
    assert len(wire.on("eye2face/+/image")) == len(drawing.seen) == len(wanted)
    assert not wire.on("eye2face/+/error")


def test_a_broker_that_restarts_under_load_gets_everything_once(
    broker: Mosquitto, wire: Wire, frigate: Server, ready_answer: Trouble
) -> None:
    wanted = {f"1.{n}-a": 1 for n in range(150)}
    with (
        make_trouble([], then=ready_answer) as drawing,
        bridging(broker, frigate.address, drawing.address, num_workers=4),
    ):
        wait_for(lambda: online(wire))
        for id in wanted:
            wire.event(id)
        for part in (20, 80):
            wait_for_results(wire, part)
            broker.stop()
            broker.start()
        wait_for(lambda: len(ids(wire, "result")) == len(wanted))
        time.sleep(0.3)
    assert ids(wire, "result") == wanted
    assert len(wire.on("eye2face/+/image")) == len(wanted)


def test_a_burst_of_a_thousand_events_leaves_memory_flat_and_comes_out_once(
    broker: Mosquitto, wire: Wire, frigate: Server, ready_answer: Trouble
) -> None:
    with (
        make_trouble([], then=ready_answer) as drawing,
        bridge_process(broker, frigate.address, drawing.address, NUM_WORKERS="4") as process,
    ):
        wait_for(lambda: online(wire))
        for n in range(100):
            wire.event(f"0.{n}-warm", qos=0)
        wait_for(lambda: len(ids(wire, "result")) == 100)
        before = resident_bytes(process.pid)
        peak = before
        for n in range(1000):
            wire.event(f"1.{n}-a", qos=n % 2)
            peak = max(peak, resident_bytes(process.pid))

        def all_there() -> bool:
            nonlocal peak
            peak = max(peak, resident_bytes(process.pid))
            time.sleep(0.05)
            return sum(topic.endswith("/result") for topic, _, _ in wire.got) >= 1100

        wait_for(all_there)
        after = resident_bytes(process.pid)
    assert set(ids(wire, "result").values()) == {1}
    assert len(ids(wire, "result")) == 1100
    assert drawing.most_at_once <= 4
    assert frigate.most_at_once <= 4
    assert peak < before + 20_000_000  # a thousand waiting events are 2 MB; the rest is the allocator's
    assert after < before + 10_000_000


def resident_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.findall(r"VmRSS:\s+(\d+) kB", status)[0]) * 1000


def test_a_killed_bridge_is_offline_by_its_will_and_finds_its_events_again(
    broker: Mosquitto, wire: Wire, snapshot: bytes, ready_answer: Trouble
) -> None:
    gate = threading.Event()
    wanted = {f"1.{n}-a": 1 for n in range(6)}
    with (
        make_trouble([], then=hold(gate, snapshots(snapshot))) as frigate,
        make_trouble([], then=ready_answer) as drawing,
    ):
        with bridge_process(broker, frigate.address, drawing.address) as process:
            wait_for(lambda: online(wire))
            for id in wanted:
                wire.event(id)
            wait_for(lambda: frigate.seen)
            process.kill()
            process.wait()
        wait_for(lambda: wire.on("eye2face/available")[-1] == b"offline")
        wire.event("2.0-while-away")
        gate.set()
        with bridge_process(broker, frigate.address, drawing.address) as process:
            wait_for(lambda: len(ids(wire, "result")) == len(wanted) + 1)
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
    assert ids(wire, "result") == wanted | {"2.0-while-away": 1}
    wait_for(lambda: wire.on("eye2face/available")[-1] == b"offline")


def test_a_bridge_that_starts_again_remembers_what_is_done_if_it_has_a_file(
    broker: Mosquitto, wire: Wire, frigate: Server, address: str, tmp_path: Path
) -> None:
    for _ in range(2):
        with bridging(broker, frigate.address, address, memory_file=tmp_path / "done"):
            wait_for(lambda: online(wire))
            wire.event("1.0-a", "update")
            wire.event("2.0-b")
            wait_for_results(wire, 2)
        wait_for(lambda: wire.on("eye2face/available")[-1] == b"offline")
    assert ids(wire, "result") == {"1.0-a": 1, "2.0-b": 1}


def test_a_bridge_that_is_told_to_stop_first_ends_what_it_took(
    broker: Mosquitto, wire: Wire, frigate: Server, address: str
) -> None:
    with bridging(broker, frigate.address, address, num_workers=1):
        wait_for(lambda: online(wire))
        for n in range(10):
            wire.event(f"1.{n}-a", qos=0)
        wait_for(lambda: frigate.seen)
        time.sleep(0.2)  # the other nine wait
    wait_for_results(wire, 10)


def test_the_broker_may_ask_for_a_password(
    tmp_path: Path, frigate: Server, address: str, caplog: pytest.LogCaptureFixture
) -> None:
    tmp_path.joinpath("passwords").touch(mode=0o600)
    command = [require("mosquitto_passwd"), "-b", str(tmp_path / "passwords")]
    for name, password in (("bridge", "the secret"), ("wire", "another")):
        subprocess.run([*command, name, password], check=True, capture_output=True)
    extra = ("allow_anonymous false", f"password_file {tmp_path / 'passwords'}")
    broker = Mosquitto(tmp_path / "mosquitto", *extra)
    broker.start()
    wire = Wire(broker.port, "wire", "another")
    (tmp_path / "right").write_text("the secret\n")
    (tmp_path / "wrong").write_text("a guess\n")
    with bridging(
        broker, frigate.address, address, mqtt_username="bridge", mqtt_password_file=tmp_path / "wrong"
    ):
        wait_for(lambda: "refuses the connection: Not authorized" in caplog.text)
    with bridging(
        broker, frigate.address, address, mqtt_username="bridge", mqtt_password_file=tmp_path / "right"
    ):
        wait_for(lambda: online(wire))
        wire.event()
        wait_for(lambda: ids(wire, "result"))
    assert "the secret" not in caplog.text
    assert "a guess" not in caplog.text
    wire.close()
    broker.stop()


def test_a_face_that_is_too_long_for_the_broker_is_told_and_stops_no_other(
    tmp_path: Path, frigate: Server, ready_answer: Trouble
) -> None:
    broker = Mosquitto(tmp_path / "mosquitto", "allow_anonymous true", "max_packet_size 100000")
    broker.start()
    wire = Wire(broker.port)
    with make_trouble([], then=ready_answer) as drawing:
        long = httpx.get(drawing.address).json()
    long["faces"][0]["image"] = base64.b64encode(bytes(100_000)).decode()
    trouble = answer(200, json.dumps(long).encode(), content_type="application/json")
    with (
        make_trouble([trouble], then=ready_answer) as drawing,
        bridging(broker, frigate.address, drawing.address, num_workers=1),
    ):
        wait_for(lambda: online(wire))
        wire.event("1.0-long")
        wire.event("2.0-good")
        wait_for_results(wire, 1)
    assert ids(wire, "error") == {"1.0-long": 1}
    assert ids(wire, "result") == {"2.0-good": 1}
    wire.close()
    broker.stop()


def test_a_bridge_without_a_broker_says_so_and_stops_when_it_is_told(
    frigate: Server, address: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Nobody:
        port = find_free_port()

    with bridging(Nobody(), frigate.address, address):  # type: ignore[arg-type]
        wait_for(
            lambda: caplog.text.count("cannot be reached, trying again: [Errno 111] Connection refused") > 1
        )
    assert "not connected" not in caplog.text  # paho's line on top of ours


def test_the_line_may_be_tls_and_a_broker_that_is_not_known_gets_nothing(
    tmp_path: Path, frigate: Server, address: str
) -> None:
    for name in ("known", "unknown"):
        certify(tmp_path, name)
    plain = find_free_port()
    broker = Mosquitto(
        tmp_path / "mosquitto",
        f"certfile {tmp_path / 'known.pem'}",
        f"keyfile {tmp_path / 'known.key'}",
        f"listener {plain} 127.0.0.1",
        "allow_anonymous true",
    )
    broker.start()
    wire = Wire(plain)
    own = {"MQTT_HOST": "localhost", "MQTT_TLS": "true", "MQTT_CA_FILE": str(tmp_path / "unknown.pem")}
    # In a process of its own: paho leaves the socket of a failed handshake to the garbage collector.
    with bridge_process(broker, frigate.address, address, stderr=subprocess.PIPE, **own) as process:
        assert process.stderr is not None
        assert any(b"certificate verify failed" in line for line in process.stderr)
    assert not wire.on("eye2face/#")
    known = {"mqtt_host": "localhost", "mqtt_tls": True, "mqtt_ca_file": tmp_path / "known.pem"}
    with bridging(broker, frigate.address, address, **known):
        wait_for(lambda: online(wire))
        wire.event()
        wait_for_results(wire, 1)
    wire.close()
    broker.stop()
