"""Deduplication of events: each is processed once, also if several messages report it."""

import threading
import time
from dataclasses import dataclass, field

from service.bridge.database import MAX_REMEMBERED, Database
from service.bridge.mqtt import DeliveryTag
from service.bridge.sources import CameraEvent


@dataclass(slots=True)
class PendingEvent:
    """An accepted event, and the delivery tag to acknowledge when it is done."""

    event: CameraEvent
    tag: DeliveryTag
    taken_at: float = field(default_factory=time.monotonic)

    @property
    def num_bytes(self) -> int:
        """Memory that its photo takes."""
        return len(self.event.photo or b"")


class Deduplicator:
    """Accepts each event once; may be shared by threads. The oldest finished events are forgotten."""

    def __init__(self, database: Database, *, max_remembered: int = MAX_REMEMBERED) -> None:
        self._database = database
        self._max_remembered = max_remembered
        self._lock = threading.Lock()
        self._in_progress: dict[str, PendingEvent] = {}

    def accept(self, pending: PendingEvent) -> DeliveryTag | None:
        """A tag to acknowledge at once, because the event is known; None for a new event."""
        key = pending.event.key
        with self._lock:
            if self._database.execute("SELECT 1 FROM done WHERE key = ?", key):
                self._database.execute("REPLACE INTO done VALUES (?)", key)  # it is the newest again
                return pending.tag
            known = self._in_progress.get(key)
            if known is None:
                self._in_progress[key] = pending
                return None
            if not pending.tag.qos:
                return pending.tag  # it cannot be acknowledged; the known one can, and not before it is done
            # After a reconnect the broker redelivers: only the newer tag can be acknowledged later.
            older, known.tag = known.tag, pending.tag
            return older

    def complete(self, pending: PendingEvent) -> DeliveryTag:
        """Marks the event as done; returns the tag to acknowledge."""
        key = pending.event.key
        with self._lock:
            self._database.execute("REPLACE INTO done VALUES (?)", key)
            self._database.execute(
                "DELETE FROM done WHERE rowid <= "
                "(SELECT rowid FROM done ORDER BY rowid DESC LIMIT 1 OFFSET ?)",
                self._max_remembered,
            )
            self._database.execute("DELETE FROM pictures WHERE key = ?", key)
            return self._in_progress.pop(key).tag

    def release(self, pending: PendingEvent) -> None:
        """Takes back `accept`: another message about the event may be accepted."""
        with self._lock:
            self._in_progress.pop(pending.event.key)
