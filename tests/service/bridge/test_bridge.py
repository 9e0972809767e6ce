"""The bridge between a real mosquitto, a real service and a stand-in for Frigate's documented API."""

import base64
import hashlib
import io
import json
import os
import re
import statistics
import sys
import threading
import time
from pathlib import Path
from typing import Any

import PIL.Image
import pytest

import service
import service.bridge.bridge
import service.bridge.faces_on_mqtt
from service.bridge.bridge import Bridge
from service.bridge.mqtt import Publication
from service.bridge.sources import CameraEvent
from service.cli import main as cli
from service.client.client import Client
from tests.fakes import astronaut, encoded
from tests.mqtt import REVIEW, TRACKED_OBJECT_UPDATE, Mosquitto, Wire, event, wait_for
from tests.running import ROOT, find_free_port
from tests.service.bridges import bridging, ids, online, wait_for_results
from tests.troubled import (
    Server,
    Trouble,
    answer,
    drip_head,
    drop,
    early_hints,
    hold,
    make_trouble,
    pass_on,
    snapshots,
)

BUSY = answer(
    503,
    b'{"type": "t", "title": "t", "status": 503, "detail": "later", "code": "not_ready"}',
    content_type="application/problem+json",
)


@pytest.fixture(scope="module")
def face(address: str, snapshot: bytes) -> bytes:
    """The pixels of the face in the snapshot, with the label that the bridge asks for."""
    with Client(address) as client:
        return pixels(client.synthesize(snapshot, label=True))


def pixels(image: bytes) -> bytes:
    """What two files of one face have in common: their metadata tell apart when each was drawn."""
    return PIL.Image.open(io.BytesIO(image)).tobytes()


def test_an_event_becomes_a_face(
    broker: Mosquitto, wire: Wire, frigate: Server, address: str, face: bytes
) -> None:
    with bridging(broker, frigate.address, address):
        wait_for(lambda: online(wire))
        wire.event()
        (result,) = wait_for(lambda: wire.json_on("eye2face/front_door/result"))
        (image,) = wire.on("eye2face/front_door/image")
    assert pixels(image) == face
    assert PIL.Image.open(io.BytesIO(image)).size == (128, 128)
    assert result["sha256"] == hashlib.sha256(image).hexdigest()
    assert (result["event_id"], result["camera"]) == ("1607123955.475377-mxklsc", "front_door")
    assert (result["label"], result["zones"]) == ("person", ["yard", "driveway"])
    assert result["source_topic"] == "frigate/events"
    assert (result["format"], result["width"], result["height"]) == ("png", 128, 128)
    assert result["synthetic"] is result["not_for_identification"] is True
    assert result["eye"]["side"] in ("left", "right")
    assert result["quality"]["size_px"] > 10
    assert 0 <= result["certainty"] <= 1 and not result.keys() & {"image", "guesses", "spread"}
    assert result["model"]["name"] == "tiny"
    assert result["timings_ms"].keys() == {"waited", "snapshot", "service"}
    wait_for(lambda: wire.on("eye2face/available") == [b"online", b"offline"])
    (seen,) = frigate.seen
    path, _, query = seen.path.partition("?")
    assert path == "GET /api/events/1607123955.475377-mxklsc/snapshot.jpg"
    assert query == "crop=1&bbox=0&timestamp=0&height=0&quality=95"


def test_an_event_is_a_line_of_the_log(
    broker: Mosquitto, wire: Wire, frigate: Server, address: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "service.bridge")
    with bridging(broker, frigate.address, address):
        wait_for(lambda: online(wire))
        wire.event("1.0-a")
        wait_for(lambda: ids(wire, "result"))
    with bridging(broker, f"http://127.0.0.1:{find_free_port()}", address, deadline_s=1):
        wire.event("2.0-b")
        wait_for(lambda: ids(wire, "error"))
    drawn, failed = (record.message for record in caplog.records if " event " in record.message)
    assert re.fullmatch(r"front_door: a face for event '1.0-a' in \d+ ms", drawn)
    assert failed == "front_door: no face for event '2.0-b': snapshot_unavailable"


