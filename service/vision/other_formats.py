"""AVIF's brands, and the names of image formats that are not read."""

from service.errors import UnsupportedFormat
from service.vision.exif import is_dng

_HEIC = "HEIC"

_MAX_XML_BYTES = 4096
"""Of an SVG's declaration, comments and document type, before the picture."""

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
    (0, b"8BPS", "Photoshop"),
    (0, b"\0\0\1\0", "ICO"),
    (0, b"v/1\1", "OpenEXR"),
    (0, b"qoif", "QOI"),
    (0, b"FUJIFILMCCD-RAW", "Fujifilm raw (RAF)"),
    (0, b"IIRO", "Olympus raw (ORF)"),
    (0, b"IIRS", "Olympus raw (ORF)"),
    (0, b"MMOR", "Olympus raw (ORF)"),
    (0, b"IIU\0", "Panasonic raw (RW2)"),
    (6, b"HEAPCCDR", "Canon raw (CRW)"),
    (0, b"FOVb", "Sigma raw (X3F)"),
    (0, b"\x8aMNG", "MNG"),
    (0, b"\x8bJNG", "JNG"),
    (0, b"#?RADIANCE", "Radiance HDR"),
    (0, b"DDS ", "DDS"),
    (0, b"%!PS", "PostScript"),
    *((0, b"P%d" % kind, "PNM") for kind in range(1, 8)),
)

# Brands of ISO base media files; the first that the file claims to have names it. Files of every codec claim
# `mif1`, which says that there is a picture.
_AVIF_BRANDS = (b"avif", b"avis")
_BRANDS = (
    ((b"crx ",), "Canon raw (CR3)"),
    ((b"hei", b"hev"), _HEIC),
    ((b"mif", b"msf", b"miaf"), "HEIF"),
)


def is_avif(data: bytes) -> bool:
    """Whether the bytes begin like an AVIF file."""
    return any(brand in _AVIF_BRANDS for brand in _list_brands(data))


def name_other_format(data: bytes) -> str | None:
    """The name of a format that is not read, None if the bytes do not begin like any."""
    if data.startswith((b"II*\0", b"MM\0*")):
        return "DNG" if is_dng(data) else "TIFF"
    brands = _list_brands(data)
    if brands:
        return next(
            (name for starts, name in _BRANDS if any(each.startswith(starts) for each in brands)), None
        )
    head = data[:_MAX_XML_BYTES].removeprefix(b"\xef\xbb\xbf").lstrip()
    if head.startswith(b"<") and b"<svg" in head:
        return "SVG"
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
