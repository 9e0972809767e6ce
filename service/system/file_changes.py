"""Detection of changed files by their metadata, and values that follow their files."""

import logging
import threading
import time
from collections.abc import Callable, Hashable
from contextlib import suppress
from pathlib import Path
from typing import Final, Generic, TypeVar

from service.errors import Eye2FaceError

T = TypeVar("T")

CHECK_EVERY_S: Final = 1.0
"""Minimum interval between two checks of a file."""

_log = logging.getLogger(__name__)


def file_stamp(path: Path) -> Hashable:
    """A value that changes when the file is written, replaced or removed."""
    try:
        status = path.stat()
    except OSError as error:
        return error.errno
    return status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev, status.st_size


class FollowedFiles(Generic[T]):
    """A value read from files, and again, in a thread, when they change; the last valid one is kept."""

    def __init__(self, what: str, read: Callable[[], T], *paths: Path) -> None:
        """Raises what `read` raises, an Eye2FaceError where the files cannot be used."""
        self._what, self._read, self._paths = what, read, paths
        self._seen = self._stamps()  # before reading: what is written meanwhile counts as a change
        self._value = read()
        self._failure = ""
        self._next_check = 0.0
        self._checking = threading.Lock()

    def value(self) -> T:
        """The newest known value; waits for no file, and starts at most one check in CHECK_EVERY_S."""
        now = time.monotonic()
        if self._paths and now >= self._next_check:
            self._next_check = now + CHECK_EVERY_S
            with suppress(RuntimeError):  # the system gives no thread now
                threading.Thread(target=self._check, daemon=True).start()
        return self._value

    def _check(self) -> None:
        if self._checking.acquire(blocking=False):  # else an earlier check still waits for its file system
            try:
                self._reload()
            finally:
                self._checking.release()

    def _reload(self) -> None:
        seen = self._stamps()
        if seen == self._seen:
            return
        try:
            self._value = self._read()
        except Eye2FaceError as error:  # tried again: perhaps one of two files is not written yet
            if str(error) != self._failure:
                _log.error("cannot reload the %s, keeping the previous: %s", self._what, error)
            self._failure = str(error)
            return
        self._seen, self._failure = seen, ""
        _log.warning("reloaded the %s in %s", self._what, self._paths[0])

    def _stamps(self) -> list[object]:
        return [file_stamp(path) for path in self._paths]
