"""Files whose kind and size others choose: photos, keys, models. Bounded reading, atomic writing."""

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, BinaryIO, Final

DISK_FULL: Final = (errno.ENOSPC, errno.EDQUOT)

_PART: Final = ".eye2face-{}.part"
"""Names of files that are being written."""


def read_regular_file(path: Path, max_bytes: int) -> bytes:
    """The content of a regular file.

    Raises:
        OSError: it cannot be read, is not a regular file, or is larger.
    """
    with open_regular_file(path, "rb") as file:
        is_larger = os.fstat(file.fileno()).st_size > max_bytes
        # Some files of the kernel say that they have no bytes.
        if is_larger or len(data := file.read(max_bytes + 1)) > max_bytes:
            raise OSError(errno.EFBIG, f"Larger than {max_bytes:,} bytes", str(path))
        return bytes(data)


def open_regular_file(path: Path, mode: str, *, flags: int = 0, permissions: int = 0o666) -> IO[Any]:
    """The file, opened with `flags` of `os.open` besides those of the mode; a FIFO is never waited for.

    `permissions` are those of a new file, before the umask.

    Raises:
        OSError: it cannot be opened, or is not a regular file.
    """

    def open_fd(name: str, given: int) -> int:
        fd = os.open(name, given | flags | os.O_NONBLOCK | os.O_NOCTTY, permissions)
        if stat.S_IFMT(os.fstat(fd).st_mode) in (stat.S_IFREG, stat.S_IFDIR):  # folders are told by `open`
            return fd
        os.close(fd)
        raise _not_regular(path)

    return open(path, mode, opener=open_fd)


@contextmanager
def replace_file(path: Path) -> Iterator[BinaryIO]:
    """A new file, which becomes `path` when the context ends without an error; else nothing is left of it.

    Raises:
        OSError: `path` is a link, a device or a folder, or cannot be written.
    """
    part = path.parent / _PART.format(secrets.token_hex(8))
    try:
        if os.path.lexists(path) and not stat.S_ISREG(path.lstat().st_mode):
            raise _not_regular(path)
        with part.open("xb") as file:  # follows no link
            yield file
        part.replace(path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        with suppress(OSError):
            part.unlink()


def remove_parts(folder: Path) -> None:
    """Removes what killed processes were writing into the folder."""
    for part in folder.glob(_PART.format("*")):
        with suppress(OSError):
            part.unlink()


def _not_regular(path: Path) -> OSError:
    return OSError(errno.EINVAL, "Not a regular file", str(path))
