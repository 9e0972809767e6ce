"""A bridge for the tests, in a thread of theirs or in its own process, and what a listener heard of it."""

import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from service.bridge.bridge import Bridge
from service.settings import BridgeSettings
from tests.mqtt import Mosquitto, Wire, wait_for
from tests.running import ROOT


@contextmanager
def bridging(broker: Mosquitto, frigate: str, service: str, **options: Any) -> Iterator[Bridge]:
    """A running bridge with these settings; `online` tells when it is connected."""
    given = {"mqtt_port": broker.port, "frigate": frigate, "service": service, "deadline_s": 60}
    settings = BridgeSettings.model_validate(given | options)
    bridge = Bridge(settings)
    thread = threading.Thread(target=bridge.run)
    thread.start()
    try:
        yield bridge
    finally:
        bridge.stop()
        thread.join(30)
        assert not thread.is_alive()


def online(wire: Wire) -> bool:
    said = wire.on("eye2face/available")
    return bool(said) and said[-1] == b"online"


def ids(wire: Wire, kind: str) -> Counter[str]:
    return Counter(each["event_id"] for each in wire.json_on(f"eye2face/+/{kind}"))


def wait_for_results(wire: Wire, number: int) -> None:
    wait_for(lambda: len(ids(wire, "result")) >= number)


@contextmanager
def bridge_process(
    broker: Mosquitto, frigate: str, service: str, *, stderr: int | None = None, **settings: str
) -> Iterator["subprocess.Popen[bytes]"]:
    """`eye2face bridge` in a process of its own."""
    own = {"MQTT_PORT": str(broker.port), "FRIGATE": frigate, "SERVICE": service} | settings
    env = os.environ | {f"EYE2FACE_BRIDGE_{name}": value for name, value in own.items()}
    with subprocess.Popen(
        [sys.executable, "-m", "service", "bridge"], cwd=ROOT, env=env, stderr=stderr
    ) as process:
        try:
            yield process
        finally:
            process.kill()
