"""BMP files as Windows, OS/2, ImageMagick, ffmpeg and GIMP write them; Chromium 156 shows each kind so."""

import struct
import time
from typing import Any

import numpy as np
import PIL.Image
import pytest

from service import errors
from service.vision.images import Image, decode, read_header
from tests import fakes

PHOTO = fakes.astronaut()[40:181, 150:291]
HEIGHT, WIDTH = PHOTO.shape[:2]
STANDARD = (0xFF0000, 0xFF00, 0xFF)
RED_FIRST = (0xFF, 0xFF00, 0xFF0000)
ALPHA = 0xFF000000


def bmp(
    pixels: bytes,
    bits: int,
    *,
    header: int = 40,
    compression: int = 0,
    masks: tuple[int, ...] = (),
    palette: bytes = b"",
    height: int = HEIGHT,
    colors: int = 0,
    gap: int = 0,
) -> bytes:
    fields = struct.pack("<IiiHHIIiiII", header, WIDTH, height, 1, bits, compression, 0, 0, 0, colors, 0)
    if header == 12:
        fields = struct.pack("<I4H", header, WIDTH, height, 1, bits)
    packed = b"".join(struct.pack("<I", mask) for mask in masks)
    head = fields[:16] if header == 16 else (fields + packed).ljust(header, b"\0")
    start = 14 + len(head) + len(palette) + gap
    return b"BM" + struct.pack("<IHHI", 0, 0, 0, start) + head + palette + bytes(gap) + pixels


def packed(values: Any, kind: str) -> bytes:
    """Rows from the lowest, each padded to 4 bytes."""
    return b"".join(row.tobytes() + bytes(-row.nbytes % 4) for row in np.asarray(values).astype(kind)[::-1])


def mixed(photo: Any, masks: tuple[int, ...]) -> Any:
    """Numbers of channels of 8 bits behind masks, each without the bits that do not fit."""
    total = np.zeros(photo.shape[:2], np.int64)
    for channel, mask in enumerate(masks):
        shift, bits = (mask & -mask).bit_length() - 1, mask.bit_count()
        total |= (photo[:, :, channel].astype(np.int64) << 8 >> 16 - bits) << shift
    return total


def with_alpha(alpha: Any) -> Any:
    return np.dstack([PHOTO, np.broadcast_to(np.asarray(alpha, np.uint8), PHOTO.shape[:2])])


def read(data: bytes) -> Image:
    return decode(data, read_header(data, max_pixels=1_000_000))


@pytest.mark.parametrize("header", [12, 16, 40, 52, 56, 64, 108, 124])
def test_every_header_is_read(header: int) -> None:
    np.testing.assert_array_equal(read(bmp(packed(PHOTO[:, :, ::-1], "u1"), 24, header=header)), PHOTO)


def test_rows_are_read_from_the_top_where_the_height_is_negative() -> None:
    turned = packed(PHOTO[::-1, :, ::-1], "u1")
    np.testing.assert_array_equal(read(bmp(turned, 24, height=-HEIGHT)), PHOTO)


@pytest.mark.parametrize("header", [40, 52, 56, 108, 124])
@pytest.mark.parametrize("masks", [STANDARD, RED_FIRST, (0xFF00, 0xFF0000, ALPHA)])
def test_masks_tell_the_order_of_colors(header: int, masks: tuple[int, ...]) -> None:
    data = bmp(packed(mixed(PHOTO, masks), "<u4"), 32, header=header, compression=3, masks=masks)
    np.testing.assert_array_equal(read(data), PHOTO)


