"""JPEG files as cameras, editors and attackers write them: what is read, what is refused, and as what."""

import random
import struct
import time
from typing import Any

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service import errors
from service.vision.images import Image, Reduce, decode, read_header
from service.vision.jpeg import MAX_SCANNED_PIXELS, MAX_SEGMENTS
from tests import fakes

MAX_PIXELS = 50_000_000
EOI = b"\xff\xd9"
SCAN_LIKE = b"\xff\xda\xff\xd8\xff\xd9" * 200

KINDS: dict[str, dict[str, Any]] = {
    "baseline": {},
    "progressive": {"progressive": True},
    "coarse": {"quality": 20, "subsampling": 2},
    "fine": {"quality": 98, "subsampling": 0, "optimize": True},
    "restarts": {"restart_marker_rows": 1},
    "progressive restarts": {"progressive": True, "restart_marker_blocks": 7},
}


def picture(kind: str = "baseline", mode: str = "RGB") -> bytes:
    pixels = PIL.Image.fromarray(fakes.astronaut()[40:180, 150:290]).convert(mode)
    return fakes.encoded(pixels, "jpeg", **KINDS[kind])


def segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def exif(orientation: int, prefix: bytes = b"Exif\0\0") -> bytes:
    return segment(0xE1, prefix + b"II*\0\x08\0\0\0" + struct.pack("<HHHIHH", 1, 0x112, 3, 1, orientation, 0))


def with_segments(data: bytes, *segments: bytes) -> bytes:
    return data[:2] + b"".join(segments) + data[2:]


def read(data: bytes, reduce: Reduce = 1) -> Image:
    return decode(data, read_header(data, max_pixels=MAX_PIXELS), reduce=reduce)


def orientation(data: bytes) -> int:
    return read_header(data, max_pixels=MAX_PIXELS).orientation


# Healthy pictures


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize(
    "change",
    [
        lambda data: data + SCAN_LIKE,
        lambda data: data + random.Random(0).randbytes(100_000),
        lambda data: data + data + data,
        lambda data: data[:-2] + data * 30,
        lambda data: data[:-2],
        lambda data: data[:-1],
        lambda data: data[:-2] + b"\xff\xff\xff" + EOI,
        lambda data: data[:-2] + b"\xff\xd7" + EOI,
        lambda data: with_segments(data, segment(0xFE, SCAN_LIKE), segment(0xEF, SCAN_LIKE)),
        lambda data: with_segments(data, *[segment(0xE2, b"")] * 10_000),
        lambda data: with_segments(data, b"\xff" * 1000, segment(0xE2, data)),
    ],
)
def test_what_is_beside_the_picture_changes_no_pixel(kind: str, mode: str, change: Any) -> None:
    data = picture(kind, mode)
    np.testing.assert_array_equal(read(change(data)), read(data))


def test_a_motion_photo_is_read_as_fast_as_the_photo_alone() -> None:
    data = picture() + SCAN_LIKE * 7000
    begin = time.thread_time()
    read_header(data, max_pixels=MAX_PIXELS)
    assert len(data) > 8_000_000 and time.thread_time() - begin < 0.05


@settings(max_examples=100, deadline=None)
@given(
    kind=st.sampled_from(list(KINDS)),
    comments=st.lists(st.binary(max_size=60), max_size=5),
    trailer=st.binary(max_size=400),
    has_end=st.booleans(),
)
def test_any_comment_and_any_trailer_change_no_pixel(
    kind: str, comments: list[bytes], trailer: bytes, has_end: bool
) -> None:
    data = picture(kind)
    changed = with_segments(data, *(segment(0xFE, each) for each in comments))
    changed = changed + trailer if has_end else changed[:-2]
    np.testing.assert_array_equal(read(changed), read(data))


