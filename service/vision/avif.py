"""An AVIF file: size, orientation, and a smaller file of the picture alone for the decoder.

The decoder is given one item whose bitstream was checked (`service.vision.av1`), so that thumbnails, tiles,
layers, image sequences and metadata cost nothing. Transparency is left out. Source: ISO/IEC 14496-12 and
23008-12, AV1 Image File Format.
"""

import struct
from collections.abc import Iterator
from typing import Final

from service.errors import ImageCorrupt, ImageTooLarge, UnsupportedFormat
from service.vision.av1 import parse_still_picture

_MAX_BOXES: Final = 10_000
_MAX_EXTENTS: Final = 1_000
_MAX_NUMBERS: Final = 20_000
"""Numbers of a box, which may have 0 bytes each."""

MAX_BITSTREAM_BYTES: Final = 20_000_000
"""Decoding takes 0.15 s for a million bytes, of any bit depth, and 0.03 s for a million pixels."""

# EXIF orientation by quarter turns counterclockwise, then the axis of a mirror: none, 0 (top with bottom), 1.
_ORIENTATIONS: Final = {
    0: (1, 4, 2), 1: (8, 5, 7), 2: (3, 2, 4), 3: (6, 7, 5),
}  # fmt: skip


class _Reader:
    """Big-endian numbers of a box."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._at = 0
        self._num_left = _MAX_NUMBERS

    def number(self, num_bytes: int) -> int:
        self._num_left -= 1
        if self._num_left < 0:
            raise _corrupt(f"a box has more than {_MAX_NUMBERS:,} numbers")
        end = self._at + num_bytes
        if end > len(self._data):
            raise _corrupt("a box is cut off")
        value = int.from_bytes(self._data[self._at : end])
        self._at = end
        return value

    def version_and_flags(self) -> tuple[int, int]:
        return self.number(1), self.number(3)


def parse_avif(data: bytes) -> tuple[int, int, int, bytes]:
    """Width and height as stored, EXIF orientation, and a file for the decoder with nothing but the picture.

    Raises:
        ImageCorrupt: it is cut off or broken.
        ImageTooLarge: it would take more than three seconds to decode.
        UnsupportedFormat: its picture is made of tiles, layers or frames.
    """
    kind, properties, stored = _primary_item(memoryview(data))
    if kind == b"grid":
        raise UnsupportedFormat("The file is an AVIF of tiles, which is not read here. Convert it to JPEG.")
    if kind != b"av01":
        raise _corrupt("its picture is not AV1")
    size = properties.get(b"ispe", b"")[4:12]
    if len(size) < 8:
        raise _corrupt("its size is missing")
    width, height = struct.unpack(">II", size)
    try:
        *held, obus = parse_still_picture(stored)
    except ValueError as error:
        raise _corrupt(str(error)) from error
    if held != [width, height]:
        raise _corrupt(f"it says {width} x {height} pixels and holds {held[0]} x {held[1]}")
    if len(obus) > MAX_BITSTREAM_BYTES:
        raise ImageTooLarge(
            f"The AVIF has {len(obus):,} bytes of compressed pixels, more than the "
            f"{MAX_BITSTREAM_BYTES:,} that are taken. Send a smaller or more compressed picture."
        )
    turns = (properties.get(b"irot", b"") or b"\0")[0] & 3
    mirror = properties.get(b"imir", b"")
    orientation = _ORIENTATIONS[turns][1 + (mirror[0] & 1) if mirror else 0]
    return width, height, orientation, _rebuild(properties, obus)


def _primary_item(data: memoryview) -> tuple[bytes, dict[bytes, memoryview], bytes]:
    """Kind, properties and data of the item that is the picture."""
    meta = dict(_iterate_boxes(_find_box(data, b"meta")[4:]))
    missing = {b"pitm", b"iinf", b"iloc", b"iprp"} - meta.keys()
    if missing:
        raise _corrupt(f"it has no {', '.join(sorted(each.decode() for each in missing))}")
    reader = _Reader(meta[b"pitm"])
    item = reader.number(2 if reader.version_and_flags()[0] == 0 else 4)
    kind, properties = _item_kind(meta[b"iinf"], item), _item_properties(meta[b"iprp"], item)
    return kind, properties, _item_data(data, meta, item)


def _iterate_boxes(data: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """Name and content of each box."""
    start = 0
    for _ in range(_MAX_BOXES):
        if start + 8 > len(data):
            return
        size, name = struct.unpack_from(">I4s", data, start)
        head = 8
        if size == 1 and start + 16 <= len(data):
            (size,), head = struct.unpack_from(">Q", data, start + 8), 16
        end = start + size if size else len(data)
        if end > len(data) or end < start + head:
            raise _corrupt("a box is cut off")
        yield name, data[start + head : end]
        start = end
    raise _corrupt(f"it has more than {_MAX_BOXES:,} boxes")


def _find_box(data: memoryview, wanted: bytes) -> memoryview:
    for name, content in _iterate_boxes(data):
        if name == wanted:
            return content
    raise _corrupt(f"it has no {wanted.decode()}")


def _item_kind(iinf: memoryview, wanted: int) -> bytes:
    for name, entry in _iterate_boxes(iinf[6 if bytes(iinf[:1]) == b"\0" else 8 :]):
        reader = _Reader(entry)
        version, _ = reader.version_and_flags()
        if name == b"infe" and version in (2, 3) and reader.number(2 if version == 2 else 4) == wanted:
            reader.number(2)
            return reader.number(4).to_bytes(4)
    raise _corrupt("its picture is not listed")


def _item_properties(iprp: memoryview, wanted: int) -> dict[bytes, memoryview]:
    """The item's properties by name; of several of a name the first."""
    properties = list(_iterate_boxes(_find_box(iprp, b"ipco")))
    reader = _Reader(_find_box(iprp, b"ipma"))
    version, flags = reader.version_and_flags()
    num_bytes, mask = (2, 0x7FFF) if flags & 1 else (1, 0x7F)
    for _ in range(reader.number(4)):
        item = reader.number(2 if version == 0 else 4)
        indices = [reader.number(num_bytes) & mask for _ in range(reader.number(1))]
        if item == wanted:
            if max(indices, default=0) > len(properties):
                raise _corrupt("a property is missing")
            return dict(reversed([properties[index - 1] for index in indices if index]))
    raise _corrupt("its picture has no properties")


