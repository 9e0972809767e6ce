"""The orientation is read as Chromium 156 reads it; each case was shown to it, the answer noted here."""

import struct

import pytest

from service.vision.exif import is_dng, read_orientation

SHORT, LONG = 3, 4


def entry(order: str, tag: int, kind: int, count: int, value: int) -> bytes:
    packed = struct.pack(order + {1: "B", 3: "H", 4: "I", 8: "h", 9: "i"}[kind], value)
    return struct.pack(order + "HHI", tag, kind, count) + packed + bytes(4 - len(packed))


def tiff(*entries: tuple[int, int, int, int], order: str = "<", claimed: int | None = None) -> bytes:
    count = len(entries) if claimed is None else claimed
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, count)
    return head + b"".join(entry(order, *each) for each in entries)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("value", range(1, 9))
def test_every_orientation_is_read_in_both_byte_orders(value: int, order: str) -> None:
    assert read_orientation(tiff((0x112, SHORT, 1, value), order=order)) == value


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("kind", "count", "value"),
    [
        (LONG, 1, 6),
        (1, 1, 6),
        (8, 1, 6),
        (9, 1, 6),
        (SHORT, 2, 6),
        (SHORT, 0, 6),
        (SHORT, 1, 9),
        (SHORT, 1, 0),
    ],
)
def test_an_entry_that_is_no_single_short_of_1_to_8_does_not_count(
    order: str, kind: int, count: int, value: int
) -> None:
    assert read_orientation(tiff((0x112, kind, count, value), order=order)) == 1
    later = tiff((0x112, kind, count, value), (0x112, SHORT, 1, 3), order=order)
    assert read_orientation(later) == 3


@pytest.mark.parametrize(("first", "second"), [(1, 6), (6, 1)])
def test_the_first_valid_entry_counts(first: int, second: int) -> None:
    assert read_orientation(tiff((0x112, SHORT, 1, first), (0x112, SHORT, 1, second))) == first


def test_a_directory_that_claims_more_entries_than_there_are_is_read_to_its_end() -> None:
    assert read_orientation(tiff((0x112, SHORT, 1, 6), claimed=65_535)) == 6
    assert read_orientation(tiff((0x100, SHORT, 1, 6), claimed=65_535)) == 1


@pytest.mark.parametrize(
    "exif", [b"", b"II*\0", b"II+\0" + bytes(20), b"II*\0\xff\xff\xff\xff", b"nonsense" * 9]
)
def test_a_broken_block_means_not_turned(exif: bytes) -> None:
    assert read_orientation(exif) == 1


def test_a_digital_negative_is_told_from_other_tiffs() -> None:
    assert is_dng(tiff((0x100, SHORT, 1, 64), (0xC612, 1, 4, 1)))
    assert not is_dng(tiff((0x100, SHORT, 1, 64)))