@pytest.mark.parametrize("names", [(1, 1, 1), (0, 0, 1), (1, 2, 1)])
@pytest.mark.parametrize("kind", ["baseline", "restarts"])
def test_components_may_share_a_name(kind: str, names: tuple[int, int, int]) -> None:
    data = picture(kind)
    changed, frame, scan = bytearray(data), data.index(b"\xff\xc0"), data.index(b"\xff\xda")
    for number, name in enumerate(names):
        changed[frame + 10 + 3 * number] = changed[scan + 5 + 2 * number] = name
    np.testing.assert_array_equal(read(bytes(changed)), read(data))


# Missing rows


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("kept", [0.1, 0.3, 0.5, 0.65])
@pytest.mark.parametrize("end", [EOI, b"\xff\xd0" + EOI, b"\xff\xd0" * 20 + EOI])
@pytest.mark.parametrize("reduce", [1, 4])
def test_a_part_with_an_end_is_corrupt(kind: str, kept: float, end: bytes, reduce: Reduce) -> None:
    data = picture(kind)
    with pytest.raises(errors.ImageCorrupt):
        read(data[: int(len(data) * kept)] + end, reduce)


@pytest.mark.parametrize("kind", ["baseline", "coarse", "fine", "restarts"])
@pytest.mark.parametrize("lacking", [40, 100, 1000])
def test_the_last_rows_are_missed_where_one_scan_holds_all(kind: str, lacking: int) -> None:
    with pytest.raises(errors.ImageCorrupt):
        read(picture(kind)[: -2 - lacking] + EOI + SCAN_LIKE)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("kept", [0.5, 0.8, 0.95])
def test_a_part_without_an_end_is_corrupt(kind: str, kept: float) -> None:
    data = picture(kind)
    with pytest.raises(errors.ImageCorrupt):
        read(data[: int(len(data) * kept)])


@pytest.mark.parametrize("kind", ["restarts", "progressive restarts"])
def test_a_part_left_out_between_restart_markers_is_corrupt(kind: str) -> None:
    data = picture(kind)
    scan = data.index(b"\xff\xda")
    marks = [data.index(bytes((0xFF, 0xD0 + number)), scan) for number in range(4)]
    with pytest.raises(errors.ImageCorrupt, match="restart markers"):
        read(data[: marks[1]] + data[marks[3] :])


def test_a_picture_of_more_rows_than_its_scan_has_is_corrupt() -> None:
    data = picture()
    at = data.index(b"\xff\xc0") + 5
    with pytest.raises(errors.ImageCorrupt):
        read(data[:at] + struct.pack(">H", 280) + data[at + 2 :])


def test_a_picture_without_a_scan_is_corrupt() -> None:
    data = picture()
    with pytest.raises(errors.ImageCorrupt, match="before its pixels"):
        read(data[: data.index(b"\xff\xda")] + EOI)


def test_a_progressive_picture_of_fewer_scans_is_read_if_it_has_its_end() -> None:
    data = picture("progressive")
    cut = data[: data.rindex(b"\xff\xc4", 0, data.rindex(b"\xff\xda"))]
    assert np.abs(read(cut + EOI).astype(int) - read(data)).mean() < 6  # 40 where rows are missing
    with pytest.raises(errors.ImageCorrupt, match="between its scans"):
        read(cut)


# Bounds


def test_a_jpeg_of_countless_scans_is_refused() -> None:
    data = picture("progressive")
    scan = data.rindex(b"\xff\xda")
    with pytest.raises(errors.ImageCorrupt, match="more than 100 scans"):
        read_header(data[:-2] + data[scan:-2] * 1000 + EOI, max_pixels=MAX_PIXELS)


def test_many_scans_of_a_large_picture_are_refused() -> None:
    data = picture("progressive")
    at = data.index(b"\xff\xc2") + 5
    large = data[:at] + struct.pack(">HH", 5000, 10_000) + data[at + 4 :]
    scan = data.rindex(b"\xff\xda")
    assert read_header(large, max_pixels=MAX_PIXELS).width == 10_000
    with pytest.raises(errors.ImageCorrupt, match=f"{MAX_SCANNED_PIXELS:,} pixels"):
        read_header(large[:-2] + large[scan:-2] * 11 + EOI, max_pixels=MAX_PIXELS)


