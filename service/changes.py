"""Whether a file was written or replaced since it was looked at, without reading it."""

from pathlib import Path


def signature(path: Path) -> object:
    """What differs when a file is written or replaced; a file that is not there has a signature, too."""
    try:
        status = path.stat()
    except OSError as error:
        return error.errno
    return status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev, status.st_size
