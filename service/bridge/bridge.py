"""The bridge: events of cameras on MQTT in, synthetic faces on MQTT out, each event at most once.

    message ──> source: read, filter ──> deduplicate ──> queue ──> worker: photo ──> service ──> publish

The MQTT thread does everything up to the queue, a few workers the rest; queue and photos are bounded.
Below the bridge's topic it publishes `<camera>/image` (a file), `<camera>/result` or `<camera>/error` (JSON),
`error` for messages that are not accepted, and `available`. Frigate's sub_label, an identity, is neither read
nor written: a face drawn from one eye identifies nobody.
"""

import json
import logging
import queue
import ssl
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from paho.mqtt.client import MQTTMessage

from service.access.tls import client_context
from service.bridge.database import Database
from service.bridge.deduplication import Deduplicator, PendingEvent
from service.bridge.faces_on_mqtt import FacesOnMqtt
from service.bridge.frigate import FrigateEvents
from service.bridge.mqtt import NO_TAG, ConnectionClosed, DeliveryTag, MqttConnection
from service.bridge.outcomes import Outcome, as_ours, error_fields
from service.bridge.pictures import Pictures
from service.bridge.sources import CameraEvent, Source
from service.bridge.webhook import Webhook
from service.client.client import Client
from service.client.retries import RetryPolicy
from service.engine.worker_pool import attempt
from service.errors import Eye2FaceError
from service.settings import BridgeSettings
from service.system.operator_files import read_secret

if TYPE_CHECKING:
    from service.bridge.intake import PictureIntake

_MAX_HELD_BYTES: Final = 100_000_000
_STOP_S: Final = 8.0
"""Grace period of a stopping bridge; container engines kill after ten seconds."""

