"""Pictures that are posted to a bridge: taken once, kept until they are published, or refused."""

import base64
import hashlib
import io
import json
import re
import socket
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest

import service.bridge.intake
from service.bridge.bridge import Bridge
from service.bridge.intake import PictureIntake
from service.bridge.sources import MAX_PHOTO_BYTES
from service.settings import BridgeSettings, ConfigurationError
from tests.attacks.target import read_all
from tests.fakes import astronaut, encoded
from tests.mqtt import Mosquitto, Wire, wait_for
from tests.running import find_free_port
from tests.service.bridges import bridge_process, bridging, online, wait_for_results
from tests.troubled import Trouble, answer, hold, make_trouble

NOWHERE = "http://127.0.0.1:1"
JPEG = {"content-type": "image/jpeg"}


@pytest.fixture
def port() -> int:
    return find_free_port()


@pytest.fixture
def url(port: int) -> str:
    return f"http://127.0.0.1:{port}/cameras/yard/pictures"


def test_a_picture_becomes_a_face_once_in_each_form(
    broker: Mosquitto, wire: Wire, address: str, snapshot: bytes, port: int, url: str
) -> None:
    other = encoded(astronaut()[0:256, 96:352], "png")
    with bridging(broker, NOWHERE, address, source="pictures", http_port=port):
        wait_for(lambda: online(wire))
        ids = [
            each.raise_for_status().json()["id"]
            for each in (
                httpx.post(url, content=snapshot, headers=JPEG),
                httpx.post(url, content=snapshot, headers={"content-type": "image/png"}),
                httpx.post(url, json={"image": base64.b64encode(snapshot).decode()}),
                httpx.post(url, files={"image": io.BytesIO(snapshot)}),
                httpx.post(url, content=other, headers=JPEG),
            )
        ]
        wait_for(lambda: len(wire.json_on("eye2face/yard/result")) == 2)
    assert len(set(ids[:4])) == 1
    results = wire.json_on("eye2face/yard/result")
    assert [each["event_id"] for each in results] == [ids[0], ids[4]]
    assert [each["source_topic"] for each in results] == [None, None]


def test_frigates_events_and_pictures_are_drawn_by_one_bridge(
    broker: Mosquitto, wire: Wire, frigate: Any, address: str, snapshot: bytes, port: int, url: str
) -> None:
    with bridging(broker, frigate.address, address, http_port=port):
        wait_for(lambda: online(wire))
        assert httpx.post(url, content=snapshot, headers=JPEG).status_code == 202
        wire.event("1.0-a")
        wait_for_results(wire, 2)
        wait_for(lambda: wire.on("eye2face/yard/result"))


def test_without_a_broker_faces_go_to_the_webhook_and_none_that_was_accepted_is_dropped(
    broker: Mosquitto, wire: Wire, address: str, snapshot: bytes, port: int, url: str
) -> None:
    gate = threading.Event()

    def post(n: int) -> httpx.Response:
        return httpx.post(url, content=snapshot + bytes([n]), headers=JPEG)

    with make_trouble([], then=hold(gate, answer(204))) as receiver:
        options = {"http_port": port, "webhook": receiver.address, "max_waiting": 2}
        with bridging(broker, NOWHERE, address, source="http", **options):
            ids = [post(n).raise_for_status().json()["id"] for n in range(2)]
            assert (post(2).status_code, post(2).json()["code"]) == (503, "bridge_full")
            gate.set()
            ids.append(wait_for(lambda: (last := post(2)).is_success and last.json()["id"]))
            wait_for(lambda: len(receiver.seen) >= 3)
    assert {json.loads(seen.body)["data"]["event_id"] for seen in receiver.seen} == set(ids)
    assert not wire.on("eye2face/+") and not wire.on("eye2face/+/+")


@pytest.mark.slow
def test_what_is_no_picture_is_refused(
    broker: Mosquitto, wire: Wire, address: str, snapshot: bytes, port: int, url: str
) -> None:
    large = b"\xff\xd8\xff" + bytes(MAX_PHOTO_BYTES)
    json_large = b'{"image": "%b"}' % base64.b64encode(large)
    with bridging(broker, NOWHERE, address, source="pictures", http_port=port, cameras=("yard", "porch")):
        wait_for(lambda: online(wire))

        def post(
            content: bytes, type: str = "image/jpeg", camera: str = "yard", **headers: str
        ) -> tuple[int, str]:
            where = url.replace("/yard/", f"/{camera}/")
            got = httpx.post(where, content=content, headers={"content-type": type, **headers}, timeout=60)
            assert got.headers["content-type"] == "application/problem+json"
            return got.status_code, got.json()["code"]

        assert post(large) == post(json_large, "application/json") == (413, "upload_too_large")
        assert post(large * 2) == (413, "upload_too_large")
        assert post(b"GIF89a") == (415, "not_an_image")
        assert post(b"http://127.0.0.1/a.jpg", "text/plain") == (415, "unsupported_media_type")
        assert post(snapshot, "image/jpeg", **{"content-encoding": "gzip"}) == (415, "unsupported_media_type")
        assert post(b'{"url": "http://127.0.0.1/a.jpg"}', "application/json") == (422, "missing_field")
        assert post(b'{"image": "*"}', "application/json") == (400, "invalid_json")
        for camera in ("a%20b", "a+b", "a%23", "x" * 65, "a%0A", "garage"):
            assert post(snapshot, camera=camera) == (422, "invalid_parameter")
        assert post(snapshot, camera="a/b") == post(snapshot, camera="a%2Fb") == (404, "not_found")
        for foreign in ({"host": "attacker.example"}, {"origin": "https://attacker.example"}):
            assert post(snapshot, **foreign) == (403, "not_local")
            detail = httpx.post(url, headers=foreign).json()["detail"]
            assert re.findall(r"EYE2FACE_\w+", detail) == ["EYE2FACE_BRIDGE_API_KEYS_FILE"]
        assert httpx.get(url).status_code == 405
        assert httpx.post(url, content=snapshot, headers=JPEG).status_code == 202
        wait_for(lambda: wire.on("eye2face/yard/result"))
    assert len(wire.on("eye2face/+/result")) == 1


