"""Deduplication of events: each is processed once, also if several messages report it or the bridge restarts.

Finished keys can be appended to a file, one a line, which the next start reads.
"""

import logging
import os
import threading
import time
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TextIO

from service.bridge.mqtt import DeliveryTag
from service.bridge.sources import CameraEvent

MAX_REMEMBERED: Final = 20_000
"""Finished events that are remembered: those of days, a few MB."""

_log = logging.getLogger(__name__)


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

    def __init__(self, file: Path | None = None, *, max_remembered: int = MAX_REMEMBERED) -> None:
        """Reads the finished keys of `file`, if there is one, and appends to it.

        Raises:
            OSError: the file can be neither read nor written.
        """
        self._max_remembered = max_remembered
        self._lock = threading.Lock()
        self._in_progress: dict[str, PendingEvent] = {}
        self._done: OrderedDict[str, None] = OrderedDict()
        self._file: TextIO | None = None
        self._num_lines = 0
        if file is not None:
            keys = file.read_text("utf-8", errors="replace").split("\n") if file.exists() else [""]
            self._done = OrderedDict.fromkeys(keys[:-1][-max_remembered:])  # the last line may be incomplete
            self._rewrite(file)

    def accept(self, pending: PendingEvent) -> DeliveryTag | None:
        """A tag to acknowledge at once, because the event is known; None for a new event."""
        key = pending.event.key
        with self._lock:
            if key in self._done:
                self._done.move_to_end(key)
                return pending.tag
            known = self._in_progress.get(key)
            if known is None:
                self._in_progress[key] = pending
                return None
            # After a reconnect the broker redelivers: only the newer tag can be acknowledged later.
            older, known.tag = known.tag, pending.tag
            return older

    def complete(self, pending: PendingEvent) -> DeliveryTag:
        """Marks the event as done; returns the tag to acknowledge."""
        key = pending.event.key
        with self._lock:
            self._done[key] = None
            while len(self._done) > self._max_remembered:
                self._done.popitem(last=False)
            self._write(key)
            return self._in_progress.pop(key).tag

    def release(self, pending: PendingEvent) -> None:
        """Takes back `accept`: another message about the event may be accepted."""
        with self._lock:
            self._in_progress.pop(pending.event.key)

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            if self._file is not None:
                self._file.close()
                self._file = None

    def _write(self, key: str) -> None:
        if self._file is None:
            return
        try:
            self._file.write(f"{key}\n")
            self._file.flush()
            self._num_lines += 1
            if self._num_lines > 2 * self._max_remembered:
                self._file.close()
                self._rewrite(Path(self._file.name))
        except OSError as error:  # the bridge goes on; only a restart repeats some events
            _log.error("cannot write finished events to %s: %s", self._file.name, error.strerror)
            with suppress(OSError):  # closing flushes
                self._file.close()
            self._file = None

    def _rewrite(self, path: Path) -> None:
        """Compacts the file to the remembered keys, and opens it for appending."""
        fresh = path.with_name(f"{path.name}.new")
        fresh.write_text("".join(f"{key}\n" for key in self._done), "utf-8")
        os.replace(fresh, path)
        self._file = path.open("a", encoding="utf-8")
        self._num_lines = len(self._done)
