"""AVIF files as others write them, and such as nobody does."""

import struct
import time
import tracemalloc
from typing import Any

import numpy as np
import pytest

import service.vision.avif
from service import errors
from service.vision.av1 import parse_still_picture
from service.vision.avif import _join_extents, parse_avif
from tests import fakes


def picture(width: int = 64, height: int = 48) -> np.ndarray[Any, Any]:
    return fakes.astronaut()[:height, :width]


def obus(width: int = 64, height: int = 48) -> bytes:
    """The AV1 bitstream of a small picture."""
    data = fakes.encoded(picture(width, height), "avif")
    return data[data.index(b"mdat") + 4 :]


def box(name: bytes, *content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + sum(map(len, content)), name) + b"".join(content)


def avif(
    bitstream: bytes | None = None,
    *,
    kind: bytes = b"av01",
    size: tuple[int, int] = (64, 48),
    wide: bool = False,
    in_idat: bool = False,
    turned: bytes = b"",
    leave_out: bytes = b"",
) -> bytes:
    """A file of one picture; `wide` uses the largest fields that the format has."""
    bitstream = obus() if bitstream is None else bitstream
    number = struct.Struct(">I" if wide else ">H").pack
    version = bytes([1 if wide else 0, 0, 0, 0])
    ipco = box(b"ipco", box(b"ispe", bytes(4), struct.pack(">II", *size)),
               box(b"av1C", bytes.fromhex("81010c00")), *([turned] if turned else []))  # fmt: skip
    indices = [1, 2, 3][: 2 + bool(turned)]
    listed = (
        struct.pack(f">{len(indices)}H", *(0x8000 | each for each in indices)) if wide else bytes(indices)
    )
    ipma = box(
        b"ipma", bytes([wide, 0, 0, wide]), struct.pack(">I", 1), number(7), bytes([len(indices)]), listed
    )

    def meta(offset: int) -> bytes:
        half = len(bitstream) // 2
        extents = struct.pack(">QQQQ", offset, half, offset + half, len(bitstream) - half)
        if wide:
            iloc = box(b"iloc", b"\2\0\0\0\x88\x80", number(1), number(7), bytes([0, in_idat]), bytes(2),
                       bytes(8), struct.pack(">H", 2), extents)  # fmt: skip
        else:  # to the end of the file
            iloc = box(b"iloc", bytes(4), b"\x44\0", number(1), number(7), bytes(2),
                       struct.pack(">HII", 1, offset, 0))  # fmt: skip
        parts = {
            b"hdlr": box(b"hdlr", bytes(8), b"pict", bytes(13)),
            b"pitm": box(b"pitm", version, number(7)),
            b"iloc": iloc,
            b"iinf": box(b"iinf", version, number(1),
                         box(b"infe", bytes([3 if wide else 2, 0, 0, 0]), number(7), bytes(2), kind, b"\0")),
            b"iprp": box(b"iprp", ipco, ipma),
            b"idat": box(b"idat", bitstream if in_idat else b""),
        }  # fmt: skip
        return box(b"meta", bytes(4), *(each for name, each in parts.items() if name != leave_out))

    ftyp = box(b"ftyp", b"avif\0\0\0\0avifmif1")
    if in_idat:
        return ftyp + meta(0)
    mdat = struct.pack(">I4sQ", 1, b"mdat", 16 + len(bitstream)) if wide else struct.pack(">I4s", 0, b"mdat")
    return ftyp + meta(len(ftyp) + len(meta(0)) + len(mdat)) + mdat + bitstream


@pytest.mark.parametrize(("wide", "in_idat"), [(False, False), (True, False), (True, True)])
def test_every_layout_of_the_boxes_gives_the_same_file(wide: bool, in_idat: bool) -> None:
    *header, file = parse_avif(avif(wide=wide, in_idat=in_idat))
    assert header == [64, 48, 1]
    assert file == parse_avif(avif())[3]


@pytest.mark.parametrize(
    ("transform", "orientation"),
    [(box(b"irot", b"\1"), 8), (box(b"irot", b"\xfd"), 8), (box(b"imir", b"\0"), 4), (box(b"imir", b"\1"), 2),
     (box(b"irot"), 1)],
)  # fmt: skip
def test_turns_and_mirrors_become_an_orientation(transform: bytes, orientation: int) -> None:
    assert parse_avif(avif(turned=transform))[2] == orientation


@pytest.mark.parametrize("name", [b"pitm", b"iloc", b"iinf", b"iprp"])
def test_a_file_without_a_box_is_damaged(name: bytes) -> None:
    with pytest.raises(errors.ImageCorrupt, match=f"it has no {name.decode()}"):
        parse_avif(avif(leave_out=name))