@pytest.mark.parametrize("header", [40, 56, 124])
@pytest.mark.parametrize(
    ("bits", "masks"),
    [
        (16, (0xF800, 0x7E0, 0x1F)),
        (16, (0x7C00, 0x3E0, 0x1F)),
        (16, (0x1F, 0x7E0, 0xF800)),
        (16, (0xF00, 0xF0, 0xF)),
        (32, (0x3FF00000, 0xFFC00, 0x3FF)),
    ],
)
def test_channels_of_any_depth_are_spread_over_256_levels(
    bits: int, masks: tuple[int, ...], header: int
) -> None:
    data = bmp(packed(mixed(PHOTO, masks), f"<u{bits // 8}"), bits, header=header, compression=3, masks=masks)
    for channel, mask in enumerate(masks):
        most = (1 << min(8, mask.bit_count())) - 1
        levels = PHOTO[:, :, channel].astype(int) * (most + 1) // 256
        np.testing.assert_array_equal(read(data)[:, :, channel], (levels * 255 + most // 2) // most)


def test_16_bits_without_masks_are_5_for_each_color() -> None:
    data = bmp(packed(mixed(PHOTO, (0x7C00, 0x3E0, 0x1F)), "<u2"), 16)
    levels = (PHOTO.astype(int) >> 3) * 255
    np.testing.assert_array_equal(read(data), (levels + 15) // 31)


@pytest.mark.parametrize(("header", "compression"), [(56, 3), (56, 0), (108, 3), (124, 0), (40, 6)])
def test_transparency_is_blended_over_white(header: int, compression: int) -> None:
    alpha = np.random.default_rng(0).integers(0, 256, PHOTO.shape[:2])
    pixels = packed(mixed(with_alpha(alpha), (*STANDARD, ALPHA)), "<u4")
    data = bmp(pixels, 32, header=header, compression=compression, masks=(*STANDARD, ALPHA))
    share = alpha[:, :, np.newaxis] / 255
    np.testing.assert_allclose(read(data), PHOTO * share + 255 * (1 - share), atol=0.51)


@pytest.mark.parametrize(
    ("header", "alpha_mask", "alpha"),
    [(124, ALPHA, 0), (124, 0, 128), (52, 0, 128), (40, 0, 128), (40, 0, 0)],
)
def test_a_fourth_channel_that_means_nothing_hides_nothing(header: int, alpha_mask: int, alpha: int) -> None:
    pixels = packed(mixed(with_alpha(alpha), (*STANDARD, ALPHA)), "<u4")
    masks = (*STANDARD, alpha_mask) if header > 40 else ()
    np.testing.assert_array_equal(read(bmp(pixels, 32, header=header, masks=masks)), PHOTO)


def drawn_in(colors: int) -> tuple[Any, bytes, Any]:
    """Indices, palette of the file, and the picture in these colors."""
    drawn = PIL.Image.fromarray(PHOTO).quantize(colors)
    palette = np.asarray(drawn.getpalette(), np.uint8).reshape(-1, 3)[:colors]
    indices = np.asarray(drawn)
    entries = np.dstack([palette[np.newaxis, :, ::-1], np.full((1, colors), 7, np.uint8)])
    return indices, entries.tobytes(), palette[indices]


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_palettes_of_every_depth_are_read(bits: int) -> None:
    indices, palette, shown = drawn_in(1 << bits)
    bit_rows = [np.unpackbits(row[:, np.newaxis], axis=1)[:, 8 - bits :].ravel() for row in indices]
    pixels = packed([np.packbits(row) for row in bit_rows], "u1")
    np.testing.assert_array_equal(read(bmp(pixels, bits, palette=palette)), shown)


@pytest.mark.parametrize(("colors", "gap"), [(200, 0), (0, 0), (200, 100), (300, 400)])
def test_a_palette_may_be_shorter_or_longer_than_the_file_says(colors: int, gap: int) -> None:
    indices, palette, shown = drawn_in(200)
    data = bmp(packed(indices, "u1"), 8, palette=palette, colors=colors, gap=gap)
    np.testing.assert_array_equal(read(data), shown)


def test_pixels_follow_the_header_where_the_file_does_not_say_where_they_begin() -> None:
    data = bmp(packed(PHOTO[:, :, ::-1], "u1"), 24)
    np.testing.assert_array_equal(read(data[:10] + bytes(4) + data[14:]), PHOTO)


@pytest.mark.parametrize("lacking", [0, 1])
def test_the_last_row_may_lack_its_padding_and_nothing_else(lacking: int) -> None:
    data = bmp(packed(PHOTO[:, :, ::-1], "u1"), 24)
    padding = -3 * WIDTH % 4
    assert padding
    if not lacking:
        np.testing.assert_array_equal(read(data[:-padding]), PHOTO)
        return
    with pytest.raises(errors.ImageCorrupt, match="rows are missing"):
        read(data[: -padding - 1])


# Run-length coding


def runs_of_8(row: Any) -> bytes:
    return b"".join(bytes((1, int(index))) for index in row)


def literal_8(row: Any) -> bytes:
    return bytes((0, len(row), *map(int, row))) + bytes(len(row) % 2)


def runs_of_4(row: Any) -> bytes:
    pairs = np.append(row, 0)[: len(row) + len(row) % 2].reshape(-1, 2)
    return b"".join(bytes((2, int(left << 4 | right))) for left, right in pairs)


def literal_4(row: Any) -> bytes:
    codes = np.append(row, 0)[: len(row) + len(row) % 2].reshape(-1, 2)
    content = bytes(int(left << 4 | right) for left, right in codes)
    return bytes((0, len(row))) + content + bytes(len(content) % 2)


@pytest.mark.parametrize(("bits", "code"), [(8, runs_of_8), (8, literal_8), (4, runs_of_4), (4, literal_4)])
@pytest.mark.parametrize("end", [b"\0\1", b""])
@pytest.mark.parametrize("is_top_down", [False, True])
def test_run_length_coding_is_read(bits: int, code: Any, end: bytes, is_top_down: bool) -> None:
    indices, palette, shown = drawn_in(1 << bits)
    rows = indices if is_top_down else indices[::-1]
    pixels = b"\0\0".join(map(code, rows)) + end
    height = -HEIGHT if is_top_down else HEIGHT
    data = bmp(pixels, bits, compression=12 // bits - (bits == 4), palette=palette, height=height)
    np.testing.assert_array_equal(read(data), shown)


@pytest.mark.parametrize(
    "pixels",
    [
        b"\0\0".join([b"\x8d\5"] * 70) + b"\0\1",
        b"\0\0".join([b"\x8d\5"] * 70),
        b"\0\2\x0a\x0a" + b"\x8d\5\0\0" * 200,
        b"\x8c\5\0\0" * 141,
        b"\0\x8d" + bytes(70),
        b"\0\2\xff",
        b"",
    ],
)
def test_pixels_that_no_run_draws_are_missing(pixels: bytes) -> None:
    with pytest.raises(errors.ImageCorrupt, match="pixels are missing"):
        read(bmp(pixels, 8, compression=1, palette=bytes(1024)))


def test_a_run_ends_with_its_row() -> None:
    data = bmp(b"\xff\5\xff\6\0\0" * HEIGHT, 8, compression=1, palette=bytes(5 * 4) + b"\1\2\3\0")
    assert (read(data) == (3, 2, 1)).all()


@pytest.mark.parametrize("pixels", [b"\0\2\0\0", b"\xffa", b"\0\3abc\0"])
def test_endless_runs_end(pixels: bytes) -> None:
    begin = time.thread_time()
    with pytest.raises(errors.ImageCorrupt):
        read(bmp(pixels * 1_000_000, 8, compression=1, palette=bytes(1024)))
    assert time.thread_time() - begin < 3


# Headers


@pytest.mark.parametrize(
    ("compression", "header", "name"),
    [(4, 40, "JPEG"), (5, 40, "PNG"), (11, 40, "CMYK"), (3, 64, "OS/2"), (4, 64, "OS/2")],
)
def test_a_bmp_of_another_kind_is_refused_by_its_name(compression: int, header: int, name: str) -> None:
    with pytest.raises(errors.UnsupportedFormat, match=f"a BMP .*{name}"):
        read(bmp(bytes(100), 24, compression=compression, header=header))


@pytest.mark.parametrize(("bits", "compression"), [(3, 0), (0, 0), (64, 0), (24, 1), (8, 2), (24, 3), (8, 9)])
def test_impossible_depths_are_corrupt(bits: int, compression: int) -> None:
    with pytest.raises(errors.ImageCorrupt, match=f"{bits} bits, and compression {compression}"):
        read(bmp(bytes(100), bits, compression=compression))


def test_pixels_that_begin_within_the_header_are_corrupt() -> None:
    data = bmp(packed(PHOTO[:, :, ::-1], "u1"), 24)
    with pytest.raises(errors.ImageCorrupt, match="within its header"):
        read(data[:10] + struct.pack("<I", 20) + data[14:])
