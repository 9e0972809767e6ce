"""The orientation in an EXIF block, read as Chromium reads it."""

import struct
from collections.abc import Iterator

_ORIENTATION_TAG, _DNG_VERSION_TAG, _SHORT = 0x0112, 0xC612, 3


def read_orientation(exif: bytes) -> int:
    """1 to 8: the first valid orientation entry of the first directory, and 1 where there is none.

    An entry is valid if it is one SHORT of 1 to 8. Chromium ignores every other type, count and value.
    """
    for tag, kind, count, value in _entries(exif):
        if tag == _ORIENTATION_TAG and kind == _SHORT and count == 1 and 1 <= value <= 8:
            return value
    return 1


def is_dng(tiff: bytes) -> bool:
    """Whether a TIFF file is a digital negative: its first directory has a DNGVersion."""
    return any(tag == _DNG_VERSION_TAG for tag, *_ in _entries(tiff))


def _entries(tiff: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Tag, type, count and value (as a SHORT) of the first directory's entries, at most 65,535."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None or len(tiff) < 8:
        return
    (directory,) = struct.unpack_from(order + "I", tiff, 4)
    if directory + 2 > len(tiff):
        return
    (num_entries,) = struct.unpack_from(order + "H", tiff, directory)
    for entry in range(directory + 2, directory + 2 + 12 * num_entries, 12):
        if entry + 12 > len(tiff):
            return
        yield struct.unpack_from(order + "HHIH", tiff, entry)
