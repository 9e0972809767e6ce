"""Image files: the header before any pixel is decoded, upright RGB pixels, and encoding.

The bytes are untrusted: loops are bounded, offsets are checked, a broken EXIF block means orientation 1, and
a file that would cost OpenCV much memory or time is refused. Only this module knows OpenCV's codecs.
"""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from service.errors import EmptyBody, ImageCorrupt, ImageTooLarge, ImageTooSmall, NotAnImage, OutOfMemory
from service.vision.avif import parse_avif
from service.vision.bmp import Bmp, decode_bmp, is_bmp, parse_bmp
from service.vision.jpeg import Jpeg, parse_jpeg
from service.vision.other_formats import is_avif, name_other_format, unsupported
from service.vision.png import SIGNATURE as _PNG
from service.vision.png import Png, parse_png, rebuild
from service.vision.webp import is_webp, parse_webp, repair

Image = NDArray[np.uint8]
"""H x W x 3, RGB, 0 to 255."""

ImageFormat = Literal["jpeg", "png", "webp", "avif", "bmp"]
FaceFormat = Literal["png", "jpeg", "webp"]
Reduce = Literal[1, 2, 4, 8]

MIN_SIDE_PX = 16
"""Pictures with a shorter side are refused: they hold no eye to draw from."""

