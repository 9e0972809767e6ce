"""Hundreds of pictures in a burst, in and out by every way: nothing lost, nothing twice, flat memory."""

import json
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.mqtt import Mosquitto, Wire, wait_for
from tests.running import find_free_port
from tests.service.bridge.test_mqtt import resident_bytes
from tests.service.bridges import bridge_process, online
from tests.troubled import Server, Trouble, answer, hold, make_trouble

pytestmark = pytest.mark.slow

NOWHERE = "http://127.0.0.1:1"
TAKEN = answer(204)
NUM_PICTURES = 400


def pictures(snapshot: bytes) -> list[bytes]:
    return [snapshot + n.to_bytes(4, "big") for n in range(NUM_PICTURES)]


def num_results(wire: Wire) -> int:
    return sum(topic.endswith("/result") for topic, _, _ in list(wire.got))


def told(receiver: Server) -> Counter[str]:
    """How often each event was sent and taken."""
    return Counter(json.loads(seen.body)["id"] for seen in list(receiver.seen))


def test_pictures_on_mqtt_are_published_and_sent_once_with_flat_memory(
    broker: Mosquitto, wire: Wire, ready_answer: Trouble, snapshot: bytes, tmp_path: Path
) -> None:
    settings: Any = {
        "SOURCE": "pictures", "PICTURE_TOPICS": "cams/{camera}", "NUM_WORKERS": "4",
        "MEMORY_FILE": str(tmp_path / "memory"),
    }  # fmt: skip
    with (
        make_trouble([], then=TAKEN) as receiver,
        make_trouble([], then=ready_answer) as drawing,
        bridge_process(broker, NOWHERE, drawing.address, WEBHOOK=receiver.address, **settings) as process,
    ):
        wait_for(lambda: online(wire))
        resident: list[int] = []
        for camera in ("first", "second"):
            for picture in pictures(snapshot):
                wire.publish(f"cams/{camera}", picture)
            number = (len(resident) + 1) * NUM_PICTURES
            wait_for(lambda number=number: num_results(wire) == len(receiver.seen) == number)  # type: ignore[misc]
            resident.append(resident_bytes(process.pid))
    print(f"resident after each: {resident}")
    assert len(wire.on("eye2face/+/image")) == len(told(receiver)) == 2 * NUM_PICTURES
    assert set(told(receiver).values()) == {1}
    assert resident[1] < resident[0] + 10_000_000


def test_posted_pictures_survive_a_killed_bridge_a_killed_broker_and_a_receiver_that_is_down(
    broker: Mosquitto, wire: Wire, ready_answer: Trouble, snapshot: bytes, tmp_path: Path
) -> None:
    port, gate = find_free_port(), threading.Event()
    settings: Any = {
        "SOURCE": "pictures", "HTTP_PORT": str(port), "MEMORY_FILE": str(tmp_path / "memory"),
    }  # fmt: skip
    url = f"http://127.0.0.1:{port}/cameras/yard/pictures"
    with (
        make_trouble([], then=answer(503)) as receiver,
        make_trouble([], then=hold(gate, ready_answer)) as drawing,
        httpx.Client(headers={"content-type": "image/jpeg"}) as http,
    ):
        settings |= {"WEBHOOK": receiver.address}
        with bridge_process(broker, NOWHERE, drawing.address, **settings) as process:
            wait_for(lambda: online(wire))
            with ThreadPoolExecutor(4) as pool:
                answers = list(pool.map(lambda each: http.post(url, content=each), pictures(snapshot)))
            accepted = {each.raise_for_status().json()["id"] for each in answers}
            process.kill()
            process.wait()
        gate.set()
        with bridge_process(broker, NOWHERE, drawing.address, **settings):
            wait_for(lambda: num_results(wire) > 100)
            broker.kill()
            time.sleep(1)
            broker.start()
            wait_for(lambda: num_results(wire) > 250)
            receiver.seen.clear()
            receiver.then = TAKEN
            wait_for(lambda: len(told(receiver)) == NUM_PICTURES)
            wait_for(
                lambda: num_results(wire) >= NUM_PICTURES - 2
            )  # of two, the broker may have had the only copy
    assert len(accepted) == NUM_PICTURES
    assert told(receiver) == dict.fromkeys(accepted, 1)
    results = Counter(each["event_id"] for each in wire.json_on("eye2face/yard/result"))
    assert sum(number > 1 for number in results.values()) <= 2
