"""The chunks of a PNG file, and a file of the pixels alone. Source: W3C, PNG, third edition."""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from service.errors import ImageCorrupt, ImageTooLarge, UnsupportedFormat
from service.vision.chunks import iterate_chunks
from service.vision.exif import read_orientation

SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"

MAX_CHUNKS: Final = 50_000
"""Chunks that are parsed; more are refused. libpng writes 8 KB in each, some encoders 1 KB."""

MAX_SURPLUS_BYTES: Final = 65_536
"""Inflated bytes after the last row that are let pass. A file of 10 MB can hold 10 GB of them."""

MAX_RAW_BYTES: Final = 2**28
"""Bytes of all rows, which take three seconds: 67 million pixels of RGBA, half as many of 16 bits."""

_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_BLOCK_BYTES = 65_535  # the most that one stored block of deflate takes
_INPUT_BYTES = 65_536

# Source: figure 3 of the specification: left, top, and distance across and down of each pass.
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


@dataclass(slots=True)
class Png:
    """What the chunks say."""

    width: int
    height: int
    bit_depth: int
    color_type: int
    is_interlaced: bool
    orientation: int | None = None
    has_transparency: bool = False
    transparent_gray: int | None = None
    """The gray, of 8 or 16 bits, that is transparent; OpenCV knows only transparent colors."""
    header_chunks: list[bytes] = field(default_factory=list)
    """Header, palette and transparent colors, each a whole chunk."""
    pixel_chunks: list[tuple[int, int]] = field(default_factory=list)
    """First byte and end of the compressed pixels; the last may lack bytes."""

    @property
    def num_raw_bytes(self) -> int:
        """Bytes of all rows, each with its filter."""
        bits = self.bit_depth * _CHANNELS.get(self.color_type, 0)
        passes = _ADAM7 if self.is_interlaced else ((0, 0, 1, 1),)
        sizes = ((-(-(self.width - x) // dx), -(-(self.height - y) // dy)) for x, y, dx, dy in passes)
        return sum(rows * (1 + (columns * bits + 7) // 8) for columns, rows in sizes if columns > 0)


def parse_png(data: bytes) -> Png:
    """The chunks that matter for the pixels.

    Raises:
        UnsupportedFormat: Apple's variant, which no library but its own reads.
        ImageCorrupt: broken.
    """
    if data[12:16] == b"CgBI":
        raise UnsupportedFormat(
            "The file is a CgBI PNG, as Apple's build tools write it, which is not read here. "
            "Convert it to a usual PNG, JPEG, WebP or BMP."
        )
    if len(data) < 33 or data[8:16] != b"\0\0\0\x0dIHDR":
        raise _corrupt("its header is cut off or broken")
    width, height, bit_depth, color_type = struct.unpack_from(">IIBB", data, 16)
    png = Png(width, height, bit_depth, color_type, is_interlaced=data[28] == 1)
    png.has_transparency = png.color_type in (4, 6)  # gray or RGB, each with its own transparency
    png.header_chunks.append(data[8:33])
    num_chunks = 0
    for name, start, end in iterate_chunks(data, 33, ">I4s", trailer=4, limit=MAX_CHUNKS):
        if name == b"IDAT":
            png.pixel_chunks.append((start, end))
        elif name == b"IEND" or end > len(data):
            break
        elif name in (b"PLTE", b"tRNS"):
            png.header_chunks.append(data[start - 8 : end + 4])
            png.has_transparency |= name == b"tRNS"
            if name == b"tRNS" and png.color_type == 0:
                png.transparent_gray = _scale_gray(png, int.from_bytes(data[start:end][:2]))
        elif name == b"eXIf" and png.orientation is None and _has_checksum(data, start, end):
            png.orientation = read_orientation(data[start:end])
        num_chunks += 1
    if num_chunks == MAX_CHUNKS:
        raise _corrupt(f"it has {MAX_CHUNKS:,} parts or more")
    return png


def _scale_gray(png: Png, gray: int) -> int:
    """A gray of the file as OpenCV gives it."""
    most = (1 << png.bit_depth) - 1
    return (gray & most) * max(1, 255 // most)


def rebuild(data: bytes, png: Png) -> bytearray:
    """A PNG of the same pixels, inflated, with no other chunk: OpenCV neither inflates nor parses more.

    OpenCV itself would inflate whatever follows the last row, and all compressed texts and profiles.

    Raises:
        ImageCorrupt: rows are missing, damaged, or followed by much else.
        ImageTooLarge: more than MAX_RAW_BYTES.
    """
    rows_left = png.num_raw_bytes
    if rows_left > MAX_RAW_BYTES:
        raise ImageTooLarge(
            f"The picture has {rows_left:,} bytes of pixels, more than the {MAX_RAW_BYTES:,} that a PNG "
            "may have. Send it with 8 bits a channel, or smaller."
        )
    checksum = 1
    file = bytearray(SIGNATURE + b"".join(png.header_chunks))
    is_first = True
    surplus = 0
    for block in _inflate(data, png.pixel_chunks):
        row_bytes = block[:rows_left]
        surplus += len(block) - len(row_bytes)
        if surplus > MAX_SURPLUS_BYTES:
            raise _corrupt("its pixels are followed by other compressed data")
        if not row_bytes:
            continue
        rows_left -= len(row_bytes)
        checksum = zlib.adler32(row_bytes, checksum)
        head = struct.pack("<BHH", not rows_left, len(row_bytes), len(row_bytes) ^ 0xFFFF)
        tail = b"" if rows_left else checksum.to_bytes(4)
        file += _chunk(b"IDAT", (b"\x78\x01" if is_first else b"") + head + row_bytes + tail)
        is_first = False
    if rows_left or is_first:
        raise _corrupt("it is cut off or damaged: rows are missing")
    file += _chunk(b"IEND", b"")
    return file


def _inflate(data: bytes, pixel_chunks: list[tuple[int, int]]) -> Iterator[bytes]:
    """The inflated pixels, in blocks, so that a small file takes little memory however much it holds."""
    inflater = zlib.decompressobj()
    try:
        for start, end in pixel_chunks:
            for position in range(start, end, _INPUT_BYTES):
                left = data[position : min(position + _INPUT_BYTES, end)]
                while not inflater.eof and (block := inflater.decompress(left, _BLOCK_BYTES)):
                    yield block
                    left = inflater.unconsumed_tail
    except zlib.error as error:
        raise _corrupt(f"its pixels are damaged ({error})") from error


def _chunk(name: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(content, zlib.crc32(name))
    return b"".join((len(content).to_bytes(4), name, content, checksum.to_bytes(4)))


def _has_checksum(data: bytes, start: int, end: int) -> bool:
    return zlib.crc32(data[start - 4 : end]).to_bytes(4) == data[end : end + 4]


def _corrupt(what: str) -> ImageCorrupt:
    return ImageCorrupt(f"The file begins like a PNG, but {what}. Send an undamaged file.")
