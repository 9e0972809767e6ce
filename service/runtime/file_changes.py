"""Detection of changed files by their metadata, without reading them."""

import time
from pathlib import Path
from typing import Final

CHECK_EVERY_S: Final = 1.0
"""Minimum interval between two checks of a file."""


def file_signature(path: Path) -> object:
    """A value that changes when the file is written, replaced or removed."""
    try:
        status = path.stat()
    except OSError as error:
        return error.errno
    return status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev, status.st_size


class FileWatcher:
    """Reports changes of files; checks them at most once in CHECK_EVERY_S.

    Create it before you read the files: a change during the reading is then reported.
    """

    def __init__(self, *paths: Path) -> None:
        self._paths = paths
        self._seen = self._signatures()
        self._next_check = 0.0

    def changed(self) -> bool:
        """Whether one of the files was written or replaced since the last check."""
        now = time.monotonic()
        if now < self._next_check:
            return False
        self._next_check = now + CHECK_EVERY_S
        before, self._seen = self._seen, self._signatures()
        return self._seen != before

    def _signatures(self) -> list[object]:
        return [file_signature(path) for path in self._paths]