_REPORT_INTERVAL_S: Final = 1.0
_CHECK_INTERVAL_S: Final = 1.0
"""Interval at which dead workers are replaced."""

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
            on_new_session=lambda: self._faces.announce_again(),
        )
        self._faces = FacesOnMqtt(settings, self._mqtt)
        self._database = Database(settings.memory_file)
        self._deduplicator = Deduplicator(self._database)
        self._webhook = (
            Webhook(settings, settings.webhook, self._database, verify) if settings.webhook else None
        )
        self._sinks: list[Webhook | FacesOnMqtt] = [self._webhook] if self._webhook else []
        if settings.uses_broker:
            self._sinks.append(self._faces)
        self._intake = _open_intake(settings, self) if settings.http_port else None
        self._queue: queue.SimpleQueue[PendingEvent | None] = queue.SimpleQueue()
        self._num_held = self._held_bytes = 0
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._reported_at = -_REPORT_INTERVAL_S

    def run(self) -> None:
        """Works until `stop`, and then drains the queue for a few seconds; the broker redelivers the rest."""
        for key, camera, photo in self._database.execute("SELECT key, camera, photo FROM pictures"):
            attempt(self.accept_picture, CameraEvent(key, camera, photo=photo))  # the full wait for the next
        workers = [self._start_worker() for _ in range(self._settings.num_workers)]
        if self._settings.uses_broker:
            self._mqtt.open()
        if self._webhook:
            self._webhook.open()
        if self._intake:
            self._intake.open()
        while not self._stopping.wait(_CHECK_INTERVAL_S):
            workers = self._replace_dead(workers)
        if self._intake:
            self._intake.close()
        end = time.monotonic() + _STOP_S
        for _ in workers:
            self._queue.put(None)
        for worker in filter(threading.Thread.is_alive, workers):
            worker.join(max(0.0, end - time.monotonic()))
        self._mqtt.close()
        self._source.close()
        self._service.close()
        if self._webhook:
            self._webhook.close()
        self._database.close()

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

    def accept_picture(self, event: CameraEvent) -> None:
        """Keeps a picture that was posted until its face is published.

        Raises:
            BridgeFull: too many events wait.
        """
        self._enqueue(PendingEvent(replace(event, event_id=event.id), NO_TAG))

    def _accept(self, message: MQTTMessage, tag: DeliveryTag) -> DeliveryTag | None:
        """The tag to acknowledge now; None if the message stays open until its event is done."""
        if self._stopping.is_set():
            return None
        if message.retain or not message.payload:  # an old event, or the removal of a retained one
            return tag
        event = self._source.read(message.topic, bytes(message.payload))
        return tag if event is None else self._enqueue(PendingEvent(event, tag))

    def _enqueue(self, pending: PendingEvent) -> DeliveryTag | None:
        """The tag to acknowledge now, of an event that is known; None of one that is queued."""
        event, acknowledged = pending.event, self._deduplicator.accept(pending)
        if acknowledged is None:
            self._reserve(pending)
            if pending.tag is NO_TAG and self._database.is_lasting:  # nobody sends it again
                picture = event.key, event.camera, event.photo
                self._database.execute("INSERT OR IGNORE INTO pictures VALUES (?, ?, ?)", *picture)
            self._queue.put(pending)
        return acknowledged

    def refuse_if_full(self, about: str = "another one", num_bytes: int = 1) -> None:
        """Raises BridgeFull if an event with a photo of so many bytes would not be accepted."""
        num_waiting = self._queue.qsize()
        if self._webhook and not self._settings.uses_broker:  # a face that it drops would be lost
            num_waiting = self._num_held + self._webhook.num_waiting
        if num_waiting >= self._settings.max_waiting or self._held_bytes + num_bytes > _MAX_HELD_BYTES:
            raise BridgeFull(
                f"{num_waiting} events are queued; {about} is not accepted. Allow more workers or a faster "
                "service, or filter more."
            )

    def _reserve(self, pending: PendingEvent) -> None:
        event = pending.event
        with self._lock:
            try:
                self.refuse_if_full(f"{event.key[:64]} of {event.camera}", pending.num_bytes)
            except BridgeFull:
                self._deduplicator.release(pending)
                raise
            self._num_held += 1
            self._held_bytes += pending.num_bytes

    def _report(self, error: Exception) -> None:
        """Logs and publishes why a message was not accepted, at most once a second."""
        now = time.monotonic()
        if now - self._reported_at < _REPORT_INTERVAL_S:
            return
        self._reported_at = now
        known = as_ours(error)
        _log.warning("%s", known, exc_info=error if known is not error else None)
        self._mqtt.publish_unconfirmed(f"{self._settings.topic}/error", json.dumps(error_fields(known)))

    def _work(self) -> None:
        while (pending := self._queue.get()) is not None:
            _, error = attempt(self._process, pending)
            if isinstance(error, ConnectionClosed):  # the broker redelivers the event at the next start
                return
            if error is not None:
                _log.error("event %.64r is not finished", pending.event.key, exc_info=error)

    def _process(self, pending: PendingEvent) -> None:
        """Tells every sink of a face, or why there is none."""
        face, error = attempt(self._draw, pending)
        outcome = face or Outcome(pending.event, _explain(pending.event, error))
        for sink in self._sinks:
            _, failed = attempt(sink.send, outcome)
            if isinstance(failed, ConnectionClosed):
                raise failed
            if failed is not None:
                _log.error("%.64r is not told to everybody", pending.event.key, exc_info=failed)
        tag = self._deduplicator.complete(pending)
        with self._lock:
            self._num_held -= 1
            self._held_bytes -= pending.num_bytes
        self._mqtt.acknowledge(tag)

    def _draw(self, pending: PendingEvent) -> Outcome:
        """The face of the largest person, or why there is none."""
        start, event = time.monotonic(), pending.event
        photo = event.photo or self._source.fetch(event)
        fetched = time.monotonic()
        synthesis = self._service.synthesize_faces(
            photo, person="largest", format=self._settings.format, label=True
        )
        waited, snapshot, service = start - pending.taken_at, fetched - start, time.monotonic() - fetched
        timings = {"waited": waited, "snapshot": snapshot, "service": service}
        waited_ms = (time.monotonic() - pending.taken_at) * 1000
        _log.info("%s: a face for event %.64r in %.0f ms", event.camera, event.key, waited_ms)
        return Outcome(event, synthesis, {name: round(s * 1000, 1) for name, s in timings.items()})


def _open_source(settings: BridgeSettings, verify: ssl.SSLContext | bool) -> Source:
    if settings.source == "events":
        return FrigateEvents(settings, verify)
    topics: dict[str, str | None] = dict.fromkeys(settings.picture_topics)
    if settings.source == "snapshots":
        topics = {f"{settings.frigate_topic}/{{camera}}/{label}/snapshot": label for label in settings.labels}
    return Pictures(topics, settings.cameras)


def _open_intake(settings: BridgeSettings, bridge: Bridge) -> "PictureIntake":
    from service.bridge.intake import PictureIntake  # its web server takes 30 MB

    return PictureIntake(settings, bridge.accept_picture, bridge.refuse_if_full)


def _explain(event: CameraEvent, error: Exception | None) -> Eye2FaceError:
    """The error in place of a face."""
    known = as_ours(error)
    unexpected = error if known is not error else None
    _log.warning("%s: no face for event %.64r: %s", event.camera, event.key, known.code, exc_info=unexpected)
    return known
