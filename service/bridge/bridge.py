"""The bridge: Frigate's events on MQTT in, synthetic faces on MQTT out, each event at most once.

    frigate/events ──> parse ──> filter ──> deduplicate ──> queue ──> worker: snapshot ──> service ──> publish

The MQTT thread does everything up to the queue, a few workers the rest; queue and snapshots are bounded.
Below the bridge's topic it publishes `<camera>/image` (a file), `<camera>/result` or `<camera>/error` (JSON),
`error` for messages that are not accepted, and `available`. Frigate's sub_label, an identity, is neither read
nor written: a face drawn from one eye identifies nobody.
"""

import logging
import queue
import threading
import time
from typing import Final

from service.access.secret_files import read_secret
from service.access.tls import client_context
from service.bridge.deduplication import Deduplicator, PendingEvent
from service.bridge.frigate import (
    MAX_EVENT_BYTES,
    MAX_SNAPSHOT_BYTES,
    FrigateClient,
    FrigateError,
    is_selected,
    read_event,
    read_snapshot,
)
from service.bridge.messages import discovery_message, error_message, result_message
from service.bridge.mqtt import ConnectionClosed, DeliveryTag, Message, MqttConnection
from service.client.client import Client
from service.client.retries import RetryPolicy
from service.errors import Eye2FaceError
from service.settings import BridgeSettings

MAX_CAMERAS: Final = 500
"""Cameras that are announced to Home Assistant; more names than this are an attack."""

_MAX_WAITING_BYTES: Final = 100_000_000
_STOP_S: Final = 8.0
"""Grace period of a stopping bridge; container engines kill after ten seconds."""

_REPORT_INTERVAL_S: Final = 1.0

_log = logging.getLogger(__name__)


class BridgeFull(FrigateError):
    """The queue is full; the event is not accepted."""

    status = 503
    code = "bridge_full"
    title = "Too many events are queued"


