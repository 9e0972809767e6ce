"""A BMP file: its header, and its pixels. OpenCV ignores bit masks and transparency, so they are read here.

Source: Microsoft, BITMAPV5HEADER; OS/2, BITMAPINFOHEADER2; where these are silent, what Chromium shows.
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from service.errors import ImageCorrupt
from service.vision.other_formats import unsupported

_OS2_HEADER: Final = 12
_WINDOWS_HEADERS: Final = (40, 52, 56, 108, 124)
_HEADER_SIZES: Final = {_OS2_HEADER, 42, 46, *range(16, 68, 4), *_WINDOWS_HEADERS}
_FIRST_WITH_ALPHA: Final = 56
_MASKS_AT: Final = 54
_RGB, _RLE8, _RLE4, _BIT_FIELDS, _ALPHA_BIT_FIELDS = 0, 1, 2, 3, 6

_BITS: Final = {
    _RGB: (1, 2, 4, 8, 16, 24, 32), _RLE8: (8,), _RLE4: (4,),
    _BIT_FIELDS: (16, 32), _ALPHA_BIT_FIELDS: (16, 32),
}  # fmt: skip
_UNREAD_KINDS: Final = {
    4: "that holds a JPEG", 5: "that holds a PNG", **dict.fromkeys((11, 12, 13), "of CMYK"),
}  # fmt: skip
_DEFAULT_MASKS: Final = {16: (0x7C00, 0x3E0, 0x1F), 32: (0xFF0000, 0xFF00, 0xFF)}

_END, _DELTA = 1, 2

_STRIP_PIXELS: Final = 1 << 20
_MAX_STEPS: Final = 500_000
"""Rows and uncompressed runs of run-length coding, which take a second."""

_RUNS = re.compile(rb"(?:[^\0].)+", re.DOTALL)

Pixels = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Bmp:
    """What the header says: where pixels begin, how many bits each has, and what these mean."""

    width: int
    height: int
    is_top_down: bool
    bits: int
    compression: int
    start: int
    masks: tuple[int, ...]
    """Of pixels of 16 or 32 bits: red, green, blue, and alpha, 0 without one."""
    palette: Pixels
    """256 x 3, RGB; black where the file has fewer colors."""


def is_bmp(data: bytes) -> bool:
    """Whether the bytes begin like a BMP file."""
    return data[:2] == b"BM" and (data[6:10] == bytes(4) or _header_size(data) in _HEADER_SIZES)


def parse_bmp(data: bytes) -> Bmp:
    """The header.

    Raises:
        ImageCorrupt: it is cut off or broken.
        UnsupportedFormat: the file holds a picture of another format.
    """
    size = _header_size(data)
    if size not in _HEADER_SIZES or len(data) < 14 + size:
        raise _corrupt("its header is cut off or broken")
    if size == _OS2_HEADER:
        (width, height, _, bits), compression, num_colors = struct.unpack_from("<4H", data, 18), _RGB, 0
    else:
        fields = data[18 : 14 + size].ljust(36, b"\0")
        width, height, _, bits, compression, num_colors = struct.unpack_from("<iiHHI12xI", fields)
    is_windows = size in _WINDOWS_HEADERS
    if compression in _UNREAD_KINDS and is_windows:
        raise unsupported(f"a BMP {_UNREAD_KINDS[compression]}")
    if compression > _RLE4 and not is_windows:
        raise unsupported("a BMP as OS/2 compresses it")
    if width < 0 or bits not in _BITS.get(compression, ()):
        raise _corrupt(f"it claims {width} pixels across, of {bits} bits, and compression {compression}")
    masks = _read_masks(data, size if is_windows else 0, compression, bits)
    after_masks = 14 + size
    if size == min(_WINDOWS_HEADERS):
        after_masks += {_BIT_FIELDS: 12, _ALPHA_BIT_FIELDS: 16}.get(compression, 0)
    palette, after_palette = _read_palette(data, after_masks, size, bits, num_colors)
    start = int.from_bytes(data[10:14], "little") or after_palette
    if start < after_masks:
        raise _corrupt("its pixels begin within its header")
    return Bmp(width, abs(height), height < 0, bits, compression, start, masks, palette)


def decode_bmp(data: bytes, bmp: Bmp) -> Pixels:
    """The picture, H x W x 3 RGB, blended over white.

    Raises:
        ImageCorrupt: pixels are missing.
    """
    picture = np.empty((bmp.height, bmp.width, 3), np.uint8)
    rows = picture if bmp.is_top_down else picture[::-1]
    if bmp.compression in (_RLE8, _RLE4):
        rows[:] = bmp.palette[_decode_runs(data, bmp)]
        return picture
    alpha = bmp.masks[3]
    if alpha and not any(np.any(_values(strip, bmp) & alpha) for _, strip in _iterate_strips(data, bmp)):
        alpha = 0  # many programs leave the channel empty
    for top, strip in _iterate_strips(data, bmp):
        rows[top : top + len(strip)] = _to_rgb(strip, bmp, alpha)
    return picture


def _read_masks(data: bytes, windows_size: int, compression: int, bits: int) -> tuple[int, int, int, int]:
    """Red, green, blue and alpha. Headers that have an alpha mask mean it, whatever the compression."""
    red, green, blue, alpha = struct.unpack("<4I", data[_MASKS_AT : _MASKS_AT + 16].ljust(16, b"\0"))
    if compression not in (_BIT_FIELDS, _ALPHA_BIT_FIELDS):
        red, green, blue = _DEFAULT_MASKS.get(bits, (0, 0, 0))
    if windows_size < _FIRST_WITH_ALPHA and compression != _ALPHA_BIT_FIELDS:
        alpha = 0
    return (red, green, blue, alpha) if bits in _DEFAULT_MASKS else (0, 0, 0, 0)


def _read_palette(data: bytes, start: int, size: int, bits: int, num_colors: int) -> tuple[Pixels, int]:
    """The palette, and where its bytes end."""
    most = 1 << bits if bits <= 8 else 0
    num_bytes = 3 if size == _OS2_HEADER else 4
    end = start + num_bytes * (min(num_colors, most) or most)
    palette = np.zeros((256, 3), np.uint8)
    if most:
        pixels = int.from_bytes(data[10:14], "little") or end
        entries = np.frombuffer(data[start : min(end, pixels)], np.uint8)
        entries = entries[: len(entries) // num_bytes * num_bytes].reshape(-1, num_bytes)
        palette[: len(entries)] = entries[:, 2::-1]
    return palette, end


def _iterate_strips(data: bytes, bmp: Bmp) -> Iterator[tuple[int, Pixels]]:
    """The first row and the bytes of some rows, until all are there; the last one may lack its padding.

    Raises:
        ImageCorrupt: rows are missing.
    """
    stride = (bmp.width * bmp.bits + 31) // 32 * 4
    if len(data) < bmp.start + (bmp.height - 1) * stride + (bmp.width * bmp.bits + 7) // 8:
        raise _corrupt("rows are missing")
    num_rows = max(1, _STRIP_PIXELS // bmp.width)
    for top in range(0, bmp.height, num_rows):
        num_bytes = min(num_rows, bmp.height - top) * stride
        begin = bmp.start + top * stride
        strip = data[begin : begin + num_bytes].ljust(num_bytes, b"\0")
        yield top, np.frombuffer(strip, np.uint8).reshape(-1, stride)


def _to_rgb(strip: Pixels, bmp: Bmp, alpha_mask: int) -> Pixels:
    if bmp.bits == 24:
        return strip[:, : 3 * bmp.width].reshape(len(strip), bmp.width, 3)[:, :, ::-1]
    if bmp.bits <= 8:
        shifts = np.arange(8 - bmp.bits, -1, -bmp.bits)
        indices = strip[:, :, np.newaxis] >> shifts & (1 << bmp.bits) - 1
        return np.asarray(bmp.palette[indices.reshape(len(strip), -1)[:, : bmp.width]])
    values = _values(strip, bmp)
    rgb = np.stack([_channel(values, mask) for mask in bmp.masks[:3]], axis=2)
    if not alpha_mask:
        return rgb
    alpha = _channel(values, alpha_mask)[:, :, np.newaxis].astype(np.uint16)
    return np.asarray((rgb * alpha + 255 * (255 - alpha) + 127) // 255)


def _values(strip: Pixels, bmp: Bmp) -> Pixels:
    """Pixels of 16 or 32 bits as numbers."""
    return strip.view(f"<u{bmp.bits // 8}")[:, : bmp.width]


def _channel(values: Pixels, mask: int) -> Pixels:
    """The masked bits as 0 to 255."""
    mask &= (1 << 8 * values.itemsize) - 1
    if not mask:
        return np.zeros(values.shape, np.uint8)
    shift = (mask & -mask).bit_length() - 1
    surplus = max(0, mask.bit_length() - shift - 8)
    levels = mask >> shift + surplus
    scaled = (np.arange(levels + 1) * 255 + levels // 2) // levels
    return np.asarray(scaled.astype(np.uint8)[(values & values.dtype.type(mask)) >> shift + surplus])


def _decode_runs(data: bytes, bmp: Bmp) -> Pixels:
    """The palette's indices, H x W, of run-length coding.

    Raises:
        ImageCorrupt: pixels are missing, or it has too many parts.
    """
    indices = bytearray(bmp.height * bmp.width)
    num_drawn, x, y, at = 0, 0, 0, bmp.start
    for _ in range(_MAX_STEPS):
        if y >= bmp.height or at + 2 > len(data):
            break
        count, code = data[at : at + 2]
        if count:
            runs = _RUNS.match(data, at, at + 2 * bmp.width)
            assert runs is not None
            drawn, at = _repeat(runs[0], bmp, bmp.width - x), runs.end()
        elif code > _DELTA:
            begin, num_bytes = at + 2, (code * bmp.bits + 7) // 8
            drawn, at = (
                _unpack(data[begin : begin + num_bytes], bmp)[:code],
                begin + num_bytes + num_bytes % 2,
            )
        elif code == _END:
            break
        else:
            dx, dy = data[at + 2 : at + 4].ljust(2, b"\0") if code == _DELTA else (-x, 1)
            x, y, at = x + dx, y + dy, at + 2 + code
            continue
        drawn = drawn[: max(0, bmp.width - x)]
        first = y * bmp.width + x
        indices[first : first + len(drawn)] = drawn
        x, num_drawn = x + len(drawn), num_drawn + len(drawn)
    else:
        raise _corrupt(f"its coding has more than {_MAX_STEPS:,} parts")
    if num_drawn < len(indices):
        raise _corrupt("pixels are missing")
    return np.frombuffer(indices, np.uint8).reshape(bmp.height, bmp.width)


def _unpack(codes: bytes, bmp: Bmp) -> bytes:
    """Indices of 4 or 8 bits."""
    if bmp.bits == 8:
        return codes
    pairs = np.frombuffer(codes, np.uint8)
    return np.stack([pairs >> 4, pairs & 15], axis=1).tobytes()


def _repeat(runs: bytes, bmp: Bmp, room: int) -> bytes:
    """The indices of pairs of a count and what is repeated, as many as there is room for."""
    pairs = np.frombuffer(runs, np.uint8).reshape(-1, 2)
    ends = np.cumsum(pairs[:, 0], dtype=np.int64)
    pairs = pairs[: int(np.searchsorted(ends, room)) + 1]
    repeated = np.repeat(pairs[:, 1], pairs[:, 0])
    if bmp.bits == 4:
        position = np.arange(len(repeated)) - np.repeat(ends[: len(pairs)] - pairs[:, 0], pairs[:, 0])
        repeated = np.where(position % 2, repeated & 15, repeated >> 4)
    return repeated.tobytes()


def _header_size(data: bytes) -> int:
    return int.from_bytes(data[14:18], "little")


def _corrupt(what: str) -> ImageCorrupt:
    return ImageCorrupt(f"The file begins like a BMP, but {what}. Send an undamaged file.")
