"""The bridge: events of cameras on MQTT in, synthetic faces on MQTT out, each event at most once.

    message ──> source: read, filter ──> deduplicate ──> queue ──> worker: photo ──> service ──> publish

The MQTT thread does everything up to the queue, a few workers the rest; queue and photos are bounded.
Below the bridge's topic it publishes `<camera>/image` (a file), `<camera>/result` or `<camera>/error` (JSON),
`error` for messages that are not accepted, and `available`. Frigate's sub_label, an identity, is neither read
nor written: a face drawn from one eye identifies nobody.
"""

import logging
import queue
import ssl
import threading
import time
from typing import Final

from paho.mqtt.client import MQTTMessage

from service.access.secret_files import read_secret
from service.access.tls import client_context
from service.bridge.deduplication import Deduplicator, PendingEvent
from service.bridge.frigate import FrigateEvents
from service.bridge.messages import discovery_message, error_message, result_message
from service.bridge.mqtt import ConnectionClosed, DeliveryTag, MqttConnection, Publication
from service.bridge.pictures import Pictures
from service.bridge.sources import Source
from service.client.client import Client
from service.client.retries import RetryPolicy
from service.engine.worker_pool import attempt
from service.errors import Eye2FaceError
from service.settings import BridgeSettings, ConfigurationError

MAX_CAMERAS: Final = 500
"""Cameras that are announced to Home Assistant; more names than this are an attack."""

_MAX_HELD_BYTES: Final = 100_000_000
_STOP_S: Final = 8.0
"""Grace period of a stopping bridge; container engines kill after ten seconds."""

_REPORT_INTERVAL_S: Final = 1.0
_CHECK_INTERVAL_S: Final = 1.0
"""Interval at which dead workers are replaced."""

_MAX_TRIES: Final = 3
"""Tries to publish a message; a broker that is away is waited for within one."""

_RETRY_S: Final = 0.5

_log = logging.getLogger(__name__)


class BridgeFull(Eye2FaceError):
    """The queue is full; the event is not accepted."""

    status, code, title = 503, "bridge_full", "Too many events are queued"