class Bridge:
    """A bridge between one Frigate, one service and one broker; a signal handler may call `stop`."""

    def __init__(self, settings: BridgeSettings) -> None:
        """Connects to nothing yet.

        Raises:
            OSError, ValueError: a file with a secret or certificates, or the memory, cannot be read.
            InvalidParameter: the service's address is none.
        """
        self._settings = settings
        verify = client_context(settings.ca_file) if settings.ca_file else True
        self._frigate = FrigateClient(
            settings.frigate,
            token=read_secret(settings.frigate_token_file),
            deadline_s=settings.deadline_s,
            verify=verify,
        )
        self._service = Client(
            settings.service,
            key=read_secret(settings.service_key_file),
            timeout_s=settings.deadline_s,
            retry=RetryPolicy(max_tries=10, deadline_s=settings.deadline_s),
            verify=verify,
        )
        subscriptions, max_payload_bytes = _subscriptions(settings)
        self._mqtt = MqttConnection(
            settings,
            subscriptions,
            max_message_bytes=max_payload_bytes + 1000,  # its topic and header
            on_message=self._receive,
            on_new_session=self._clear_announced,
        )
        self._deduplicator = Deduplicator(settings.memory_file)
        self._queue: queue.SimpleQueue[PendingEvent | None] = queue.SimpleQueue()
        self._waiting_bytes = 0
        self._announced: set[str] = set()
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._reported_at = -_REPORT_INTERVAL_S

    def run(self) -> None:
        """Works until `stop`, and then drains the queue for a few seconds; the broker redelivers the rest."""
        workers = [
            threading.Thread(target=self._work, name=f"worker-{n}", daemon=True)
            for n in range(self._settings.num_workers)
        ]
        for worker in workers:
            worker.start()
        self._mqtt.open()
        self._stopping.wait()
        end = time.monotonic() + _STOP_S
        for _ in workers:
            self._queue.put(None)
        for worker in workers:
            worker.join(max(0.0, end - time.monotonic()))
        self._mqtt.close()
        self._frigate.close()
        self._service.close()
        self._deduplicator.close()

    def stop(self) -> None:
        """Ends `run` soon."""
        self._stopping.set()

    def _receive(self, message: Message) -> None:
        """Handles a message, in the MQTT thread."""
        try:
            if (acknowledged := self._accept(message)) is not None:
                self._mqtt.acknowledge(acknowledged)
        except FrigateError as error:
            self._report(error)
            self._mqtt.acknowledge(message.tag)

    def _accept(self, message: Message) -> DeliveryTag | None:
        """The tag to acknowledge now; None if the message stays open until its event is done."""
        if self._stopping.is_set():
            return None
        if message.retained or not message.payload:  # an old event, or the removal of a retained one
            return message.tag
        if self._settings.source == "events":
            event = read_event(message.payload)
        else:
            event = read_snapshot(message.topic, message.payload)
        if not is_selected(event, self._settings):
            return message.tag
        pending = PendingEvent(event, message.tag)
        acknowledged = self._deduplicator.accept(pending)
        if acknowledged is None:
            self._enqueue(pending)
        return acknowledged

    def _enqueue(self, pending: PendingEvent) -> None:
        too_many = self._queue.qsize() >= self._settings.max_waiting
        if too_many or self._waiting_bytes + pending.num_bytes > _MAX_WAITING_BYTES:
            self._deduplicator.release(pending)
            raise BridgeFull(
                f"{self._queue.qsize()} events are queued; {pending.event.key[:64]} of "
                f"{pending.event.camera} is not accepted. Allow more workers or a faster service, "
                "or filter more."
            )
        with self._lock:
            self._waiting_bytes += pending.num_bytes
        self._queue.put(pending)

    def _report(self, error: FrigateError) -> None:
        """Logs and publishes why a message was not accepted, at most once a second."""
        now = time.monotonic()
        if now - self._reported_at < _REPORT_INTERVAL_S:
            return
        self._reported_at = now
        _log.warning("%s", error)
        self._mqtt.publish_unconfirmed(f"{self._settings.topic}/error", error_message(error))

    def _work(self) -> None:
        while (pending := self._queue.get()) is not None:
            with self._lock:
                self._waiting_bytes -= pending.num_bytes
            try:
                self._process(pending)
            except ConnectionClosed:  # not acknowledged: the broker redelivers it at the next start
                return
            self._mqtt.acknowledge(self._deduplicator.complete(pending))

    def _process(self, pending: PendingEvent) -> None:
        """Publishes a face, or why there is none."""
        event = pending.event
        base = f"{self._settings.topic}/{event.camera}"
        try:
            image, result = self._draw(pending)
        except Exception as error:  # noqa: BLE001  # one event must not end the worker of all others
            ours = _as_ours(error)
            _log.warning("%s: no face for event %.64r: %s", event.camera, event.key, ours.code)
            self._mqtt.publish(f"{base}/error", error_message(ours, event))
            return
        self._announce(event.camera)
        self._mqtt.publish(f"{base}/image", image)
        self._mqtt.publish(f"{base}/result", result)
        waited_ms = (time.monotonic() - pending.taken_at) * 1000
        _log.info("%s: a face for event %.64r in %.0f ms", event.camera, event.key, waited_ms)

    def _draw(self, pending: PendingEvent) -> tuple[bytes, str]:
        """The face of the largest person as a file, and its result message."""
        start = time.monotonic()
        event = pending.event
        photo = event.snapshot
        if photo is None:
            assert event.event_id is not None
            photo = self._frigate.fetch_snapshot(event.event_id)
        fetched = time.monotonic()
        synthesis = self._service.synthesize_faces(photo, person="largest", format=self._settings.format)
        waited, snapshot, service = start - pending.taken_at, fetched - start, time.monotonic() - fetched
        timings = {"waited": waited, "snapshot": snapshot, "service": service}
        timings_ms = {name: round(seconds * 1000, 1) for name, seconds in timings.items()}
        return synthesis.faces[0].image, result_message(event, synthesis, timings_ms)

    def _announce(self, camera: str) -> None:
        """Publishes Home Assistant's discovery message for the camera, the first time."""
        if not self._settings.home_assistant:
            return
        with self._lock:
            if camera in self._announced or len(self._announced) >= MAX_CAMERAS:
                return
            self._announced.add(camera)
        self._mqtt.publish(*discovery_message(self._settings, camera), retain=True)

    def _clear_announced(self) -> None:
        with self._lock:
            self._announced.clear()


def _subscriptions(settings: BridgeSettings) -> tuple[list[str], int]:
    """The topics to subscribe to, and the most bytes of a message."""
    if settings.source == "events":
        return [f"{settings.frigate_topic}/events"], MAX_EVENT_BYTES
    topics = [f"{settings.frigate_topic}/+/{label}/snapshot" for label in settings.labels]
    return topics, MAX_SNAPSHOT_BYTES


def _as_ours(error: Exception) -> Eye2FaceError:
    if isinstance(error, Eye2FaceError):
        return error
    _log.error("an event failed", exc_info=error)
    return Eye2FaceError("The bridge failed on this event; its log has the reason.")
