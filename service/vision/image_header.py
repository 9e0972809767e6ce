"""Format, size, orientation and alpha of an image file, parsed before any pixel is decoded.

The bytes are untrusted: every loop is bounded, every offset is checked, and a broken EXIF block means
orientation 1. A file that would cost OpenCV much memory or time is refused.
"""

import struct
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
from service.vision.chunks import iterate_chunks
from service.vision.exif import is_dng, read_orientation
from service.vision.jpeg import parse_jpeg
from service.vision.png import SIGNATURE as _PNG
from service.vision.png import parse_png

ImageFormat = Literal["jpeg", "png", "webp", "bmp"]

MIN_SIDE_PX = 16
"""Pictures with a shorter side are refused: they hold no eye to draw from."""

MAX_WEBP_CHUNKS = 50_000
"""WebP chunks that are searched for EXIF."""

_JPEG = b"\xff\xd8\xff"

_BMP_HEADER_SIZES = (12, 40, 52, 56, 64, 108, 124)
_BMP_KINDS = {4: "JPEG", 5: "PNG"}

_OTHER_FORMATS = (
    (0, b"GIF8", "GIF"),
    (0, b"II+\0", "BigTIFF"),
    (0, b"MM\0+", "BigTIFF"),
    (0, b"II\xbc", "JPEG XR"),
    (0, b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000"),
    (0, b"\0\0\0\x0cJXL ", "JPEG XL"),
    (0, b"\xff\x0a", "JPEG XL"),
    (0, b"%PDF-", "PDF"),
    (0, b"<svg", "SVG"),
    (0, b"8BPS", "Photoshop"),
    (0, b"\0\0\1\0", "ICO"),
    (0, b"v/1\1", "OpenEXR"),
    (0, b"qoif", "QOI"),
)

# Brands of ISO base media files; the first that the file claims to have names it.
_BRANDS = (
    ((b"avif", b"avis"), "AVIF"),
    ((b"crx ",), "Canon raw (CR3)"),
    ((b"hei", b"hev", b"mif", b"msf", b"miaf"), "HEIC"),
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
    if data[:2] == b"BM" and (data[6:10] == b"\0\0\0\0" or _bmp_header_size(data) in _BMP_HEADER_SIZES):
        return "bmp"
    name = _name_other_format(data)
    if name is not None:
        raise _unsupported(name)
    raise NotAnImage(
        "The bytes do not begin like a picture. Send the file itself as JPEG, PNG, WebP or BMP, "
        "not a link to it and not its base64 text."
    )


def _name_other_format(data: bytes) -> str | None:
    if data.startswith((b"II*\0", b"MM\0*")):
        return "DNG" if is_dng(data) else "TIFF"
    if data[4:8] == b"ftyp":
        size = min(int.from_bytes(data[:4]), 512)
        brands = [data[8:12], *(data[at : at + 4] for at in range(16, size, 4))]
        return next(
            (name for starts, name in _BRANDS if any(each.startswith(starts) for each in brands)), None
        )
    return next((name for offset, magic, name in _OTHER_FORMATS if data.startswith(magic, offset)), None)


def _unsupported(name: str) -> UnsupportedFormat:
    return UnsupportedFormat(
        f"The file is {name}, which is not read here. Convert it to JPEG, PNG, WebP or BMP."
    )


def _corrupt(format: str, what: str) -> ImageCorrupt:
    return ImageCorrupt(f"The file begins like a {format}, but {what}. Send an undamaged file.")


def _read_jpeg(data: bytes) -> Header:
    jpeg = parse_jpeg(data)
    return Header("jpeg", jpeg.width, jpeg.height, jpeg.orientation or 1)


def _read_png(data: bytes) -> Header:
    png = parse_png(data)
    return Header("png", png.width, png.height, png.orientation or 1, png.has_transparency)


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
        for name, start, end in iterate_chunks(data, 12, "<4sI", trailer=0, limit=MAX_WEBP_CHUNKS):
            if name == b"EXIF" and end <= len(data):
                exif = data[start:end].removeprefix(b"Exif\0\0")
                return Header("webp", width, height, read_orientation(exif), may_have_alpha)
    return Header("webp", width, height, may_have_alpha=may_have_alpha)


def _bmp_header_size(data: bytes) -> int:
    return int.from_bytes(data[14:18], "little")


def _read_bmp(data: bytes) -> Header:
    header_size = _bmp_header_size(data)
    if header_size == 12 and len(data) >= 22:
        width, height = struct.unpack_from("<HH", data, 18)
    elif 40 <= header_size <= 124 and len(data) >= 34:
        width, height = struct.unpack_from("<ii", data, 18)
        compression = int.from_bytes(data[30:34], "little")
        if compression in _BMP_KINDS:
            raise _unsupported(f"a BMP that holds a {_BMP_KINDS[compression]}")
    else:
        raise _corrupt("BMP", "its header is cut off or broken")
    if width < 0:
        raise _corrupt("BMP", "its width is negative")
    return Header("bmp", width, abs(height))  # a negative height means: stored from the top


_HEADER_READERS = {"jpeg": _read_jpeg, "png": _read_png, "webp": _read_webp, "bmp": _read_bmp}
