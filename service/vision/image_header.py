"""Format, size, orientation and alpha of an image file, parsed before any pixel is decoded.

The bytes are untrusted: every loop is bounded, every offset is checked, and a broken EXIF block means
orientation 1. A file that would cost OpenCV much memory or time is refused here.
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from service.errors import (
    EmptyBody,
    ImageCorrupt,
    ImageTooLarge,
    ImageTooSmall,
    NotAnImage,
    UnsupportedFormat,
)

ImageFormat = Literal["jpeg", "png", "webp", "bmp"]

MIN_SIDE_PX = 16
"""Pictures with a shorter side are refused: they hold no eye to draw from."""

MAX_SEGMENTS = 4096
"""JPEG segments and WebP chunks that are parsed. Cameras write under 300, but 20 MB hold millions."""

MAX_CHUNKS = 50_000
"""PNG chunks that are parsed; more are refused. libpng writes 8 KB in each, some encoders 1 KB."""

MAX_SCANS = 100
"""Scans of a progressive JPEG. Encoders write about 10; a small file of thousands takes minutes to decode."""

_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"

_OTHER_FORMATS = (
    (0, b"GIF8", "GIF"),
    (0, b"II*\0", "TIFF"),
    (0, b"MM\0*", "TIFF"),
    (0, b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000"),
    (0, b"\0\0\0\x0cJXL ", "JPEG XL"),
    (0, b"\xff\x0a", "JPEG XL"),
    (4, b"ftypavi", "AVIF"),
    (4, b"ftypheic", "HEIC"),
    (4, b"ftyphei", "HEIC"),
    (4, b"ftyphev", "HEIC"),
    (4, b"ftypmif1", "HEIC"),
    (4, b"ftypmsf1", "HEIC"),
    (0, b"%PDF-", "PDF"),
    (0, b"<svg", "SVG"),
    (0, b"8BPS", "Photoshop"),
)


@dataclass(frozen=True, slots=True)
class Header:
    """Width and height as stored, EXIF orientation 1 to 8, and whether pixels may be transparent."""

    format: ImageFormat
    width: int
    height: int
    orientation: int = 1
    may_have_alpha: bool = False

    @property
    def upright_width(self) -> int:
        """Width after the EXIF orientation is applied."""
        return self.height if self.orientation >= 5 else self.width

    @property
    def upright_height(self) -> int:
        """Height after the EXIF orientation is applied."""
        return self.width if self.orientation >= 5 else self.height


def read_header(data: bytes, *, max_pixels: int) -> Header:
    """The header of a JPEG, PNG, WebP or BMP file.

    Raises:
        EmptyBody: there are no bytes.
        NotAnImage: they do not begin like any picture.
        UnsupportedFormat: a picture, but not JPEG, PNG, WebP or BMP.
        ImageCorrupt: the header is cut off or makes no sense.
        ImageTooSmall: a side is shorter than MIN_SIDE_PX, or 0.
        ImageTooLarge: more than `max_pixels` pixels.
    """
    header = _HEADER_READERS[_sniff(data)](data)
    size = f"{header.width:,} x {header.height:,} pixels"
    if min(header.width, header.height) < MIN_SIDE_PX:
        raise ImageTooSmall(
            f"The picture has {size}; each side must have at least {MIN_SIDE_PX}. Send a larger picture."
        )
    if header.width * header.height > max_pixels:
        raise ImageTooLarge(
            f"The picture has {size}, more than the {max_pixels:,} that are taken. Send a smaller one."
        )
    return header


def _sniff(data: bytes) -> ImageFormat:
    if not data:
        raise EmptyBody("No bytes were sent. Send a JPEG, PNG, WebP or BMP picture.")
    if data.startswith(_JPEG):
        return "jpeg"
    if data.startswith(_PNG):
        return "png"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    if data[:2] == b"BM" and data[6:10] == b"\0\0\0\0":
        return "bmp"
    for offset, magic, name in _OTHER_FORMATS:
        if data.startswith(magic, offset):
            raise UnsupportedFormat(
                f"The file is {name}, which is not read here. Convert it to JPEG, PNG, WebP or BMP."
            )
    raise NotAnImage(
        "The bytes do not begin like a picture. Send the file itself as JPEG, PNG, WebP or BMP, "
        "not a link to it and not its base64 text."
    )


def _corrupt(format: str, what: str) -> ImageCorrupt:
    return ImageCorrupt(f"The file begins like a {format}, but {what}. Send an undamaged file.")


def _read_jpeg(data: bytes) -> Header:
    size: tuple[int, int] | None = None
    orientation = 1
    for marker, start, end in _jpeg_segments(data):
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # a frame header
            if size is not None or end - start < 6:
                raise _corrupt("JPEG", "its frame header is broken")
            height, width = struct.unpack_from(">HH", data, start + 1)
            size = (width, height)
        elif marker == 0xE1 and orientation == 1 and data.startswith(b"Exif\0\0", start):
            orientation = _exif_orientation(data[start + 6 : end])
    if size is None:
        raise _corrupt("JPEG", "it is cut off before the picture's size")
    # Inside a scan every byte 0xff is followed by 0, so this counts scans (and those of thumbnails).
    if sum(1 for _ in _JPEG_SCAN.finditer(data)) > MAX_SCANS:  # bytes.count takes 3 ms more of a 12 MP photo
        raise _corrupt("JPEG", f"it has more than {MAX_SCANS} scans")
    return Header("jpeg", *size, orientation)


_JPEG_SCAN = re.compile(rb"\xff\xda")
_JPEG_MARKER = re.compile(rb"\xff([^\x00\xff])")


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Marker, first byte and end of each segment's content, up to the first scan."""
    position = 2
    for _ in range(MAX_SEGMENTS):
        found = _JPEG_MARKER.search(data, position)
        if found is None or found[1] in (b"\xd9", b"\xda"):  # end of picture, start of scan
            return
        marker = found[1][0]
        if marker == 0x01 or 0xD0 <= marker <= 0xD8:  # these have no content
            position = found.end()
            continue
        if found.end() + 2 > len(data):
            return
        (length,) = struct.unpack_from(">H", data, found.end())
        position = found.end() + length
        if length < 2 or position > len(data):
            return
        yield marker, found.end() + 2, position


