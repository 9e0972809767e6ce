"""A real mosquitto on loopback, a listener that records what it publishes, and Frigate's events."""

import json
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.real import require
from tests.running import find_free_port

MAX_WAIT_S = 60


def wait_for(what: Callable[[], Any], max_wait_s: float = MAX_WAIT_S) -> Any:
    """The first true answer of `what`; fails when none comes."""
    end = time.monotonic() + max_wait_s
    while time.monotonic() < end:
        found = what()
        if found:
            return found
        time.sleep(0.01)
    raise AssertionError(f"not within {max_wait_s} s")


class Mosquitto:
    """One broker with a folder for its sessions; it can be killed and started again on the same port."""

    def __init__(self, folder: Path, *extra: str) -> None:
        self._program = require("mosquitto")
        self.port = find_free_port()
        folder.mkdir(parents=True, exist_ok=True)
        self._config = folder / "mosquitto.conf"
        access = extra or ("allow_anonymous true",)
        lines = [
            f"listener {self.port} 127.0.0.1",
            "user root",
            "persistence true",
            f"persistence_location {folder}/",
            "max_queued_messages 20000",
            "set_tcp_nodelay true",
            "log_type none",
            *access,
        ]
        self._config.write_text("\n".join(lines) + "\n")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen([self._program, "-c", str(self._config)])
        wait_for(self._listens)

    def _listens(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, "mosquitto ended"
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self) -> None:
        """SIGKILL: nothing is written to disk."""
        self._end(lambda process: process.kill())

    def stop(self) -> None:
        """SIGTERM: sessions are written to disk."""
        self._end(lambda process: process.terminate())

    def _end(self, how: Callable[["subprocess.Popen[bytes]"], None]) -> None:
        if self._process is not None:
            how(self._process)
            self._process.wait(MAX_WAIT_S)
            self._process = None


class Wire:
    """A client of the broker: publishes as Frigate, and records all messages, each once (QoS 2)."""

    def __init__(self, port: int, username: str | None = None, password: str | None = None) -> None:
        self.got: list[tuple[str, bytes, float]] = []
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="wire", protocol=mqtt.MQTTv5)
        if username:
            self._client.username_pw_set(username, password)
        self._subscribed = threading.Event()
        self._client.on_socket_open = _send_at_once
        self._client.on_connect = lambda client, *_: client.subscribe("#", qos=2)
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_message = self._write_down
        self._client.reconnect_delay_set(0.1, 0.1)  # type: ignore[arg-type]  # before the bridge is back
        wishes = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        wishes.SessionExpiryInterval = 3600
        self._client.connect_async("127.0.0.1", port, clean_start=False, properties=wishes)
        self._client.loop_start()
        assert self._subscribed.wait(MAX_WAIT_S)

    def _write_down(self, client: mqtt.Client, userdata: object, message: mqtt.MQTTMessage) -> None:
        if not message.topic.startswith("frigate/"):
            self.got.append((message.topic, bytes(message.payload), time.monotonic()))

    def publish(self, topic: str, payload: bytes | str, qos: int = 1, retain: bool = False) -> None:
        info = self._client.publish(topic, payload, qos=qos, retain=retain)
        info.rc = MQTTErrorCode.MQTT_ERR_SUCCESS
        info.wait_for_publish(MAX_WAIT_S)

    def event(self, *args: Any, qos: int = 1, **changes: Any) -> None:
        self.publish("frigate/events", json.dumps(event(*args, **changes)), qos)

    def on(self, topic: str) -> list[bytes]:
        return [payload for name, payload, _ in list(self.got) if mqtt.topic_matches_sub(topic, name)]

    def json_on(self, topic: str) -> list[dict[str, Any]]:
        return [json.loads(payload) for payload in self.on(topic)]

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


def _send_at_once(client: mqtt.Client, userdata: object, line: object) -> None:
    assert isinstance(line, socket.socket)
    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def event(id: str = "1607123955.475377-mxklsc", type: str = "new", **changes: Any) -> dict[str, Any]:
    """A message on `frigate/events`; `changes` replace fields of `after`.

    Source: Frigate 0.18, `TrackedObject.to_dict` in frigate/track/tracked_object.py, and its documentation.
    """
    seen = {
        "id": id,
        "camera": "front_door",
        "frame_time": 1607123961.837752,
        "snapshot": {"frame_time": 1607123965.975463, "box": [415, 489, 528, 700], "score": 0.77546},
        "snapshot_clean": True,
        "label": "person",
        "sub_label": None,
        "top_score": 0.958984375,
        "false_positive": False,
        "start_time": 1607123955.475377,
        "end_time": None,
        "score": 0.7890625,
        "computed_score": 0.7890625,
        "box": [424, 500, 536, 712],
        "area": 23744,
        "ratio": 2.113207,
        "region": [264, 450, 667, 853],
        "active": True,
        "stationary": False,
        "motionless_count": 0,
        "position_changes": 2,
        "current_zones": ["driveway"],
        "entered_zones": ["yard", "driveway"],
        "has_clip": False,
        "has_snapshot": True,
        "attributes": {"face": 0.64},
        "current_attributes": [{"label": "face", "box": [442, 506, 534, 524], "score": 0.86}],
        "pending_loitering": False,
        "max_severity": "alert",
        "current_estimated_speed": 0.71,
        "average_estimated_speed": 14.3,
        "velocity_angle": 180,
        "path_data": [[[0.5012, 0.9333], 1607123955.475377]],
        "recognized_license_plate": None,
    }
    return {"type": type, "before": seen | {"has_snapshot": False}, "after": seen | changes}


REVIEW = {
    "type": "update",
    "before": None,
    "after": {
        "id": "1718987129.308396-fqk5ka",
        "camera": "front_door",
        "start_time": 1718987129.308396,
        "end_time": None,
        "severity": "alert",
        "thumb_path": "/media/frigate/clips/review/thumb-front_door-1718987129.308396-fqk5ka.webp",
        "data": {"detections": ["1718987128.947436-g92ztx"], "objects": ["person"], "zones": ["yard"]},
    },
}
"""A message on `frigate/reviews`. Source: Frigate 0.18, documentation."""

TRACKED_OBJECT_UPDATE = {
    "type": "face",
    "id": "1607123955.475377-mxklsc",
    "name": "Somebody",
    "score": 0.95,
    "camera": "front_door",
    "timestamp": 1607123958.748393,
}
"""A message on `frigate/tracked_object_update`. Source: Frigate 0.18, documentation."""
