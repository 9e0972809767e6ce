"""The sightings that were taken: which are in work and which are done, so that each is worked on once.

What is done can be written to a file, one key a line, so that a bridge that starts again knows it too.
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

from service.bridge.frigate import CameraEvent
from service.bridge.mqtt import DeliveryTag

MAX_REMEMBERED: Final = 20_000
"""Sightings that are known to be done: days of events, a few MB."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class PendingEvent:
    """A event that was taken, and the tag that goes back when it is done."""

    event: CameraEvent
    tag: DeliveryTag
    taken_at: float = field(default_factory=time.monotonic)

    @property
    def num_bytes(self) -> int:
        """What it takes of memory beside its names."""
        return len(self.event.snapshot or b"")


class Deduplicator:
    """Takes each event once; several threads may ask. The oldest ones that are done are forgotten."""

    def __init__(self, file: Path | None = None, *, max_remembered: int = MAX_REMEMBERED) -> None:
        """Knows what `file` remembers, and writes to it from now on.

        Raises:
            OSError: the file can be neither read nor made.
        """
        self._max_remembered = max_remembered
        self._lock = threading.Lock()
        self._working: dict[str, PendingEvent] = {}
        self._done: OrderedDict[str, None] = OrderedDict()
        self._path = file
        self._file: TextIO | None = None
        self._num_lines = 0
        if file is not None:
            if file.exists():
                keys = file.read_text("utf-8", errors="replace").split("\n")[:-1]  # a line cut off is none
                self._done = OrderedDict.fromkeys(keys[-max_remembered:])
            self._rewrite(file)

    def accept(self, pending: PendingEvent) -> DeliveryTag | None:
        """The tag that can go back at once, because the event is known; None of a new one."""
        key = pending.event.key
        with self._lock:
            if key in self._done:
                self._done.move_to_end(key)
                return pending.tag
            working = self._working.get(key)
            if working is None:
                self._working[key] = pending
                return None
            # After a broken line the broker gives a message again: the tag of the newer one is kept.
            older, working.tag = working.tag, pending.tag
            return older

    def complete(self, pending: PendingEvent) -> DeliveryTag:
        """The event is done; the tag that goes back now."""
        key = pending.event.key
        with self._lock:
            self._done[key] = None
            while len(self._done) > self._max_remembered:
                self._done.popitem(last=False)
            self._write(key)
            return self._working.pop(key).tag

    def release(self, pending: PendingEvent) -> None:
        """The event was not taken after all; another message about it may be."""
        with self._lock:
            self._working.pop(pending.event.key)

    def close(self) -> None:
        """Lets go of the file."""
        with self._lock:
            if self._file is not None:
                self._file.close()
                self._file = None

    def _write(self, key: str) -> None:
        if self._path is None or self._file is None:
            return
        try:
            self._file.write(f"{key}\n")
            self._file.flush()
            self._num_lines += 1
            if self._num_lines > 2 * self._max_remembered:
                self._file.close()
                self._rewrite(self._path)
        except OSError as error:  # faces go on; only a restart would draw some of them again
            _log.error("%s no longer remembers what is done: %s", self._path, error.strerror)
            with suppress(OSError):  # to close it is to write what it holds
                self._file.close()
            self._file = None

    def _rewrite(self, path: Path) -> None:
        """Leaves in the file what is known, and opens it for more."""
        fresh = path.with_name(f"{path.name}.new")
        fresh.write_text("".join(f"{key}\n" for key in self._done), "utf-8")
        os.replace(fresh, path)
        self._file = path.open("a", encoding="utf-8")
        self._num_lines = len(self._done)