@pytest.mark.parametrize(("kind", "error", "said"), [
    (b"grid", errors.UnsupportedFormat, "AVIF of tiles"), (b"hvc1", errors.ImageCorrupt, "is not AV1"),
])  # fmt: skip
def test_a_picture_of_another_kind_is_named(kind: bytes, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        parse_avif(avif(kind=kind))


def test_a_size_that_the_bitstream_does_not_have_is_refused() -> None:
    with pytest.raises(errors.ImageCorrupt, match="says 64 x 48 pixels and holds 256 x 256"):
        parse_avif(avif(obus(256, 256)))


def test_a_second_frame_is_refused() -> None:
    whole = obus()
    with pytest.raises(errors.ImageCorrupt, match="2 frames, expected 1"):
        parse_avif(avif(whole + whole))


def test_a_bitstream_that_would_take_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    num_bytes = len(parse_still_picture(obus())[2])
    monkeypatch.setattr(service.vision.avif, "MAX_BITSTREAM_BYTES", num_bytes - 1)
    with pytest.raises(errors.ImageTooLarge, match="bytes of compressed pixels, more than the"):
        parse_avif(avif())
    monkeypatch.setattr(service.vision.avif, "MAX_BITSTREAM_BYTES", num_bytes)
    parse_avif(avif(b"\x7a\5extra" + obus()))  # a unit that is not decoded


def test_what_lies_beside_the_picture_is_not_given_to_the_decoder() -> None:
    unknown = b"\x7a\5extra"  # a padding unit of five bytes
    assert parse_avif(avif(unknown + obus() + unknown))[3] == parse_avif(avif())[3]


def test_a_file_of_a_million_boxes_is_refused_at_once() -> None:
    begin = time.thread_time()
    with pytest.raises(errors.ImageCorrupt, match="more than 10,000 boxes"):
        parse_avif(box(b"ftyp", b"avif\0\0\0\0avif") + box(b"free") * 1_000_000)
    assert time.thread_time() - begin < 0.5


BOMBS = {
    "extents of no bytes": (b"iloc", struct.pack(">BxxxHH", 0, 0, 9) + struct.pack(">HHH", 1, 0, 65535) * 9),
    "places of other items": (
        b"iloc", struct.pack(">BxxxHI", 2, 0, 50_000) + struct.pack(">IHHH", 1, 0, 0, 0) * 50_000,
    ),
    "properties of other items": (
        b"iprp", box(b"ipco") + box(b"ipma", bytes(4), struct.pack(">I", 50_000), b"\0\1\0" * 50_000),
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", BOMBS)
def test_a_box_of_endless_numbers_is_refused_at_once(kind: str) -> None:
    name, content = BOMBS[kind]
    file = avif()
    start = file.index(name) - 4
    (size,) = struct.unpack_from(">I", file, start)
    (whole,) = struct.unpack_from(">I", file, (meta := file.index(b"meta")) - 4)
    bomb = box(name, content)
    file = file[: meta - 4] + struct.pack(">I", whole + len(bomb) - size) + file[meta:start] + bomb
    begin = time.thread_time()
    with pytest.raises(errors.ImageCorrupt, match="more than 20,000 numbers"):
        parse_avif(file + avif()[start + size :])
    assert time.thread_time() - begin < 0.3


def test_a_thousand_places_that_overlap_take_no_memory() -> None:
    data = b"\0" + bytes(3_000_000)
    tracemalloc.start()
    try:
        with pytest.raises(errors.ImageCorrupt, match="is cut off"):
            _join_extents(memoryview(data), [(1, 0)] * 1000)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


class Bits:
    """A writer of bits."""

    def __init__(self) -> None:
        self.text = ""

    def put(self, *pairs: tuple[int, int]) -> "Bits":
        """Appends values, each with its number of bits."""
        self.text += "".join(f"{value:0{number}b}" for value, number in pairs)
        return self

    def obu(self, kind: int) -> bytes:
        """The bits as a unit."""
        text = self.text.ljust(-(-len(self.text) // 8) * 8 + 8, "0")
        content = int(text, 2).to_bytes(len(text) // 8)
        return bytes([kind << 3 | 2, len(content)]) + content


def sequence(*, timing: int = 0, ids: int = 0) -> bytes:
    """A full sequence header of 64 x 48 pixels, whose frames choose their screen content tools."""
    bits = Bits().put((0, 3), (1, 1), (0, 1), (timing, 1), (1, 1), (1, 5))
    for level in (8, 1):  # two operating points, one with a tier, both with an initial delay
        bits.put((0, 12), (level, 5), *[(0, 1)] * (level > 7), (1, 1), (3, 4))
    bits.put((15, 4), (15, 4), (63, 16), (47, 16), (ids, 1))
    if ids:
        bits.put((2, 4), (1, 3))
    return bits.put((0, 7), (1, 1), (0, 2), (1, 1), (1, 1), (0, 20)).obu(1)


def frame(*, repeated: int = 0, kind: int = 0, shown: int = 1, override: int = 0, ids: int = 0) -> bytes:
    head = Bits().put((repeated, 1), (kind, 2), (shown, 1), (0, 1), (1, 1), (1, 1))
    return head.put((0, ids * 6), (override, 1)).obu(6) if ids else head.put((override, 1)).obu(6)


@pytest.mark.parametrize("ids", [0, 1])
def test_the_headers_of_a_frame_in_a_video_are_read(ids: int) -> None:
    width, height, _ = parse_still_picture(sequence(ids=ids) + frame(ids=ids))
    assert (width, height) == (64, 48)
    with pytest.raises(ValueError, match="another size than its sequence"):
        parse_still_picture(sequence(ids=ids) + frame(ids=ids, override=1))


@pytest.mark.parametrize(("data", "said"), [
    (sequence() + frame(repeated=1), "no shown key frame"),
    (sequence() + frame(kind=1), "no shown key frame"),
    (sequence() + frame(shown=0), "no shown key frame"),
    (sequence(timing=1) + frame(), "timing information"),
    (frame() + sequence(), "before the sequence header"),
    (sequence(), "0 frames"),
    (b"", "0 frames"),
    (b"\x0a\x02\x00\x00" + frame(), "a header is cut off"),
    (sequence()[:-1], "it is cut off"),
    (b"\x0a" + b"\xff" * 9, "a length is broken"),
    (b"\x12\0" * 10_001, "more than 10,000 units"),
])  # fmt: skip
def test_what_is_no_still_picture_is_refused(data: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_still_picture(data)