class Bridge:
    """A bridge between one source, one service and one broker; a signal handler may call `stop`."""

    def __init__(self, settings: BridgeSettings) -> None:
        """Connects to nothing yet.

        Raises:
            ConfigurationError: a file cannot be used.
            InvalidParameter: the address of Frigate or of the service is invalid.
        """
        self._settings = settings
        self._announced: set[str] = set()
        verify = client_context(settings.ca_file) if settings.ca_file else True
        self._source = _open_source(settings, verify)
        self._service = Client(
            settings.service,
            key=read_secret(settings.service_key_file),
            timeout_s=settings.deadline_s,
            retry=RetryPolicy(max_tries=10, deadline_s=settings.deadline_s),
            verify=verify,
        )
        self._mqtt = MqttConnection(
            settings,
            self._source.topics,
            max_message_bytes=self._source.max_payload_bytes + 1000,  # its topic and header
            on_message=self._receive,
            on_new_session=self._announced.clear,
        )
        try:
            self._deduplicator = Deduplicator(settings.memory_file)
        except OSError as error:
            raise ConfigurationError(f"EYE2FACE_BRIDGE_MEMORY_FILE: {error}") from error
        self._queue: queue.SimpleQueue[PendingEvent | None] = queue.SimpleQueue()
        self._held_bytes = 0
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._reported_at = -_REPORT_INTERVAL_S

    def run(self) -> None:
        """Works until `stop`, and then drains the queue for a few seconds; the broker redelivers the rest."""
        workers = [self._start_worker() for _ in range(self._settings.num_workers)]
        self._mqtt.open()
        while not self._stopping.wait(_CHECK_INTERVAL_S):
            workers = self._replace_dead(workers)
        end = time.monotonic() + _STOP_S
        for _ in workers:
            self._queue.put(None)
        for worker in filter(threading.Thread.is_alive, workers):
            worker.join(max(0.0, end - time.monotonic()))
        self._mqtt.close()
        self._source.close()
        self._service.close()
        self._deduplicator.close()

    def _start_worker(self) -> threading.Thread:
        worker = threading.Thread(target=self._work, name="worker", daemon=True)
        attempt(worker.start)  # one that cannot be started is replaced like one that died
        return worker

    def _replace_dead(self, workers: list[threading.Thread]) -> list[threading.Thread]:
        """The workers that live, and a new one for each that died; without any the bridge is offline."""
        alive = [worker for worker in workers if worker.is_alive()]
        self._mqtt.set_available(bool(alive))
        if num_dead := len(workers) - len(alive):
            _log.error("%d workers are dead and are replaced", num_dead)
        return alive + [self._start_worker() for _ in range(num_dead)]

    def stop(self) -> None:
        """Ends `run` soon."""
        self._stopping.set()

    def _receive(self, message: MQTTMessage, tag: DeliveryTag) -> None:
        """Handles a message, in the MQTT thread."""
        acknowledged, error = attempt(self._accept, message, tag)
        if error is not None:
            acknowledged = tag
            self._report(error)
        if acknowledged is not None:
            self._mqtt.acknowledge(acknowledged)

    def _accept(self, message: MQTTMessage, tag: DeliveryTag) -> DeliveryTag | None:
        """The tag to acknowledge now; None if the message stays open until its event is done."""
        if self._stopping.is_set():
            return None
        if message.retain or not message.payload:  # an old event, or the removal of a retained one
            return tag
        event = self._source.read(message.topic, bytes(message.payload))
        if event is None:
            return tag
        pending = PendingEvent(event, tag)
        acknowledged = self._deduplicator.accept(pending)
        if acknowledged is None:
            self._enqueue(pending)
        return acknowledged

    def _enqueue(self, pending: PendingEvent) -> None:
        too_many = self._queue.qsize() >= self._settings.max_waiting
        if too_many or self._held_bytes + pending.num_bytes > _MAX_HELD_BYTES:
            self._deduplicator.release(pending)
            raise BridgeFull(
                f"{self._queue.qsize()} events are queued; {pending.event.key[:64]} of "
                f"{pending.event.camera} is not accepted. Allow more workers or a faster service, "
                "or filter more."
            )
        with self._lock:
            self._held_bytes += pending.num_bytes
        self._queue.put(pending)

    def _report(self, error: Exception) -> None:
        """Logs and publishes why a message was not accepted, at most once a second."""
        now = time.monotonic()
        if now - self._reported_at < _REPORT_INTERVAL_S:
            return
        self._reported_at = now
        known = _as_ours(error)
        _log.warning("%s", known)
        self._mqtt.publish_unconfirmed(f"{self._settings.topic}/error", error_message(known))

    def _work(self) -> None:
        while (pending := self._queue.get()) is not None:
            _, error = attempt(self._process, pending)
            if isinstance(error, ConnectionClosed):  # the broker redelivers the event at the next start
                return
            if error is not None:
                _log.error("event %.64r is not finished", pending.event.key, exc_info=error)

    def _process(self, pending: PendingEvent) -> None:
        """Publishes a face, or why there is none."""
        event, base = pending.event, f"{self._settings.topic}/{pending.event.camera}"
        messages, error = attempt(self._draw, pending, base)
        for message in messages or ():
            error = error or self._publish(message)
        if error is None:
            waited_ms = (time.monotonic() - pending.taken_at) * 1000
            _log.info("%s: a face for event %.64r in %.0f ms", event.camera, event.key, waited_ms)
        else:
            ours = _as_ours(error)
            _log.warning("%s: no face for event %.64r: %s", event.camera, event.key, ours.code)
            self._publish(Publication(f"{base}/error", error_message(ours, event)))
        tag = self._deduplicator.complete(pending)
        with self._lock:
            self._held_bytes -= pending.num_bytes
        self._mqtt.acknowledge(tag)

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
            self._stopping.wait(_RETRY_S)
        return error

    def _draw(self, pending: PendingEvent, base: str) -> list[Publication]:
        """The face of the largest person as a file, and its result message."""
        start, event = time.monotonic(), pending.event
        photo = self._source.fetch(event)
        fetched = time.monotonic()
        synthesis = self._service.synthesize_faces(photo, person="largest", format=self._settings.format)
        waited, snapshot, service = start - pending.taken_at, fetched - start, time.monotonic() - fetched
        timings = {"waited": waited, "snapshot": snapshot, "service": service}
        timings_ms = {name: round(seconds * 1000, 1) for name, seconds in timings.items()}
        image = Publication(f"{base}/image", synthesis.faces[0].image)
        result = Publication(f"{base}/result", result_message(event, synthesis, timings_ms))
        return [*self._announcement(event.camera), image, result]

    def _announcement(self, camera: str) -> list[Publication]:
        """Home Assistant's discovery message for the camera, the first time."""
        with self._lock:
            if camera in self._announced or len(self._announced) >= MAX_CAMERAS:
                return []
            self._announced.add(camera)
        return [discovery_message(self._settings, camera)] if self._settings.home_assistant else []


def _open_source(settings: BridgeSettings, verify: ssl.SSLContext | bool) -> Source:
    if settings.source == "events":
        return FrigateEvents(settings, verify)
    topics: dict[str, str | None] = dict.fromkeys(settings.picture_topics)
    if settings.source == "snapshots":
        topics = {f"{settings.frigate_topic}/{{camera}}/{label}/snapshot": label for label in settings.labels}
    return Pictures(topics, settings.cameras)


def _as_ours(error: Exception) -> Eye2FaceError:
    if isinstance(error, Eye2FaceError):
        return error
    _log.error("an event failed", exc_info=error)
    return Eye2FaceError("The bridge failed on this event; its log has the reason.")