PHOTO_SUFFIXES: Final = {".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".webp", ".avif", ".bmp"}
"""Endings of files that are read; an MPO is a JPEG that more pictures follow."""

_JPEG = b"\xff\xd8\xff"

# As RGB; the names of the reduced scales ask for BGR by their bit of IMREAD_COLOR.
_READ_REDUCED: dict[int, int] = {
    reduce: flags & ~cv2.IMREAD_COLOR | cv2.IMREAD_COLOR_RGB
    for reduce, flags in (
        (1, cv2.IMREAD_COLOR),
        (2, cv2.IMREAD_REDUCED_COLOR_2),
        (4, cv2.IMREAD_REDUCED_COLOR_4),
        (8, cv2.IMREAD_REDUCED_COLOR_8),
    )
}

# PNG at OpenCV's default level: 0.5 ms for 128 x 128; level 9 takes ten times that for 13 % fewer bytes.
_WRITE_OPTIONS: dict[FaceFormat, list[int]] = {
    # Average filter and Huffman coding without LZ77 matching: four fifths of the time of OpenCV's default and
    # a twelfth fewer bytes for a face. An overlay stays as large; a flat drawing grows.
    "png": [
        *(cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_HUFFMAN_ONLY),
        *(cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_AVG),
    ],
    "jpeg": [cv2.IMWRITE_JPEG_QUALITY, 95],
    "webp": [cv2.IMWRITE_WEBP_QUALITY, 90],
}


@dataclass(frozen=True, slots=True)
class Header:
    """Width and height as stored, EXIF orientation 1 to 8, and whether pixels may be transparent."""

    format: ImageFormat
    width: int
    height: int
    orientation: int = 1
    may_have_alpha: bool = False
    parsed: Jpeg | Png | bytes | Bmp | None = field(default=None, compare=False, repr=False)
    """What `decode` needs: the structure of the file, or of an AVIF another file."""

    @property
    def upright_width(self) -> int:
        """Width after the EXIF orientation is applied."""
        return self.height if self.orientation >= 5 else self.width

    @property
    def upright_height(self) -> int:
        """Height after the EXIF orientation is applied."""
        return self.width if self.orientation >= 5 else self.height


@contextmanager
def translate_memory_errors() -> Iterator[None]:
    """Raises numpy's and OpenCV's out-of-memory errors as ours.

    Raises:
        OutOfMemory: there is none.
    """
    try:
        yield
    except (MemoryError, cv2.error) as error:
        if isinstance(error, cv2.error) and error.code != cv2.Error.STS_NO_MEM:
            raise
        raise OutOfMemory(
            "The service has too little memory left for this photo. Send it again later, or make it smaller."
        ) from error


_STRIP_ROWS: Final = 256

# Bytes a pixel, measured at 24 million pixels with the worst of each format: progressive CMYK JPEG; PNG
# of 16 bits, whose rebuilt rows stand beside OpenCV's two copies; AVIF of 12 bits without subsampling (20),
# and 6 for a copy with film grain.
_DECODE_BYTES: dict[ImageFormat, int] = {"jpeg": 12, "png": 13, "webp": 9, "avif": 26, "bmp": 9}
_ALPHA_BYTES: dict[ImageFormat, int] = {"png": 25, "webp": 16, "jpeg": 12, "avif": 26, "bmp": 9}

MAX_BYTES_PER_PIXEL: Final = 8
"""Of a PNG with four channels of 16 bits."""


def read_header(data: bytes, *, max_pixels: int) -> Header:
    """The header of a JPEG, PNG, WebP, AVIF or BMP file.

    Raises:
        EmptyBody: there are no bytes.
        NotAnImage: they do not begin like any picture.
        UnsupportedFormat: a picture, but not JPEG, PNG, WebP, AVIF or BMP.
        ImageCorrupt: the header is cut off or makes no sense.
        ImageTooSmall: a side is shorter than MIN_SIDE_PX, or 0.
        ImageTooLarge: more than `max_pixels` pixels.
    """
    header = _parse_header(data)
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


def _parse_header(data: bytes) -> Header:
    if not data:
        raise EmptyBody("No bytes were sent. Send a JPEG, PNG, WebP, AVIF or BMP picture.")
    if data.startswith(_JPEG):
        jpeg = parse_jpeg(data)
        return Header("jpeg", jpeg.width, jpeg.height, jpeg.orientation or 1, parsed=jpeg)
    if data.startswith(_PNG):
        png = parse_png(data)
        return Header("png", png.width, png.height, png.orientation or 1, png.has_transparency, png)
    if is_webp(data):
        return Header("webp", *parse_webp(data))
    if is_avif(data):
        width, height, orientation, rebuilt = parse_avif(data)
        return Header("avif", width, height, orientation, parsed=rebuilt)
    if is_bmp(data):
        bmp = parse_bmp(data)
        return Header("bmp", bmp.width, bmp.height, parsed=bmp)
    name = name_other_format(data)
    if name is not None:
        raise unsupported(name)
    raise NotAnImage(
        "The bytes do not begin like a picture. Send the file itself as JPEG, PNG, WebP, AVIF or BMP, "
        "not a link to it and not its base64 text."
    )


def decode(data: bytes, header: Header, *, reduce: Reduce = 1) -> Image:
    """The upright picture, H x W x 3 RGB; a JPEG also at 1/2, 1/4 or 1/8 of its sides, rounded up.

    Gray, palette, 16-bit and CMYK pictures become 8-bit RGB; transparency is blended over white, and left
    out of an AVIF. Animations give their first frame. Color profiles are ignored.

    Raises:
        ImageCorrupt: cut off or damaged.
        OutOfMemory: the system gives too little memory for its pixels.
        ValueError: `reduce` is not 1 and the picture is no JPEG.
    """
    if reduce != 1 and header.format != "jpeg":
        raise ValueError(f"only a JPEG decodes at 1/{reduce}, not a {header.format}")
    if isinstance(header.parsed, Bmp):
        with translate_memory_errors():
            return decode_bmp(data, header.parsed)
    # Only IMREAD_UNCHANGED keeps alpha, in more memory. It always ignores the orientation.
    keep_alpha = header.may_have_alpha
    flags = cv2.IMREAD_UNCHANGED if keep_alpha else _READ_REDUCED[reduce] | cv2.IMREAD_IGNORE_ORIENTATION
    stored = _decode_stored(data, header.parsed, flags)
    size = (-(-header.height // reduce), -(-header.width // reduce))
    if stored is None:
        _check_memory(size)
    if stored is None or stored.shape[:2] != size:
        raise ImageCorrupt(
            f"The file's header tells of {header.width} x {header.height} pixels as {header.format.upper()}, "
            "but they cannot be read: it is cut off or damaged. Send the whole file."
        )
    pixels = _to_rgb(stored) if keep_alpha else np.asarray(stored, dtype=np.uint8)
    del stored
    return _upright(pixels, header.orientation)


def _decode_stored(data: bytes, parsed: Jpeg | Png | bytes | None, flags: int) -> NDArray[Any] | None:
    """The picture as it is stored, None if OpenCV cannot read it or a scan of a JPEG is cut short."""
    if parsed is None:
        return _imdecode(repair(data), flags)
    if isinstance(parsed, bytes):
        return _imdecode(parsed, flags)
    if isinstance(parsed, Png):
        stored = _imdecode(rebuild(data, parsed), flags)
        if stored is not None and parsed.transparent_gray is not None:
            stored[stored == parsed.transparent_gray] = np.iinfo(stored.dtype).max
        return stored
    probed = None
    if parsed.may_be_cut_short:  # one picture at a time, to save memory
        probed = _checksum(_imdecode(parsed.probing_bytes(data), flags))
    stored = _imdecode(data[: parsed.scan_ends[-1]] + parsed.tail, flags)
    return stored if probed is None or probed == _checksum(stored) else None


def _imdecode(data: bytes | bytearray, flags: int) -> NDArray[Any] | None:
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        return None


def _checksum(pixels: NDArray[Any] | None) -> int:
    return 0 if pixels is None else zlib.crc32(np.ascontiguousarray(pixels).data)


def estimate_decode_bytes(header: Header) -> int:
    """Upper bound of the memory that decoding takes."""
    bytes_per_pixel = _ALPHA_BYTES if header.may_have_alpha else _DECODE_BYTES
    return header.width * header.height * bytes_per_pixel[header.format]


def encode(face: Image, format: FaceFormat) -> bytes:
    """The picture as a file without metadata: lossless PNG, JPEG at quality 95 or WebP at 90."""
    bgr = cv2.cvtColor(face, cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode(f".{format}", bgr, _WRITE_OPTIONS[format])
    assert done, f"OpenCV cannot write {face.shape} as {format}"
    return data.tobytes()


def _check_memory(size: tuple[int, int]) -> None:
    """Raises OutOfMemory if the pixels do not fit: OpenCV returns None then, as it does of damaged files."""
    with translate_memory_errors():
        np.empty((*size, MAX_BYTES_PER_PIXEL), np.uint8)


def _to_rgb(stored: NDArray[Any]) -> Image:
    """OpenCV's gray, BGR or BGRA of 8 or 16 bits as 8-bit RGB over white, in strips to save memory."""
    height, width = stored.shape[:2]
    rgb = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, _STRIP_ROWS):
        rgb[top : top + _STRIP_ROWS] = _strip_to_rgb(stored[top : top + _STRIP_ROWS])
    return rgb


def _strip_to_rgb(stored: NDArray[Any]) -> Image:
    pixels = stored if stored.dtype == np.uint8 else (stored >> 8).astype(np.uint8)
    if pixels.ndim == 2:
        return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB), dtype=np.uint8)
    if pixels.shape[2] == 3:
        return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), dtype=np.uint8)
    alpha = cv2.cvtColor(pixels[:, :, 3], cv2.COLOR_GRAY2RGB)
    rgb = cv2.multiply(cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGB), alpha, scale=1 / 255)
    return np.asarray(cv2.add(rgb, cv2.bitwise_not(alpha)), dtype=np.uint8)


def _upright(photo: Image, orientation: int) -> Image:
    """The picture in its EXIF orientation. Source: EXIF 2.32, tag 274."""
    if orientation in (5, 7):
        photo = np.asarray(cv2.transpose(photo), dtype=np.uint8)
    if orientation in (2, 4):
        return np.asarray(cv2.flip(photo, 1 if orientation == 2 else 0), dtype=np.uint8)
    turns = {
        3: cv2.ROTATE_180,
        6: cv2.ROTATE_90_CLOCKWISE,
        7: cv2.ROTATE_180,
        8: cv2.ROTATE_90_COUNTERCLOCKWISE,
    }
    if orientation not in turns:
        return photo
    return np.asarray(cv2.rotate(photo, turns[orientation]), dtype=np.uint8)
