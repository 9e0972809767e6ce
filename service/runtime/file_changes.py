"""Whether files were written or replaced since they were looked at, without reading them."""

import time
from pathlib import Path
from typing import Final

CHECK_EVERY_S: Final = 1.0
"""So long after it was written, at the most, a file that is asked about counts."""


def file_signature(path: Path) -> object:
    """What differs when a file is written or replaced; a file that is not there has a signature, too."""
    try:
        status = path.stat()
    except OSError as error:
        return error.errno
    return status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev, status.st_size


class FileWatcher:
    """Looks at files as often as CHECK_EVERY_S allows, however often it is asked.

    To be made before they are read: what is written meanwhile is then seen the next time.
    """

    def __init__(self, *paths: Path) -> None:
        self._paths = paths
        self._seen = self._look()
        self._next_check = 0.0

    def changed(self) -> bool:
        """Whether one of the files was written or replaced since it was last seen."""
        now = time.monotonic()
        if now < self._next_check:
            return False
        self._next_check = now + CHECK_EVERY_S
        before, self._seen = self._seen, self._look()
        return self._seen != before

    def _look(self) -> list[object]:
        return [file_signature(path) for path in self._paths]