def _item_data(data: memoryview, meta: dict[bytes, memoryview], wanted: int) -> bytes:
    reader = _Reader(meta[b"iloc"])
    version, _ = reader.version_and_flags()
    sizes = reader.number(2)
    offset_size, length_size, base_size, index_size = (sizes >> shift & 15 for shift in (12, 8, 4, 0))
    for _ in range(reader.number(2 if version < 2 else 4)):
        item = reader.number(2 if version < 2 else 4)
        method = reader.number(2) & 15 if version else 0
        reader.number(2)
        base = reader.number(base_size)
        extents = []
        for _ in range(reader.number(2)):
            reader.number(index_size if version else 0)
            extents.append((base + reader.number(offset_size), reader.number(length_size)))
        if item == wanted:
            if method > 1 or len(extents) > _MAX_EXTENTS:
                raise _corrupt("its picture lies in too many places")
            return _join_extents(meta.get(b"idat", data[:0]) if method else data, extents)
    raise _corrupt("its picture has no place")


def _join_extents(data: memoryview, extents: list[tuple[int, int]]) -> bytes:
    places = [(start, start + length if length else len(data)) for start, length in extents]
    is_cut_off = any(not start <= end <= len(data) for start, end in places)
    if is_cut_off or sum(end - start for start, end in places) > len(data):
        raise _corrupt("its picture is cut off")
    return b"".join(data[start:end] for start, end in places)


def _rebuild(properties: dict[bytes, memoryview], obus: bytes) -> bytes:
    """A file with the picture alone, without orientation: its size, decoder configuration and color."""
    names = [name for name in (b"ispe", b"av1C", b"colr") if name in properties]
    if properties.get(b"colr", b"")[:4] != b"nclx":  # an ICC profile
        names = [name for name in names if name != b"colr"]
    ipco = _box(b"ipco", *(_box(name, properties[name]) for name in names))
    indices = bytes([len(names), *range(1, len(names) + 1)])
    ipma = _box(b"ipma", bytes(4), struct.pack(">IH", 1, 1), indices)
    infe = _box(b"infe", b"\2\0\0\0", struct.pack(">HH", 1, 0), b"av01\0")
    ftyp = _box(b"ftyp", b"avif\0\0\0\0avifmif1miaf")

    def meta(offset: int) -> bytes:
        return _box(
            b"meta",
            bytes(4),
            _box(b"hdlr", bytes(8), b"pict", bytes(13)),
            _box(b"pitm", bytes(4), struct.pack(">H", 1)),
            _box(b"iloc", bytes(4), struct.pack(">HHHHHII", 0x4400, 1, 1, 0, 1, offset, len(obus))),
            _box(b"iinf", bytes(4), struct.pack(">H", 1), infe),
            _box(b"iprp", ipco, ipma),
        )

    offset = len(ftyp) + len(meta(0)) + 8
    return ftyp + meta(offset) + _box(b"mdat", obus)


def _box(name: bytes, *content: bytes | memoryview) -> bytes:
    return struct.pack(">I4s", 8 + sum(map(len, content)), name) + b"".join(content)


def _corrupt(what: str) -> ImageCorrupt:
    return ImageCorrupt(f"The file begins like an AVIF, but {what}. Send an undamaged file.")
