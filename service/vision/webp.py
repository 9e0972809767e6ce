"""The header of a WebP file: size, orientation and transparency. Source: WebP container specification."""

import struct
from typing import Final

from service.errors import ImageCorrupt
from service.vision.chunks import iterate_chunks
from service.vision.exif import read_orientation

MAX_CHUNKS: Final = 50_000
"""Chunks that are searched for EXIF."""

_ANIMATION, _EXIF, _ALPHA = 0x02, 0x08, 0x10
"""Flags of an extended header."""


def is_webp(data: bytes) -> bool:
    """Whether the bytes begin like a WebP file."""
    return data[:4] == b"RIFF" and data[8:12] == b"WEBP"


def parse_webp(data: bytes) -> tuple[int, int, int, bool]:
    """Width, height, EXIF orientation, and whether there may be transparency.

    Raises:
        ImageCorrupt: it is cut off or broken.
    """
    kind, body = data[12:16], data[20:30]
    if kind == b"VP8X" and len(body) == 10:
        width, height = int.from_bytes(body[4:7], "little"), int.from_bytes(body[7:10], "little")
        orientation = _read_exif(data) if body[0] & _EXIF else 1
        return 1 + width, 1 + height, orientation, bool(body[0] & (_ANIMATION | _ALPHA))
    if kind == b"VP8L" and len(body) >= 5 and body[0] == 0x2F:
        bits = int.from_bytes(body[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF), 1, bool(bits >> 28 & 1)
    if kind == b"VP8 " and len(body) == 10 and body[3:6] == b"\x9d\x01\x2a":
        width, height = struct.unpack_from("<HH", body, 6)
        return width & 0x3FFF, height & 0x3FFF, 1, False
    raise ImageCorrupt(
        "The file begins like a WebP, but its header is cut off or broken. Send an undamaged file."
    )


def repair(data: bytes) -> bytes:
    """A file that OpenCV shows as browsers show this one.

    Where the size is wrong or the last chunk is cut off, the complete chunks alone are left, as OpenCV reads
    none of them otherwise. Animations become transparent: their first frame may leave the canvas free.
    """
    if data[12:16] == b"VP8X" and data[20] & _ANIMATION:
        data = data[:20] + bytes((data[20] | _ALPHA,)) + data[21:]
    stated, whole = 8 + int.from_bytes(data[4:8], "little"), 12
    for _, _, end in iterate_chunks(data, 12, "<4sI", trailer=0, limit=MAX_CHUNKS):
        if end > len(data):
            break
        whole = end + end % 2
        if whole == stated <= len(data):
            return data
    return b"RIFF" + struct.pack("<I", whole - 8) + data[8:whole].ljust(whole - 8, b"\0")


def _read_exif(data: bytes) -> int:
    for name, start, end in iterate_chunks(data, 12, "<4sI", trailer=0, limit=MAX_CHUNKS):
        if name == b"EXIF" and end <= len(data):
            return read_orientation(data[start:end].removeprefix(b"Exif\0\0"))
    return 1