def _read_png(data: bytes) -> Header:
    if len(data) < 33 or data[8:16] != b"\0\0\0\x0dIHDR":
        raise _corrupt("PNG", "its header is cut off or broken")
    width, height = struct.unpack_from(">II", data, 16)
    colour_type = data[25]
    may_have_alpha = colour_type in (4, 6)  # grey or RGB, each with its own transparency
    orientation: int | None = None
    num_chunks = 0
    for name, start, end in _chunks(data, 33, ">I4s", trailer=4, limit=MAX_CHUNKS):
        if name == b"IEND":
            break
        if end > len(data):  # OpenCV takes as much memory as a chunk claims to need, up to 2 GB
            raise _corrupt("PNG", f"it is cut off or damaged: a part of it claims {end - start:,} bytes")
        if name == b"eXIf" and orientation is None:
            orientation = _exif_orientation(data[start:end])
        may_have_alpha |= name in (b"tRNS", b"acTL")  # an animation: its frames may have holes
        num_chunks += 1
    if num_chunks == MAX_CHUNKS:
        raise _corrupt("PNG", f"it has {MAX_CHUNKS:,} parts or more")
    return Header("png", width, height, orientation or 1, may_have_alpha)


def _read_webp(data: bytes) -> Header:
    kind, body = data[12:16], data[20:30]
    flags = 0
    may_have_alpha = False
    if kind == b"VP8X" and len(body) == 10:
        flags = body[0]
        may_have_alpha = bool(flags & 0x12)  # transparency, or an animation
        width = 1 + int.from_bytes(body[4:7], "little")
        height = 1 + int.from_bytes(body[7:10], "little")
    elif kind == b"VP8L" and len(body) >= 5 and body[0] == 0x2F:
        bits = int.from_bytes(body[1:5], "little")
        width, height = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
        may_have_alpha = bool(bits >> 28 & 1)
    elif kind == b"VP8 " and len(body) == 10 and body[3:6] == b"\x9d\x01\x2a":
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", body, 6))
    else:
        raise _corrupt("WebP", "its header is cut off or broken")
    if flags & 0x08:  # holds EXIF
        for name, start, end in _chunks(data, 12, "<4sI", trailer=0, limit=MAX_SEGMENTS):
            if name == b"EXIF" and end <= len(data):
                exif = data[start:end].removeprefix(b"Exif\0\0")
                return Header("webp", width, height, _exif_orientation(exif), may_have_alpha)
    return Header("webp", width, height, may_have_alpha=may_have_alpha)


def _chunks(
    data: bytes, position: int, layout: str, *, trailer: int, limit: int
) -> Iterator[tuple[bytes, int, int]]:
    """Name, first byte and end of each chunk, of PNG or RIFF by the layout of its head.

    The end of the last one may lie beyond the data.
    """
    for _ in range(limit):
        if position + 8 > len(data):
            return
        first, second = struct.unpack_from(layout, data, position)
        name, length = (first, second) if isinstance(first, bytes) else (second, first)
        end = position + 8 + length
        yield name, position + 8, end
        position = end + (trailer or length % 2)  # PNG: a checksum; RIFF: padding to even length


def _read_bmp(data: bytes) -> Header:
    header_size = int.from_bytes(data[14:18], "little")
    if header_size == 12 and len(data) >= 22:
        width, height = struct.unpack_from("<HH", data, 18)
    elif 40 <= header_size <= 124 and len(data) >= 26:
        width, height = struct.unpack_from("<ii", data, 18)
    else:
        raise _corrupt("BMP", "its header is cut off or broken")
    if width < 0:
        raise _corrupt("BMP", "its width is negative")
    return Header("bmp", width, abs(height))  # a negative height means: stored from the top


_HEADER_READERS = {"jpeg": _read_jpeg, "png": _read_png, "webp": _read_webp, "bmp": _read_bmp}

_ORIENTATION_TAG, _SHORT = 0x0112, 3


def _exif_orientation(exif: bytes) -> int:
    """The orientation in an EXIF block (a TIFF), 1 where it is absent or broken."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None or len(exif) < 8:
        return 1
    (directory,) = struct.unpack_from(order + "I", exif, 4)
    if directory + 2 > len(exif):
        return 1
    (num_entries,) = struct.unpack_from(order + "H", exif, directory)
    for entry in range(directory + 2, directory + 2 + 12 * num_entries, 12):
        if entry + 12 > len(exif):
            return 1
        tag, kind = struct.unpack_from(order + "HH", exif, entry)
        if tag == _ORIENTATION_TAG and kind == _SHORT:
            (value,) = struct.unpack_from(order + "H", exif, entry + 8)
            return value if 1 <= value <= 8 else 1
    return 1