def test_home_assistant_hears_of_a_camera_once(
    broker: Mosquitto, wire: Wire, frigate: Server, address: str
) -> None:
    with bridging(broker, frigate.address, address, format="webp"):
        wait_for(lambda: online(wire))
        for n in range(3):
            wire.event(f"1.{n}-a")
        wait_for(lambda: len(ids(wire, "result")) == 3)
    (config,) = wire.json_on("homeassistant/image/eye2face/front_door/config")
    assert config["default_entity_id"] == "image.eye2face_front_door_synthetic_face"
    assert config["device"]["configuration_url"] == address
    assert config["origin"] == {"name": "eye2face", "sw_version": service.__version__}
    assert config["device"]["sw_version"] == service.__version__
    (event,) = wire.json_on("homeassistant/event/eye2face/front_door/config")
    assert event["default_entity_id"] == "event.eye2face_front_door_eye_event"
    assert event["unique_id"] == "eye2face_front_door_event"
    assert event["state_topic"] == "eye2face/front_door/event"
    assert event["event_types"] == ["face_drawn", "eye_refused", "no_eye", "failed"]
    assert event["device"] == config["device"]
    told = {"event_type": "face_drawn", "event_id": "1.0-a", "code": None}
    assert told in wire.json_on("eye2face/front_door/event")
    assert config["image_topic"] == "eye2face/front_door/image"
    assert config["json_attributes_topic"] == "eye2face/front_door/result"
    assert (config["content_type"], config["availability_topic"]) == ("image/webp", "eye2face/available")
    assert config["unique_id"] == "eye2face_front_door_face"
    with bridging(broker, frigate.address, address, home_assistant=False):
        wire.event("2.0-a", camera="yard")
        wait_for(lambda: wire.on("eye2face/yard/result"))
    assert len(wire.on("homeassistant/#")) == 2
    assert not wire.on("eye2face/yard/event")


def test_nothing_is_written_to_frigate_and_no_identity_is_told(
    broker: Mosquitto, wire: Wire, frigate: Server, address: str
) -> None:
    with bridging(broker, frigate.address, address):
        wait_for(lambda: online(wire))
        wire.event(sub_label=["Somebody", 0.9])
        wait_for(lambda: ids(wire, "result"))
    assert {each.path.split()[0] for each in frigate.seen} == {"GET"}
    assert {topic.split("/")[0] for topic, _, _ in wire.got} == {"eye2face", "homeassistant"}
    assert b"Somebody" not in b"".join(payload for _, payload, _ in wire.got)
    assert not [path for path in (ROOT / "service").rglob("*.py") if "/sub_label" in path.read_text()]


def test_only_what_passes_the_filter_is_taken_and_an_event_as_soon_as_it_does(
    broker: Mosquitto, wire: Wire, frigate: Server, address: str
) -> None:
    options: dict[str, Any] = {"cameras": ("front_door",), "zones": ("yard", "porch"), "min_area": 20_000}
    with bridging(broker, frigate.address, address, **options):
        wait_for(lambda: online(wire))
        wrong: list[dict[str, Any]] = [
            {"camera": "back"},
            {"label": "car"},
            {"entered_zones": ["street"]},
            {"entered_zones": []},
            {"area": 19_999},
            {"has_snapshot": False},
            {"false_positive": True},
        ]
        for n, changes in enumerate(wrong):
            wire.event(f"1.{n}-wrong", **changes)
        wire.event("2.0-late", has_snapshot=False)
        wire.event("2.0-late", "update", area=100)
        wire.event("2.0-late", "update")
        wait_for(lambda: ids(wire, "result"))
    assert ids(wire, "result") == {"2.0-late": 1}
    assert not wire.on("eye2face/+/error")
    assert len(frigate.seen) == 1