@pytest.mark.parametrize("filler", [b"\xff", b"\xff\xe0\0\2", b"\0", b"\xff\0", b"\xff\x01", b"\xff\xd0"])
def test_a_jpeg_of_endless_filler_is_refused_at_once(filler: bytes) -> None:
    data = b"\xff\xd8\xff\xe0\0\2" + filler * (20_000_000 // len(filler))
    begin = time.thread_time()
    with pytest.raises(errors.ImageCorrupt):
        read_header(data, max_pixels=MAX_PIXELS)
    assert time.thread_time() - begin < 1


def test_too_many_segments_are_told_as_such() -> None:
    data = with_segments(picture(), *[segment(0xE2, b"")] * (MAX_SEGMENTS + 1))
    with pytest.raises(errors.ImageCorrupt, match="50,000 segments"):
        read_header(data, max_pixels=MAX_PIXELS)


# Kinds that are not read


@pytest.mark.parametrize(
    ("marker", "name"),
    [
        (0xC3, "lossless"), (0xC5, "hierarchical"), (0xC7, "hierarchical"), (0xDE, "hierarchical"),
        (0xC9, "arithmetic"), (0xCA, "arithmetic"), (0xCB, "lossless"), (0xCF, "hierarchical"),
        (0xF7, "JPEG-LS"),
    ],
)  # fmt: skip
def test_another_kind_of_jpeg_is_refused_by_its_name(marker: int, name: str) -> None:
    data = picture().replace(b"\xff\xc0", bytes((0xFF, marker)))
    with pytest.raises(errors.UnsupportedFormat, match=name):
        read_header(data, max_pixels=MAX_PIXELS)


@pytest.mark.parametrize(
    ("offset", "value", "name"), [(4, b"\x0c", "12 bits"), (5, b"\0\0", "height follows")]
)
def test_a_jpeg_with_an_unusual_frame_is_refused_by_its_name(offset: int, value: bytes, name: str) -> None:
    data = picture()
    at = data.index(b"\xff\xc0") + offset
    with pytest.raises(errors.UnsupportedFormat, match=name):
        read_header(data[:at] + value + data[at + len(value) :], max_pixels=MAX_PIXELS)


def test_a_jpeg_of_two_components_is_refused_by_its_name() -> None:
    frame = segment(0xC0, struct.pack(">BHHB", 8, 64, 64, 2) + b"\1\x11\0\2\x11\0")
    with pytest.raises(errors.UnsupportedFormat, match="2 components"):
        read_header(b"\xff\xd8" + frame + EOI, max_pixels=MAX_PIXELS)


# Orientation, as Chromium 156 shows it


@pytest.mark.parametrize(
    ("segments", "shown"),
    [
        ([exif(1), exif(6)], 1),
        ([exif(6), exif(1)], 6),
        ([segment(0xE1, b"Exif\0\0nonsense"), exif(6)], 1),
        ([segment(0xE1, b"Exif\0\0"), exif(6)], 6),
        ([segment(0xE1, b"Exif\0\0I"), exif(6)], 1),
        ([exif(9), exif(6)], 1),
        ([segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0 tiff:Orientation='3'"), exif(6)], 6),
        ([segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0 tiff:Orientation='3'")], 1),
        ([exif(6, b"Exif\0\xff")], 6),
        ([exif(6, b"exif\0\0")], 1),
    ],
)
def test_the_first_exif_segment_tells_the_orientation(segments: list[bytes], shown: int) -> None:
    assert orientation(with_segments(picture(), *segments)) == shown


def test_exif_counts_up_to_the_scan_and_not_after_it() -> None:
    data = picture()
    scan = data.index(b"\xff\xda")
    assert orientation(data[:scan] + exif(6) + data[scan:]) == 6
    assert orientation(data[:-2] + exif(6) + EOI) == 1
    assert orientation(data + exif(6)) == 1
