"""Outcomes on MQTT: an image and its result, or an error, and Home Assistant's entities."""

import json
import logging
import threading
import time
from typing import Final

from service.bridge.home_assistant import discovery_messages
from service.bridge.mqtt import ConnectionClosed, MqttConnection, Publication
from service.bridge.outcomes import Outcome, as_ours
from service.client.models import Synthesis
from service.engine.worker_pool import attempt
from service.settings import BridgeSettings

MAX_CAMERAS: Final = 500
"""Cameras that are announced to Home Assistant; more names than this are an attack."""

_MAX_TRIES: Final = 3
"""Tries to publish a message; a broker that is away is waited for within one."""

_RETRY_S: Final = 0.5

_log = logging.getLogger(__name__)


class FacesOnMqtt:
    """Publishes each outcome once; may be shared by threads."""

    def __init__(self, settings: BridgeSettings, mqtt: MqttConnection) -> None:
        self._settings = settings
        self._mqtt = mqtt
        self._announced: set[str] = set()
        self._lock = threading.Lock()

    def announce_again(self) -> None:
        """Announces each camera again at its next outcome."""
        with self._lock:
            self._announced.clear()

    def send(self, outcome: Outcome) -> None:
        """Publishes an outcome; what cannot be published is told as an error.

        Raises:
            ConnectionClosed: the bridge stops before.
        """
        for message in [*self._announcements(outcome.event.camera), *self._messages(outcome)]:
            if (error := self._publish(message)) is not None:
                failed = Outcome(outcome.event, as_ours(error))
                for each in self._messages(failed):
                    self._publish(each)
                return

    def _messages(self, outcome: Outcome) -> list[Publication]:
        base, fields = f"{self._settings.topic}/{outcome.event.camera}", outcome.fields
        if isinstance(outcome.result, Synthesis):
            image = Publication(f"{base}/image", outcome.result.faces[0].image)
            messages = [image, Publication(f"{base}/result", json.dumps(fields))]
        else:
            messages = [Publication(f"{base}/error", json.dumps(fields))]
        if self._settings.home_assistant:
            event = {"event_type": outcome.kind, "event_id": fields["event_id"], "code": fields.get("code")}
            messages.append(Publication(f"{base}/event", json.dumps(event)))
        return messages

    def _publish(self, message: Publication) -> Exception | None:
        """The exception that ended each of a few tries; None if one succeeded.

        Raises:
            ConnectionClosed: the bridge stops.
        """
        for _ in range(_MAX_TRIES):
            _, error = attempt(self._mqtt.publish, message)
            if error is None:
                return None
            if isinstance(error, ConnectionClosed):
                raise error
            _log.error("cannot publish to %s", message.topic, exc_info=error)
            time.sleep(_RETRY_S)
        return error

    def _announcements(self, camera: str) -> list[Publication]:
        """Home Assistant's discovery messages for the camera, the first time."""
        if not self._settings.home_assistant:
            return []
        with self._lock:
            if camera in self._announced or len(self._announced) >= MAX_CAMERAS:
                return []
            self._announced.add(camera)
        return discovery_messages(self._settings, camera)