def test_an_event_is_taken_once_in_whatever_order_its_messages_come(
    broker: Mosquitto, wire: Wire, frigate: Server, address: str
) -> None:
    with bridging(broker, frigate.address, address):
        wait_for(lambda: online(wire))
        for type in ("end", "update", "new", "new", "update", "end"):
            for n in range(3):
                wire.event(f"1.{n}-a", type, qos=n)
        wire.event("9.9-last")
        wait_for(lambda: ids(wire, "result")["9.9-last"])
        wire.event("1.0-a", "end")
        wire.event("9.9-really")
        wait_for(lambda: ids(wire, "result")["9.9-really"])
    assert set(ids(wire, "result").values()) == {1}
    assert len(ids(wire, "result")) == len(frigate.seen) == 5


def test_with_when_end_an_event_waits_for_its_end(
    broker: Mosquitto, wire: Wire, frigate: Server, address: str
) -> None:
    with bridging(broker, frigate.address, address, when="end"):
        wait_for(lambda: online(wire))
        wire.event("1.0-a", "new")
        wire.event("1.0-a", "update")
        wire.event("2.0-b", "end")
        wait_for(lambda: ids(wire, "result")["2.0-b"])
        assert ids(wire, "result") == {"2.0-b": 1}
        wire.event("1.0-a", "end")
        wait_for(lambda: ids(wire, "result")["1.0-a"])


def changed(name: str, value: object) -> dict[str, Any]:
    whole = event()
    whole["after"][name] = value
    return whole


HOSTILE = {
    "nothing but a word": b"hello",
    "no UTF-8": b"\xff\xfe\x00",
    "cut off": json.dumps(event()).encode()[:-5],
    "a list": b"[]",
    "deep": b'{"after":' * 100_000,
    "deep and whole": b"[" * 5000 + b"]" * 5000,
    "long": b'"' + b"x" * 900_000 + b'"',
    "a number without end": b'{"type": "new", "after": {"area": 1' + b"0" * 100_000 + b"}}",
    "no after": b'{"type": "new"}',
    "an unknown type": json.dumps(event(type="stolen")).encode(),
    **{
        f"after.{name} = {value!r}"[:60]: json.dumps(changed(name, value)).encode()
        for name, value in [
            ("id", "../../config"),
            ("id", "..%2f..%2fconfig"),
            ("id", "a/b"),
            ("id", "a?b=c"),
            ("id", ".hidden"),
            ("id", ""),
            ("id", "x" * 65),
            ("id", 7),
            ("id", None),
            ("camera", "+"),
            ("camera", "#"),
            ("camera", "a/b"),
            ("camera", "a\u0000b"),
            ("camera", "front door"),
            ("camera", "a\n"),
            ("camera", ["front_door"]),
            ("label", ""),
            ("label", "x" * 10_000),
            ("area", "23744"),
            ("area", -1),
            ("area", float("nan")),
            ("area", float("inf")),
            ("has_snapshot", "yes"),
            ("entered_zones", "yard"),
            ("entered_zones", ["x"] * 1000),
            ("entered_zones", [{}]),
        ]
    },
}


def test_a_hostile_message_is_refused_and_the_next_one_is_taken(
    broker: Mosquitto, wire: Wire, frigate: Server, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service.bridge.bridge, "_REPORT_INTERVAL_S", 0)
    with bridging(broker, frigate.address, address):
        wait_for(lambda: online(wire))
        for payload in HOSTILE.values():
            wire.publish("frigate/events", payload)
        wire.publish("frigate/events", b"[" * 3_000_000)  # more than the bridge lets the broker send
        wire.publish("frigate/events", b"")
        wire.event("1.0-good")
        wait_for(lambda: ids(wire, "result")["1.0-good"])
    assert len(frigate.seen) == 1
    refused = wire.json_on("eye2face/error")
    assert [each["code"] for each in refused] == ["message_refused"] * len(HOSTILE)
    assert all(len(each["detail"]) < 400 for each in refused)
    assert sum("An event of front_door is" in each["detail"] for each in refused) == 20
    assert {topic for topic, _, _ in wire.got if topic.startswith("eye2face/")} == {
        *("eye2face/available", "eye2face/error"),
        *(f"eye2face/front_door/{name}" for name in ("image", "result", "event")),
    }


