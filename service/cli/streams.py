"""Photos and faces of a command line: files, or `-` for standard input and output."""

import errno
import os
import sys
from pathlib import Path
from typing import Final

from service.errors import Eye2FaceError
from service.system.files import read_regular_file, replace_file

STANDARD: Final = "-"

_STDIN: Final = 0


class UsageError(Eye2FaceError):
    """The options or arguments of a command cannot be used."""


def read_input(photo: Path, max_bytes: int) -> bytes:
    """The bytes of a file, or of standard input for `-`.

    Raises:
        UsageError: standard input is a terminal, or closed.
        OSError: the photo cannot be read, or is larger than `max_bytes`.
    """
    if str(photo) != STANDARD:
        return read_regular_file(photo, max_bytes)
    if sys.stdin is None or sys.stdin.isatty():
        raise UsageError("- reads a photo from standard input, which has none: add < photo.jpg")
    data = sys.stdin.buffer.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise OSError(errno.EFBIG, f"Larger than {max_bytes:,} bytes", "standard input")
    return data


def write_picture(path: str, data: bytes) -> None:
    """Writes an encoded picture to a file, or to standard output for `-`. Raises OSError: it cannot."""
    if path == STANDARD:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    with replace_file(Path(path)) as file:
        file.write(data)


def check_output(option: str, path: str, photo: Path, *, as_json: bool) -> None:
    """Checks where a picture is to be written.

    Raises:
        UsageError: it is the photo itself, also through links; or standard output, which is a terminal, is
            closed or gets JSON.
        OSError: there is no such photo.
    """
    if path == STANDARD and as_json:
        raise UsageError(f"--json and {option} - both write to standard output")
    if path == STANDARD and (sys.stdout is None or sys.stdout.isatty()):
        raise UsageError(f"{option} - writes a picture to standard output, which takes none: add > face.png")
    if path == STANDARD or not os.path.exists(path):
        return
    if os.path.samefile(path, _STDIN if str(photo) == STANDARD else photo):
        raise UsageError(f"{option} {path} is the photo itself, which is not overwritten")
