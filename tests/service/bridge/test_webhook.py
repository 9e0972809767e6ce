"""The webhook: CloudEvents that a real receiver gets, signed, once each, whatever happens to it."""

import base64
import hashlib
import hmac
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

import service.bridge.webhook
from service.bridge.database import Database
from service.bridge.outcomes import Outcome
from service.bridge.sources import CameraEvent
from service.bridge.webhook import Webhook
from service.errors import Eye2FaceError, EyeTooDark, NoEyeFound
from service.settings import BridgeSettings, ConfigurationError
from tests.fakes import astronaut, encoded
from tests.mqtt import Mosquitto, Wire, wait_for
from tests.service.bridges import bridge_process, bridging, ids, online, wait_for_results
from tests.troubled import Seen, Server, Trouble, answer, drop, hang, hold, make_trouble, snapshots

SECRET = b"0123456789abcdef01234567"
TAKEN = answer(204)


@pytest.fixture
def receiver() -> Iterator[Server]:
    """A server that takes everything."""
    with make_trouble([], then=TAKEN) as server:
        yield server


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits between tries that a test has the time for."""
    quick = replace(service.bridge.webhook._ONE_TRY, backoff_s=0.02, max_backoff_s=0.1)
    monkeypatch.setattr(service.bridge.webhook, "_ONE_TRY", quick)


def events(receiver: Server) -> list[dict[str, Any]]:
    return [json.loads(seen.body) for seen in list(receiver.seen)]


def test_a_face_is_a_signed_cloud_event(
    broker: Mosquitto, wire: Wire, frigate: Server, address: str, receiver: Server, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text(f"whsec_{base64.b64encode(SECRET).decode()}\n")
    options = {"webhook": f"{receiver.address}/hook?a=b", "webhook_secret_file": tmp_path / "secret"}
    with bridging(broker, frigate.address, address, **options):
        wait_for(lambda: online(wire))
        wire.event()
        wait_for(lambda: receiver.seen)
        wait_for_results(wire, 1)
    (seen,), (result,) = receiver.seen, wire.json_on("eye2face/front_door/result")
    assert seen.path == "POST /hook?a=b"
    assert seen.headers["content-type"] == "application/cloudevents+json"
    told = json.loads(seen.body)
    assert told.pop("data") == result
    assert abs(datetime.fromisoformat(told.pop("time")).timestamp() - time.time()) < 60
    assert told == {
        "specversion": "1.0",
        "id": seen.headers["webhook-id"],
        "source": "/bridge/eye2face-bridge/front_door",
        "type": "io.eye2face.face.drawn.v1",
        "datacontenttype": "application/json",
    }
    assert re.fullmatch("[0-9a-f]{32}", told["id"])
    check_signature(seen)


def check_signature(seen: Seen) -> None:
    """As the specification of Standard Webhooks has it."""
    id, timestamp = seen.headers["webhook-id"], seen.headers["webhook-timestamp"]
    assert abs(int(timestamp) - time.time()) < 60
    digest = hmac.new(SECRET, f"{id}.{timestamp}.".encode() + seen.body, hashlib.sha256).digest()
    assert seen.headers["webhook-signature"] == "v1," + base64.b64encode(digest).decode()


def test_the_image_is_in_it_if_asked_for_and_nothing_is_signed_without_a_secret(
    broker: Mosquitto, wire: Wire, frigate: Server, address: str, receiver: Server
) -> None:
    with bridging(broker, frigate.address, address, webhook=receiver.address, webhook_image=True):
        wait_for(lambda: online(wire))
        wire.event()
        wait_for(lambda: receiver.seen)
        wait_for_results(wire, 1)
    (told,), (image,) = events(receiver), wire.on("eye2face/front_door/image")
    assert base64.b64decode(told["data"]["image"], validate=True) == image
    assert "webhook-signature" not in receiver.seen[0].headers


def test_what_has_no_face_is_refused_or_failed(
    broker: Mosquitto, wire: Wire, frigate: Server, address: str, receiver: Server
) -> None:
    frigate.troubles += [snapshots(encoded(astronaut()[300:400, :100], "jpeg")), answer(401)]
    with bridging(broker, frigate.address, address, webhook=receiver.address, num_workers=1):
        wait_for(lambda: online(wire))
        wire.event("1.0-no-eye")
        wire.event("2.0-failed")
        wait_for(lambda: len(receiver.seen) == 2)
        wait_for(lambda: len(ids(wire, "error")) == 2)
    told = events(receiver)
    assert [each["type"] for each in told] == ["io.eye2face.face.refused.v1", "io.eye2face.face.failed.v1"]
    assert [each["data"] for each in told] == wire.json_on("eye2face/front_door/error")
    assert [each["data"]["code"] for each in told] == ["no_eye_found", "snapshot_unavailable"]


def test_a_receiver_that_fails_gets_everything_once_when_it_is_back(
    broker: Mosquitto, wire: Wire, frigate: Server, ready_answer: Trouble, receiver: Server, quick: None
) -> None:
    receiver.troubles += [drop, answer(500), answer(429, retry_after="1"), answer(503), answer(404)]
    wanted = {f"1.{n}-a": 1 for n in range(20)}
    with (
        make_trouble([], then=ready_answer) as drawing,
        bridging(broker, frigate.address, drawing.address, webhook=receiver.address),
    ):
        wait_for(lambda: online(wire))
        for id in wanted:
            wire.event(id)
        wait_for(lambda: len(receiver.seen) == len(wanted) + 5)
    assert Counter(each["data"]["event_id"] for each in taken(receiver)) == wanted
    assert ids(wire, "result") == wanted


def taken(receiver: Server) -> list[dict[str, Any]]:
    """The messages after the five troubles."""
    return events(receiver)[5:]


def test_a_message_that_the_receiver_does_not_want_stops_no_other(
    broker: Mosquitto, wire: Wire, frigate: Server, address: str, quick: None
) -> None:
    def judge(handler: Any) -> None:
        (answer(400) if b"1.0-bad" in handler.seen.body else TAKEN)(handler)

    with (
        make_trouble([], then=judge) as receiver,
        bridging(broker, frigate.address, address, webhook=receiver.address, num_workers=1),
    ):
        wait_for(lambda: online(wire))
        for id in ("1.0-bad", "2.0-good", "3.0-good"):
            wire.event(id)

        def got(id: str) -> int:
            return sum(each["data"]["event_id"] == id for each in events(receiver))

        wait_for(lambda: got("3.0-good") == got("2.0-good") == 1 and got("1.0-bad") > 3)
    tries = [seen for seen in receiver.seen if b"1.0-bad" in seen.body]
    assert len({seen.headers["webhook-id"] for seen in tries}) == 1


def test_a_redirect_is_told_and_not_followed(
    broker: Mosquitto,
    wire: Wire,
    frigate: Server,
    address: str,
    receiver: Server,
    quick: None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with (
        make_trouble([], then=answer(307, location=f"{receiver.address}/else")) as first,
        bridging(broker, frigate.address, address, webhook=first.address),
    ):
        wait_for(lambda: online(wire))
        wire.event()
        wait_for(lambda: len(first.seen) > 1)
    assert not receiver.seen
    assert f"answers 307 and redirects to {receiver.address}/else; redirects are not followed" in caplog.text


@pytest.mark.slow
def test_what_waits_outlives_the_bridge_and_is_sent_once(
    broker: Mosquitto, wire: Wire, frigate: Server, ready_answer: Trouble, receiver: Server, tmp_path: Path
) -> None:
    receiver.then = answer(503)
    wanted = {f"1.{n}-a": 1 for n in range(5)}
    settings: Any = {"WEBHOOK": receiver.address, "MEMORY_FILE": str(tmp_path / "memory")}
    with make_trouble([], then=ready_answer) as drawing:
        with bridge_process(broker, frigate.address, drawing.address, **settings) as process:
            wait_for(lambda: online(wire))
            for id in wanted:
                wire.event(id)
            wait_for_results(wire, len(wanted))
            wait_for(lambda: receiver.seen)
            process.kill()
            process.wait()
        receiver.seen.clear()
        receiver.then = TAKEN
        for _ in range(2):
            with bridge_process(broker, frigate.address, drawing.address, **settings) as process:
                wait_for(lambda: len(receiver.seen) == len(wanted))
                wire.event("1.0-a", "update")
                wait_for(lambda: online(wire))
                process.terminate()
                assert process.wait(30) == 0
    assert Counter(each["data"]["event_id"] for each in events(receiver)) == wanted


@pytest.mark.slow
def test_the_webhook_does_not_wait_for_the_broker(
    broker: Mosquitto, wire: Wire, snapshot: bytes, address: str, receiver: Server
) -> None:
    gate = threading.Event()
    with (
        make_trouble([], then=hold(gate, snapshots(snapshot))) as frigate,
        bridging(broker, frigate.address, address, webhook=receiver.address),
    ):
        wait_for(lambda: online(wire))
        wire.event()
        wait_for(lambda: frigate.seen)
        broker.stop()
        gate.set()
        wait_for(lambda: receiver.seen)
        broker.start()
        wait_for_results(wire, 1)
    assert len(receiver.seen) == 1


def test_a_webhook_that_fails_keeps_nothing_from_mqtt(
    broker: Mosquitto,
    wire: Wire,
    frigate: Server,
    address: str,
    receiver: Server,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with bridging(broker, frigate.address, address, webhook=receiver.address, num_workers=1) as bridge:
        monkeypatch.setattr(bridge._webhook, "_settings", None)  # a bug of ours
        wait_for(lambda: online(wire))
        wire.event("1.0-a")
        wire.event("2.0-b")
        wait_for_results(wire, 2)
    assert ids(wire, "result") == {"1.0-a": 1, "2.0-b": 1}


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(tmp_path / "memory")
    yield database
    database.close()


def failed(key: str, error: Eye2FaceError | None = None) -> Outcome:
    return Outcome(CameraEvent(key, "yard"), error or Eye2FaceError("said"))


def webhook(database: Database, url: str, **settings: Any) -> Webhook:
    return Webhook(BridgeSettings.model_validate(settings), url, database)


def test_a_message_is_given_up_after_a_day(
    database: Database, receiver: Server, quick: None, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.then = answer(503)
    hook = webhook(database, receiver.address)
    hook.send(failed("a"))
    database.execute("UPDATE outgoing SET created_at = created_at - 24 * 3600")
    hook.open()
    wait_for(lambda: "is given up: the webhook did not take it for a day" in caplog.text)
    hook.send(failed("a"))  # it is not sent again
    hook.close()
    assert len(receiver.seen) == 1
    assert database.execute("SELECT count(*) FROM outgoing WHERE body NOT NULL") == [(0,)]


def test_more_messages_than_may_wait_are_dropped(
    database: Database, receiver: Server, caplog: pytest.LogCaptureFixture
) -> None:
    hook = webhook(database, receiver.address, max_waiting=2)
    for key in "abc":
        hook.send(failed(key))
    hook.open()
    wait_for(lambda: len(receiver.seen) == 2)
    hook.close()
    assert "2 messages wait for the webhook; one more is dropped" in caplog.text


def test_a_receiver_that_hangs_holds_up_no_end(
    database: Database, receiver: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service.bridge.webhook, "_CLOSE_S", 0.1)
    receiver.then = hang(3)
    hook = webhook(database, receiver.address)
    hook.send(failed("a"))
    hook.open()
    wait_for(lambda: receiver.seen)
    start = time.monotonic()
    hook.close()
    assert time.monotonic() - start < 2
    assert database.execute("SELECT count(*) FROM outgoing WHERE body NOT NULL") == [(1,)]


def test_only_the_last_messages_that_were_sent_are_remembered(
    database: Database, receiver: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service.bridge.webhook, "MAX_REMEMBERED", 3)
    hook = webhook(database, receiver.address)
    hook.open()
    for n in range(9):
        hook.send(failed(f"{n}"))
    wait_for(lambda: database.execute("SELECT count(body), count(*) FROM outgoing") == [(0, 3)])
    hook.close()


@pytest.mark.parametrize(
    ("error", "type"),
    [(NoEyeFound("n"), "refused"), (EyeTooDark("d"), "refused"), (Eye2FaceError("e"), "failed")],
)
def test_the_eye_is_refused_and_everything_else_fails(error: Eye2FaceError, type: str) -> None:
    told = service.bridge.webhook.cloud_event(failed("a", error), BridgeSettings())
    assert told["type"] == f"io.eye2face.face.{type}.v1"
    assert told["data"]["detail"] == str(error)


@pytest.mark.parametrize(
    "text", ["whsec_", "whsec_!!!", "a password", base64.b64encode(SECRET[1:]).decode()], ids=str
)
def test_a_secret_that_is_none_is_said_to_be(text: str, tmp_path: Path, database: Database) -> None:
    (tmp_path / "secret").write_text(text)
    with pytest.raises(ConfigurationError, match="EYE2FACE_BRIDGE_WEBHOOK_SECRET_FILE") as caught:
        webhook(database, "http://127.0.0.1:1", webhook_secret_file=tmp_path / "secret")
    assert text not in str(caught.value).replace("must hold whsec_ and", "")