def test_a_flood_of_hostile_messages_makes_no_flood_of_errors(
    broker: Mosquitto, wire: Wire, frigate: Server, address: str
) -> None:
    with bridging(broker, frigate.address, address):
        wait_for(lambda: online(wire))
        start = time.monotonic()
        for _ in range(300):
            wire.publish("frigate/events", b"x", qos=0)
        wire.event("1.0-good")
        wait_for(lambda: ids(wire, "result")["1.0-good"])
        assert 1 <= len(wire.on("eye2face/error")) <= 1 + (time.monotonic() - start)


@pytest.mark.slow
def test_a_snapshot_that_comes_late_is_waited_for(
    broker: Mosquitto, wire: Wire, frigate: Server, address: str
) -> None:
    frigate.troubles += [answer(404), drop, answer(500), answer(503)]
    with bridging(broker, frigate.address, address, num_workers=1):
        wait_for(lambda: online(wire))
        wire.event("1.0-a")
        wait_for(lambda: ids(wire, "result")["1.0-a"])
    assert len(frigate.seen) == 5


@pytest.mark.slow
def test_without_frigate_an_event_ends_as_an_error(broker: Mosquitto, wire: Wire, address: str) -> None:
    nowhere = f"http://127.0.0.1:{find_free_port()}"
    with bridging(broker, nowhere, address, deadline_s=5):
        wait_for(lambda: online(wire))
        wire.event("1.0-a")
        (error,) = wait_for(lambda: wire.json_on("eye2face/front_door/error"))
    assert (error["code"], error["event_id"]) == ("snapshot_unavailable", "1.0-a")
    assert "refused" in error["detail"]
    assert not wire.on("eye2face/+/result")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        (answer(401), "FRIGATE_TOKEN_FILE"),
        (answer(404), "404"),
        (answer(200), "0 bytes"),
        (answer(302, location="http://127.0.0.1:1/login"), "302 and redirects to http://127.0.0.1:1/login"),
        (answer(200, b"<html>", content_type="text/html; charset=utf-8"), "Frigate answered text/html"),
        (answer(200, b"x", content_type="image/jpeg", content_encoding="gzip"), "encoded as gzip"),
        (drip_head, "the deadline is over"),
        (early_hints, "the deadline is over"),
    ],
    ids=["no leave", "no such event", "empty", "elsewhere", "login page", "compressed", "drips", "103"],
)
def test_what_frigate_does_not_give_is_told(
    broker: Mosquitto, wire: Wire, frigate: Server, address: str, trouble: Trouble, said: str
) -> None:
    frigate.then = trouble
    with bridging(broker, frigate.address, address, deadline_s=1):
        wait_for(lambda: online(wire))
        wire.event("1.0-a")
        (error,) = wait_for(lambda: wire.json_on("eye2face/front_door/error"))
    assert error["code"] == "snapshot_unavailable"
    assert said in error["detail"]