def test_with_keys_each_request_needs_one(
    broker: Mosquitto, wire: Wire, address: str, snapshot: bytes, port: int, url: str, tmp_path: Path
) -> None:
    (tmp_path / "keys").write_text(f"{hashlib.sha256(b'the key').hexdigest()} yard camera\n")
    settings = {"api_keys_file": tmp_path / "keys", "http_host": "0.0.0.0", "http_port": port}
    with bridging(broker, NOWHERE, address, source="pictures", **settings):
        wait_for(lambda: online(wire))
        for headers in ({}, {"x-api-key": "another"}):
            got = httpx.post(url, content=b"x" * 30_000_000, headers=JPEG | headers)
            assert (got.status_code, got.json()["code"]) == (401, "unauthorized")
        for headers in ({"x-api-key": "the key"}, {"authorization": "Bearer the key"}):
            assert httpx.post(url, content=snapshot, headers=JPEG | headers).status_code == 202
        wait_for(lambda: wire.on("eye2face/yard/result"))


def test_a_full_bridge_refuses_a_picture_and_takes_it_later(
    broker: Mosquitto, wire: Wire, ready_answer: Trouble, snapshot: bytes, port: int, url: str
) -> None:
    gate = threading.Event()
    pictures = [snapshot + bytes([n]) for n in range(4)]
    with (
        make_trouble([], then=hold(gate, ready_answer)) as drawing,
        bridging(
            broker, NOWHERE, drawing.address, source="pictures", http_port=port, num_workers=1, max_waiting=2
        ),
    ):
        wait_for(lambda: online(wire))
        assert httpx.post(url, content=pictures[0], headers=JPEG).status_code == 202
        wait_for(lambda: drawing.seen)
        got = [httpx.post(url, content=picture, headers=JPEG) for picture in pictures[1:]]
        assert [each.status_code for each in got] == [202, 202, 503]
        assert got[-1].json()["code"] == "bridge_full"
        gate.set()
        wait_for(lambda: len(wire.on("eye2face/yard/result")) == 3)
        assert httpx.post(url, content=pictures[3], headers=JPEG).status_code == 202
        wait_for(lambda: len(wire.on("eye2face/yard/result")) == 4)


@pytest.mark.slow
def test_a_picture_that_was_accepted_outlives_a_killed_bridge(
    broker: Mosquitto, wire: Wire, ready_answer: Trouble, snapshot: bytes, port: int, url: str, tmp_path: Path
) -> None:
    gate = threading.Event()
    settings: Any = {
        "SOURCE": "pictures", "HTTP_PORT": str(port), "MEMORY_FILE": str(tmp_path / "memory"),
    }  # fmt: skip
    with make_trouble([], then=hold(gate, ready_answer)) as drawing:
        with bridge_process(broker, NOWHERE, drawing.address, **settings) as process:
            wait_for(lambda: online(wire))
            ids = [
                httpx.post(url, content=snapshot + bytes([n]), headers=JPEG).raise_for_status().json()["id"]
                for n in range(5)
            ]
            process.kill()
            process.wait()
        gate.set()
        with bridge_process(broker, NOWHERE, drawing.address, **settings) as process:
            wait_for(lambda: len(wire.on("eye2face/yard/result")) == 5)
            process.terminate()
            assert process.wait(30) == 0
        with bridge_process(broker, NOWHERE, drawing.address, **settings) as process:
            wait_for(lambda: online(wire))
            httpx.post(url, content=snapshot + bytes([9]), headers=JPEG).raise_for_status()
            wait_for(lambda: len(wire.on("eye2face/yard/result")) == 6)
    results = [each["event_id"] for each in wire.json_on("eye2face/yard/result")]
    assert sorted(results[:5]) == sorted(ids)
    assert len(set(results)) == 6


def test_a_bridge_that_stops_answers_uploads_that_are_open(
    port: int, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service.bridge.intake, "_STOP_S", 0)
    reached = threading.Event()
    settings = BridgeSettings(source="pictures", http_port=port)
    server = PictureIntake(settings, lambda _: None, reached.set)
    server.open()
    head = b"POST /cameras/yard/pictures HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        client.sendall(head + b"Content-Length: 9\r\n\r\n\xff")
        assert reached.wait(20)
        stopping = threading.Thread(target=server.close, daemon=True)
        stopping.start()
        answer = read_all(client)
        stopping.join(20)
        assert not stopping.is_alive()
    assert answer.startswith(b"HTTP/1.1 503 ") and b'"code":"not_ready"' in answer
    assert not [each for each in caplog.records if each.exc_info]


def test_a_port_that_is_taken_is_said_to_be() -> None:
    with make_trouble([], then=answer(204)) as other:
        port = int(other.address.rpartition(":")[2])
        with pytest.raises(ConfigurationError, match=r"cannot listen on .* EYE2FACE_BRIDGE_HTTP_PORT"):
            Bridge(BridgeSettings(source="pictures", http_port=port))
