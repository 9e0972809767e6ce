"""From an NVR's events to faces on MQTT: what is taken, once, and what is published of it.

    frigate/events ──> read ──> filter ──> once ──> queue ──> worker: snapshot ──> service ──> publish

The line's thread reads, filters and remembers; a few workers do the rest, so that memory stays flat
whatever comes. Below the bridge's topic go out `<camera>/image` (the face as a file), `<camera>/result` or
`<camera>/error` (JSON), `error` for messages that were not taken, and `available`. Frigate's sub_label means
identity and is neither read nor written: a face drawn from one eye identifies nobody.
"""

import logging
import queue
import threading
import time
from typing import Final

from service.access.tls import client_context
from service.bridge.deduplication import Deduplicator, PendingEvent
from service.bridge.frigate import (
    MAX_EVENT_BYTES,
    MAX_SNAPSHOT_BYTES,
    EventFilter,
    FrigateClient,
    FrigateError,
    read_event,
    read_snapshot,
)
from service.bridge.messages import discovery_message, error_message, result_message
from service.bridge.mqtt import ConnectionClosed, DeliveryTag, Message, MqttConnection, MqttOptions
from service.client.client import Client
from service.client.retries import RetryPolicy
from service.errors import Eye2FaceError
from service.settings import BridgeSettings, read_secret

MAX_CAMERAS: Final = 500
"""Announced to Home Assistant; more names than this are no cameras but an attack."""

_MAX_WAITING_BYTES: Final = 100_000_000
_STOP_S: Final = 8.0
"""So long a stopping bridge works on what it has; container engines kill after ten seconds."""

_MENTION_EVERY_S: Final = 1.0

_log = logging.getLogger(__name__)


class BridgeFull(FrigateError):
    """More events wait than may; this one is not taken."""

    status = 503
    code = "bridge_full"
    title = "Too many events wait"


class Bridge:
    """One bridge between a Frigate, a service and a broker; `run` it, `stop` it from a signal."""

    def __init__(self, settings: BridgeSettings) -> None:
        """Opens nothing yet.

        Raises:
            OSError, ValueError: a file with a secret or certificates, or the memory, cannot be read.
            InvalidParameter: the service's address is none.
        """
        self._settings = settings
        self._filter = EventFilter.of(settings)
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
        self._mqtt = MqttConnection(_mqtt_options(settings), self._receive, self._forget_announcements)
        self._deduplicator = Deduplicator(settings.memory_file)
        self._pending: queue.SimpleQueue[PendingEvent | None] = queue.SimpleQueue()
        self._waiting_bytes = 0
        self._announced: set[str] = set()
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._mentioned_at = -_MENTION_EVERY_S

    def run(self) -> None:
        """Works until `stop`, then a few seconds on what waits; the rest comes again at the next start."""
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
            self._pending.put(None)
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
        """Takes a message or not; in the line's thread, which must survive whatever a message does."""
        try:
            if (done_with := self._take(message)) is not None:
                self._mqtt.acknowledge(done_with)
        except FrigateError as error:
            self._report(error)
            self._mqtt.acknowledge(message.tag)
        except Exception:  # noqa: BLE001  # our mistake about one message must not end the line for all
            _log.exception("a message on %s was dropped", message.topic[:100])
            self._mqtt.acknowledge(message.tag)

    def _take(self, message: Message) -> DeliveryTag | None:
        """The tag that can go back now; None if the message waits until its event is done, or for
        the next start.

        Raises:
            MessageRefused: it is none of Frigate's.
            BridgeFull: there is no room for it.
        """
        if self._stopping.is_set():
            return None
        if message.retained or not message.payload:  # of an earlier time, or the end of a retained one
            return message.tag
        if self._settings.source == "events":
            event = read_event(message.payload)
        else:
            event = read_snapshot(message.topic, message.payload)
        if not self._filter.matches(event):
            return message.tag
        pending = PendingEvent(event, message.tag)
        done_with = self._deduplicator.accept(pending)
        if done_with is None:
            self._enqueue(pending)
        return done_with

    def _enqueue(self, pending: PendingEvent) -> None:
        too_many = self._pending.qsize() >= self._settings.max_waiting
        if too_many or self._waiting_bytes + pending.num_bytes > _MAX_WAITING_BYTES:
            self._deduplicator.release(pending)
            raise BridgeFull(
                f"{self._pending.qsize()} events wait already; {pending.event.key[:64]} of "
                f"{pending.event.camera} is not taken. Allow more workers or a faster service, "
                "or filter more."
            )
        with self._lock:
            self._waiting_bytes += pending.num_bytes
        self._pending.put(pending)

    def _report(self, error: FrigateError) -> None:
        """Says that a message was not taken, once a second at most: a flood of them makes no other."""
        now = time.monotonic()
        if now - self._mentioned_at < _MENTION_EVERY_S:
            return
        self._mentioned_at = now
        _log.warning("%s", error)
        self._mqtt.publish_unconfirmed(f"{self._settings.topic}/error", error_message(error))

    def _work(self) -> None:
        while (pending := self._pending.get()) is not None:
            with self._lock:
                self._waiting_bytes -= pending.num_bytes
            try:
                self._serve(pending)
            except ConnectionClosed:  # unacknowledged, so it comes again at the next start
                return
            self._mqtt.acknowledge(self._deduplicator.complete(pending))

    def _serve(self, pending: PendingEvent) -> None:
        """Publishes a face, or why there is none."""
        event = pending.event
        base = f"{self._settings.topic}/{event.camera}"
        try:
            image, result = self._draw(pending)
        except Exception as error:  # noqa: BLE001  # whatever one event meets, the others are worked on
            self._mqtt.publish(f"{base}/error", error_message(_known(error), event))
            return
        self._announce(event.camera)
        self._mqtt.publish(f"{base}/image", image)
        self._mqtt.publish(f"{base}/result", result)

    def _draw(self, pending: PendingEvent) -> tuple[bytes, str]:
        """The face of the largest person, and what is told of it."""
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
        """Tells Home Assistant of the camera's image, the first time."""
        if not self._settings.home_assistant:
            return
        with self._lock:
            if camera in self._announced or len(self._announced) >= MAX_CAMERAS:
                return
            self._announced.add(camera)
        self._mqtt.publish(*discovery_message(self._settings, camera), retain=True)

    def _forget_announcements(self) -> None:
        with self._lock:
            self._announced.clear()


def _mqtt_options(settings: BridgeSettings) -> MqttOptions:
    if settings.source == "events":
        subscriptions, largest = [f"{settings.frigate_topic}/events"], MAX_EVENT_BYTES
    else:
        subscriptions = [f"{settings.frigate_topic}/+/{label}/snapshot" for label in settings.labels]
        largest = MAX_SNAPSHOT_BYTES
    return MqttOptions(
        host=settings.mqtt_host,
        port=settings.mqtt_port,
        trust=client_context(settings.mqtt_ca_file) if settings.mqtt_tls else None,
        client_id=settings.mqtt_client_id,
        username=settings.mqtt_username,
        password=read_secret(settings.mqtt_password_file),
        subscriptions=subscriptions,
        max_message_bytes=largest + 1000,  # its topic and header
        availability=f"{settings.topic}/available",
    )


def _known(error: Exception) -> Eye2FaceError:
    if isinstance(error, Eye2FaceError):
        return error
    _log.error("an event failed", exc_info=error)
    return Eye2FaceError("The bridge failed on this event; its log says why.")