def test_frigates_token_goes_with_each_request(
    broker: Mosquitto, wire: Wire, frigate: Server, address: str, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("the token\n")
    with bridging(broker, frigate.address, address, frigate_token_file=tmp_path / "token"):
        wait_for(lambda: online(wire))
        wire.event("1.0-a")
        wait_for_results(wire, 1)
        (tmp_path / "token").write_text("the next one\n")
        wire.event("2.0-b")
        wait_for_results(wire, 2)
        (tmp_path / "token").write_text("")
        wire.event("3.0-c")
        (error,) = wait_for(lambda: wire.json_on("eye2face/front_door/error"))
    sent = [seen.headers["authorization"] for seen in frigate.seen]
    assert sent == ["Bearer the token", "Bearer the next one"]
    assert str(tmp_path) not in error["detail"], "everybody sees it"


@pytest.mark.slow
def test_an_overloaded_service_is_waited_for_and_then_told(
    broker: Mosquitto, wire: Wire, frigate: Server, address: str
) -> None:
    with make_trouble([BUSY, BUSY], then=pass_on(address)) as busy:
        with bridging(broker, frigate.address, busy.address):
            wait_for(lambda: online(wire))
            wire.event("1.0-a")
            wait_for(lambda: ids(wire, "result")["1.0-a"])
        busy.then = BUSY
        with bridging(broker, frigate.address, busy.address, deadline_s=1):
            wire.event("2.0-b")
            (error,) = wait_for(lambda: wire.json_on("eye2face/front_door/error"))
    assert (error["event_id"], error["code"], error["detail"]) == ("2.0-b", "not_ready", "later")


def test_what_the_service_refuses_is_told_once(
    broker: Mosquitto, wire: Wire, frigate: Server, address: str
) -> None:
    frigate.then = snapshots(encoded(astronaut()[300:400, :100], "jpeg"))  # her flag, no eye
    with bridging(broker, frigate.address, address):
        wait_for(lambda: online(wire))
        wire.event("1.0-a")
        (error,) = wait_for(lambda: wire.json_on("eye2face/front_door/error"))
        wire.event("1.0-a", "end")
        wire.event("2.0-b")
        wait_for(lambda: ids(wire, "error")["2.0-b"])
    assert error["code"] == "no_eye_found"
    assert re.fullmatch("[0-9a-f]{32}", error["request_id"])
    assert ids(wire, "error") == {"1.0-a": 1, "2.0-b": 1}
    told = {"event_type": "no_eye", "event_id": "1.0-a", "code": "no_eye_found"}
    assert told in wire.json_on("eye2face/front_door/event")


def test_a_snapshot_on_mqtt_becomes_a_face_once_and_a_retained_one_none(
    broker: Mosquitto, wire: Wire, frigate: Server, address: str, snapshot: bytes, face: bytes
) -> None:
    wire.publish("frigate/old/person/snapshot", snapshot, retain=True)
    with bridging(broker, frigate.address, address, source="snapshots"):
        wait_for(lambda: online(wire))
        for topic in ("yard/person", "yard/person", "yard/car", "a b/person"):
            wire.publish(f"frigate/{topic}/snapshot", snapshot, retain=True)
        wire.publish("frigate/porch/person/snapshot", snapshot)
        wait_for(lambda: wire.on("eye2face/porch/result"))
    images = wire.on("eye2face/yard/image") + wire.on("eye2face/porch/image")
    assert [pixels(image) for image in images] == [face] * 2
    assert not wire.on("eye2face/old/#")
    assert {each["event_id"] for each in wire.json_on("eye2face/+/result")} == {None}
    assert not frigate.seen


def test_pictures_on_topics_become_faces_once_and_hostile_ones_none(
    broker: Mosquitto, wire: Wire, address: str, snapshot: bytes, face: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service.bridge.bridge, "_REPORT_INTERVAL_S", 0)
    wire.publish("cams/old/picture", snapshot, retain=True)
    topics = ("cams/{camera}/picture", "{camera}/image", "eye2face/{camera}/image")
    with bridging(broker, "http://127.0.0.1:1", address, source="pictures", picture_topics=topics):
        wait_for(lambda: online(wire))
        hostile = {
            "cams/yard/picture": [b"*" * 10_000_000, b"\xff" * 10_000_000, b"GIF89a", b"x" * 30_000_000, b""],
            "cams/a b/picture": [snapshot],
            f"cams/{'x' * 65}/picture": [snapshot],
            "cams//picture": [snapshot],
            "cams/a/b/picture": [snapshot],
        }
        for topic, payloads in hostile.items():
            for payload in payloads:
                wire.publish(topic, payload)
        wire.publish("cams/yard/picture", snapshot, retain=True)
        wire.publish("cams/yard/picture", base64.b64encode(snapshot))
        wire.publish("porch/image", b"data:image/jpeg;base64," + base64.b64encode(snapshot), qos=0)
        wait_for(lambda: len(wire.json_on("eye2face/+/result")) == 2)
        wait_for(lambda: wire.on("eye2face/porch/result"))
    images = wire.on("eye2face/yard/image") + wire.on("eye2face/porch/image")
    assert [pixels(image) for image in images] == [face] * 2
    (result,) = wire.json_on("eye2face/yard/result")
    assert (result["event_id"], result["label"], result["zones"]) == (None, None, [])
    assert result["source_topic"] == "cams/yard/picture"
    refused = [each["detail"] for each in wire.json_on("eye2face/error")]
    assert [text.split(" is ")[0] for text in refused] == [
        *["A picture of yard"] * 3, "The camera in topic 'cams/a b/picture'",
        f"The camera in topic 'cams/{'x' * 65}/picture'", "The camera in topic 'cams//picture'",
    ]  # fmt: skip
    assert {topic for topic, _, _ in wire.got if topic.startswith("eye2face/")} == {
        *("eye2face/available", "eye2face/error"),
        *(f"eye2face/{at}/{name}" for at in ("yard", "porch") for name in ("image", "result", "event")),
    }


def test_more_events_than_may_wait_are_refused_and_said_to_be(
    broker: Mosquitto, wire: Wire, snapshot: bytes, ready_answer: Trouble
) -> None:
    gate = threading.Event()
    with (
        make_trouble([], then=hold(gate, snapshots(snapshot))) as frigate,
        make_trouble([], then=ready_answer) as drawing,
        bridging(broker, frigate.address, drawing.address, num_workers=1, max_waiting=2),
    ):
        wait_for(lambda: online(wire))
        wire.event("1.0-a")
        wait_for(lambda: frigate.seen)
        for n in range(1, 4):
            wire.event(f"1.{n}-a")
        (error,) = wait_for(lambda: wire.json_on("eye2face/error"))
        assert (error["code"], "1.3-a" in error["detail"]) == ("bridge_full", True)
        gate.set()
        wait_for(lambda: len(ids(wire, "result")) == 3)
        wire.event("1.3-a", "update")  # it was not taken, so it can be now
        wait_for(lambda: ids(wire, "result")["1.3-a"])


def fail_to_start(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line in which `eye2face bridge` says why it does not start."""
    with pytest.raises(SystemExit) as ended:
        cli.main(["bridge"])
    assert ended.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("MQTT_PORT", "0", "EYE2FACE_BRIDGE_MQTT_PORT: "),
        ("FRIGATE", "frigate:5000", "EYE2FACE_BRIDGE_FRIGATE: "),
        ("FRIGATE", "http://frigate:port", "Invalid port"),
        ("MQTT_HOST", "mqtt://broker", "EYE2FACE_BRIDGE_MQTT_HOST: "),
        ("MQTT_PASSWORD_FILE", "/nowhere", "EYE2FACE_BRIDGE_MQTT_PASSWORD_FILE: "),
        ("SERVICE_KEY_FILE", os.devnull, "EYE2FACE_BRIDGE_SERVICE_KEY_FILE: "),
        ("MEMORY_FILE", "/nowhere/done", "EYE2FACE_BRIDGE_MEMORY_FILE: "),
        ("CA_FILE", "/nowhere", "EYE2FACE_BRIDGE_CA_FILE: "),
    ],
)
def test_a_bridge_that_cannot_start_says_why_in_one_line(
    setting: str, value: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(f"EYE2FACE_BRIDGE_{setting}", value)
    line = fail_to_start(capsys)
    assert line.startswith("eye2face: ") and said in line


def test_without_paho_the_bridge_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "paho.mqtt.client", None)
    for module in ("bridge", "deduplication", "faces_on_mqtt", "home_assistant", "mqtt"):
        monkeypatch.delitem(sys.modules, f"service.bridge.{module}", raising=False)
    told = fail_to_start(capsys)
    assert told == "eye2face: The bridge needs paho-mqtt: pip install '.[mqtt]' in the checkout."


@pytest.mark.slow
def test_the_bridges_own_share_of_the_time_is_small(
    broker: Mosquitto, wire: Wire, frigate: Server, address: str
) -> None:
    ratios = []
    with bridging(broker, frigate.address, address):
        wait_for(lambda: online(wire))
        for n in range(11):
            start = time.monotonic()
            wire.event(f"1.{n}-a", qos=0)
            wait_for_results(wire, n + 1)
            published = [at for topic, _, at in wire.got if topic.endswith("/image")][-1]
            timings = wire.json_on("eye2face/+/result")[-1]["timings_ms"]
            ratios.append((published - start) * 1000 / (timings["snapshot"] + timings["service"]))
    print(f"event to published face over snapshot + service: {statistics.median(ratios[1:]):.3f}")
    assert statistics.median(ratios[1:]) <= 1.2  # the first one opens connections and announces the camera


def test_a_bug_about_one_message_does_not_end_the_connection(
    broker: Mosquitto, wire: Wire, frigate: Server, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with bridging(broker, frigate.address, address) as bridge:
        real = bridge._source.read

        def read(topic: str, payload: bytes) -> CameraEvent | None:
            if b"1.0-bug" in payload:
                raise RuntimeError("a bug of ours")
            return real(topic, payload)

        monkeypatch.setattr(bridge._source, "read", read)
        wait_for(lambda: online(wire))
        for _ in range(30):  # more than the broker sends before the first is acknowledged
            wire.event("1.0-bug")
        wire.event("2.0-good")
        wait_for(lambda: ids(wire, "result"))
    assert ids(wire, "result") == {"2.0-good": 1}
    assert wire.json_on("eye2face/error")[0]["code"] == "internal_error"


def test_a_bug_about_one_event_is_published_and_the_worker_goes_on(
    broker: Mosquitto, wire: Wire, frigate: Server, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with bridging(broker, frigate.address, address, num_workers=1) as bridge:
        real = bridge._source.fetch

        def fetch(event: CameraEvent) -> bytes:
            if event.event_id == "1.0-bug":
                raise RuntimeError("a bug of ours")
            return real(event)

        monkeypatch.setattr(bridge._source, "fetch", fetch)
        wait_for(lambda: online(wire))
        wire.event("1.0-bug")
        wire.event("2.0-good")
        wait_for(lambda: ids(wire, "result"))
    (error,) = wire.json_on("eye2face/front_door/error")
    assert (error["event_id"], error["code"]) == ("1.0-bug", "internal_error")
    assert ids(wire, "result") == {"2.0-good": 1}


def fail_to_publish(
    bridge: Bridge, topic: str, times: int, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lets the next publications on this topic raise the error."""
    publish, left = bridge._mqtt.publish, [error] * times

    def publish_or_fail(message: Publication) -> None:
        if message.topic == topic and left:
            raise left.pop()
        publish(message)

    monkeypatch.setattr(bridge._mqtt, "publish", publish_or_fail)
    monkeypatch.setattr(service.bridge.faces_on_mqtt, "_RETRY_S", 0.01)


ANY_KIND = [RuntimeError("a bug"), OSError("lost"), MemoryError(), SystemExit(1)]


@pytest.mark.slow
@pytest.mark.parametrize("error", ANY_KIND, ids=lambda error: type(error).__name__)
def test_an_exception_while_publishing_is_tried_again_and_nothing_is_published_twice(
    broker: Mosquitto,
    wire: Wire,
    frigate: Server,
    address: str,
    error: BaseException,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with bridging(broker, frigate.address, address, num_workers=1) as bridge:
        fail_to_publish(bridge, "eye2face/front_door/result", 2, error, monkeypatch)
        wait_for(lambda: online(wire))
        wire.event("1.0-a")
        wait_for(lambda: ids(wire, "result")["1.0-a"])
        wire.event("2.0-b")
        wait_for(lambda: ids(wire, "result")["2.0-b"])
    assert ids(wire, "result") == {"1.0-a": 1, "2.0-b": 1}
    assert len(wire.on("eye2face/front_door/image")) == 2
    assert not wire.on("eye2face/front_door/error")


def test_an_event_that_cannot_be_published_is_told_as_an_error(
    broker: Mosquitto, wire: Wire, frigate: Server, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with bridging(broker, frigate.address, address, num_workers=1) as bridge:
        fail_to_publish(bridge, "eye2face/front_door/result", 3, RuntimeError("a bug"), monkeypatch)
        wait_for(lambda: online(wire))
        wire.event("1.0-a")
        wire.event("2.0-b")
        wait_for(lambda: ids(wire, "result"))
        wire.event("1.0-a", "update")  # it is done
        wire.event("3.0-c")
        wait_for(lambda: ids(wire, "result")["3.0-c"])
    (error,) = wire.json_on("eye2face/front_door/error")
    assert (error["event_id"], error["code"]) == ("1.0-a", "internal_error")
    assert ids(wire, "result") == {"2.0-b": 1, "3.0-c": 1}


def test_a_dead_worker_is_replaced(
    broker: Mosquitto, wire: Wire, frigate: Server, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service.bridge.bridge, "_CHECK_INTERVAL_S", 0.05)
    with bridging(broker, frigate.address, address) as bridge:
        wait_for(lambda: online(wire))
        for _ in range(2):
            bridge._queue.put(None)  # ends a worker
        wait_for(lambda: b"offline" in wire.on("eye2face/available"))
        wait_for(lambda: online(wire))
        wire.event("1.0-a")
        wait_for(lambda: ids(wire, "result"))


@pytest.mark.slow
def test_a_bridge_without_a_worker_is_offline_until_there_is_one(
    broker: Mosquitto, wire: Wire, frigate: Server, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = threading.Thread.start

    def start_no_worker(thread: threading.Thread) -> None:
        if thread.name == "worker":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(service.bridge.bridge, "_CHECK_INTERVAL_S", 0.05)
    monkeypatch.setattr(threading.Thread, "start", start_no_worker)
    with bridging(broker, frigate.address, address):
        wait_for(lambda: wire.on("eye2face/available")[-1:] == [b"offline"])
        wire.event("1.0-a")
        broker.stop()
        broker.start()
        wait_for(lambda: wire.on("eye2face/available")[-2:] == [b"offline", b"offline"])
        monkeypatch.setattr(threading.Thread, "start", start)
        wait_for(lambda: ids(wire, "result"))
        assert online(wire)


def test_other_messages_of_frigate_are_passed_over_and_a_webp_snapshot_is_drawn(
    broker: Mosquitto, wire: Wire, frigate: Server, address: str
) -> None:
    frigate.then = snapshots(encoded(astronaut(), "webp"))
    with bridging(broker, frigate.address, address):
        wait_for(lambda: online(wire))
        wire.publish("frigate/reviews", json.dumps(REVIEW))
        wire.publish("frigate/tracked_object_update", json.dumps(TRACKED_OBJECT_UPDATE))
        wire.event("1.0-a")
        wait_for(lambda: ids(wire, "result"))
    assert not wire.on("eye2face/error")
