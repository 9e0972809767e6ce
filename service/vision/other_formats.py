"""The header of a BMP file, and the names of image formats that are not read."""

import struct

from service.errors import ImageCorrupt, UnsupportedFormat
from service.vision.exif import is_dng

_BMP_HEADER_SIZES = (12, 40, 52, 56, 64, 108, 124)
_BMP_KINDS = {4: "JPEG", 5: "PNG"}

_HEIC = "HEIC"

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

# Brands of ISO base media files; the first that the file claims to have names it. Files of every codec claim
# `mif1`, which says that there is a picture.
_AVIF_BRANDS = (b"avif", b"avis")
_BRANDS = (
    ((b"crx ",), "Canon raw (CR3)"),
    ((b"hei", b"hev"), _HEIC),
    ((b"mif", b"msf", b"miaf"), "HEIF"),
)


def is_bmp(data: bytes) -> bool:
    """Whether the bytes begin like a BMP file."""
    return data[:2] == b"BM" and (data[6:10] == bytes(4) or _bmp_header_size(data) in _BMP_HEADER_SIZES)


def is_avif(data: bytes) -> bool:
    """Whether the bytes begin like an AVIF file."""
    return any(brand in _AVIF_BRANDS for brand in _list_brands(data))


def parse_bmp(data: bytes) -> tuple[int, int]:
    """Width and height.

    Raises:
        ImageCorrupt: the header is cut off or broken.
        UnsupportedFormat: the file holds a picture of another format.
    """
    header_size = _bmp_header_size(data)
    if header_size == 12 and len(data) >= 22:
        width, height = struct.unpack_from("<HH", data, 18)
    elif 40 <= header_size <= 124 and len(data) >= 34:
        width, height = struct.unpack_from("<ii", data, 18)
        compression = int.from_bytes(data[30:34], "little")
        if compression in _BMP_KINDS:
            raise unsupported(f"a BMP that holds a {_BMP_KINDS[compression]}")
    else:
        raise _corrupt("its header is cut off or broken")
    if width < 0:
        raise _corrupt("its width is negative")
    return width, abs(height)  # a negative height means: stored from the top


def name_other_format(data: bytes) -> str | None:
    """The name of a format that is not read, None if the bytes do not begin like any."""
    if data.startswith((b"II*\0", b"MM\0*")):
        return "DNG" if is_dng(data) else "TIFF"
    brands = _list_brands(data)
    if brands:
        return next(
            (name for starts, name in _BRANDS if any(each.startswith(starts) for each in brands)), None
        )
    return next((name for offset, magic, name in _OTHER_FORMATS if data.startswith(magic, offset)), None)


def unsupported(name: str) -> UnsupportedFormat:
    """The error of a format that is not read."""
    advice = "Convert it to JPEG, PNG, WebP, AVIF or BMP."
    if name == _HEIC:
        advice = "Convert it to JPEG, or set the iPhone: Settings > Camera > Formats > Most Compatible."
    return UnsupportedFormat(f"The file is {name}, which is not read here. {advice}")


def _list_brands(data: bytes) -> list[bytes]:
    """The brands of an ISO base media file; none of other files."""
    if data[4:8] != b"ftyp":
        return []
    size = min(int.from_bytes(data[:4]), 512)
    return [data[8:12], *(data[at : at + 4] for at in range(16, size, 4))]


def _bmp_header_size(data: bytes) -> int:
    return int.from_bytes(data[14:18], "little")


def _corrupt(what: str) -> ImageCorrupt:
    return ImageCorrupt(f"The file begins like a BMP, but {what}. Send an undamaged file.")
