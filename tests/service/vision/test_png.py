"""PNG files: what is read, what is refused, and that a small file never takes much time or memory."""

import io
import struct
import time
import zlib

import numpy as np
import PIL.Image
import pytest

from service import errors
from service.vision.images import Image, decode, read_header
from service.vision.png import MAX_CHUNKS, MAX_SURPLUS_BYTES, parse_png, rebuild
from tests import fakes

MAX_PIXELS = 50_000_000
HEAD = b"\x89PNG\r\n\x1a\n"
EXIF = b"II*\0\x08\0\0\0" + struct.pack("<HHHIHH", 1, 0x112, 3, 1, 6, 0)
PHOTO = fakes.astronaut()[40:181, 150:293]
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def chunk(name: bytes, content: bytes = b"") -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def rows(pixels: Image) -> bytes:
    return b"".join(b"\0" + row.tobytes() for row in pixels if row.size)


TEXT_BOMB = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(9_000_000), 9))


def png(
    compressed: bytes, pixels: Image = PHOTO, *, before: bytes = b"", after: bytes = b"", interlace: int = 0
) -> bytes:
    height, width = pixels.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, 8, {3: 2, 4: 6}[pixels.shape[2]], 0, 0, interlace)
    return HEAD + chunk(b"IHDR", header) + before + chunk(b"IDAT", compressed) + after + chunk(b"IEND")


def read(data: bytes) -> Image:
    return decode(data, read_header(data, max_pixels=MAX_PIXELS))


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data[:-12],
        lambda data: data[:-4],
        lambda data: data[:-5],
        lambda data: data + data,
        lambda data: data[:-12] + b"no chunk" * 99,
        lambda data: data[:-12] + chunk(b"tEXt", bytes(99))[:-20],
        lambda data: data[:-12] + chunk(b"tEXt", bytes(99)) + chunk(b"IEND"),
        lambda data: data[:33] + TEXT_BOMB * 200 + data[33:],
    ],
)
def test_what_is_beside_the_pixels_changes_none(change: object) -> None:
    data = png(zlib.compress(rows(PHOTO)))
    begin = time.thread_time()
    np.testing.assert_array_equal(read(change(data)), PHOTO)  # type: ignore[operator]
    assert time.thread_time() - begin < 0.5  # OpenCV would inflate each text


@pytest.mark.parametrize("level", [0, 1, 9])
def test_every_compression_gives_the_same_pixels(level: int) -> None:
    np.testing.assert_array_equal(read(png(zlib.compress(rows(PHOTO), level))), PHOTO)


@pytest.mark.parametrize("size", [(16, 16), (17, 23), (140, 143)])
def test_an_interlaced_png_has_its_pixels(size: tuple[int, int]) -> None:
    photo = PHOTO[: size[0], : size[1]]
    passes = b"".join(rows(photo[y::dy, x::dx]) for x, y, dx, dy in ADAM7)
    np.testing.assert_array_equal(read(png(zlib.compress(passes), photo, interlace=1)), photo)
    with pytest.raises(errors.ImageCorrupt, match="rows are missing"):
        read(png(zlib.compress(passes[:-1]), photo, interlace=1))


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGB", "RGBA", "I;16"])
def test_the_rebuilt_file_has_the_pixels_of_the_sent_one(mode: str) -> None:
    picture = PIL.Image.fromarray(PHOTO).convert("L" if mode == "I;16" else mode)
    if mode == "I;16":
        picture = PIL.Image.fromarray(np.asarray(picture).astype(np.uint16) * 257)
    data = fakes.encoded(picture)
    rebuilt = bytes(rebuild(data, parse_png(data)))
    np.testing.assert_array_equal(read(rebuilt), read(data))
    with PIL.Image.open(io.BytesIO(rebuilt)) as opened:
        np.testing.assert_array_equal(np.asarray(opened), np.asarray(picture))


@pytest.mark.parametrize("lacking", [1, 500, 30_000])
def test_missing_rows_are_corrupt(lacking: int) -> None:
    whole = rows(PHOTO)
    for compressed in (zlib.compress(whole[:-lacking]), zlib.compress(whole, 0)[: -4 - lacking]):
        with pytest.raises(errors.ImageCorrupt, match="rows are missing"):
            read(png(compressed))


def test_rows_that_are_complete_are_read_though_their_checksum_is_cut_off() -> None:
    np.testing.assert_array_equal(read(png(zlib.compress(rows(PHOTO))[:-4])), PHOTO)


def test_damaged_pixels_are_corrupt() -> None:
    compressed = bytearray(zlib.compress(rows(PHOTO)))
    compressed[-1] ^= 1
    with pytest.raises(errors.ImageCorrupt, match="pixels are damaged"):
        read(png(bytes(compressed)))


@pytest.mark.parametrize("num_megabytes", [1, 200])
def test_image_data_after_the_last_row_is_refused_before_it_is_inflated(num_megabytes: int) -> None:
    compressor = zlib.compressobj(9)
    parts = [compressor.compress(rows(PHOTO))]
    parts += [compressor.compress(bytes(1_000_000)) for _ in range(num_megabytes)]
    data = png(b"".join([*parts, compressor.flush()]))
    begin = time.thread_time()
    with pytest.raises(errors.ImageCorrupt, match="followed by other compressed data"):
        read(data)
    assert time.thread_time() - begin < 0.1


def test_a_little_image_data_after_the_last_row_is_ignored() -> None:
    np.testing.assert_array_equal(read(png(zlib.compress(rows(PHOTO) + bytes(MAX_SURPLUS_BYTES)))), PHOTO)
    with pytest.raises(errors.ImageCorrupt):
        read(png(zlib.compress(rows(PHOTO) + bytes(MAX_SURPLUS_BYTES + 1))))


def test_more_bytes_of_rows_than_are_decoded_in_seconds_are_too_large() -> None:
    header = struct.pack(">IIBBBBB", 10_000, 5_000, 16, 6, 0, 0, 1)
    data = HEAD + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND")
    with pytest.raises(errors.ImageTooLarge, match="8 bits a channel"):
        read(data)


def test_a_png_of_endless_chunks_is_refused_at_once() -> None:
    data = png(b"", before=chunk(b"teXt") * (10 * MAX_CHUNKS))
    begin = time.thread_time()
    with pytest.raises(errors.ImageCorrupt, match="50,000 parts"):
        read_header(data, max_pixels=MAX_PIXELS)
    assert time.thread_time() - begin < 0.5


def test_the_png_of_apples_build_tools_is_refused_by_its_name() -> None:
    data = png(zlib.compress(rows(PHOTO))[2:-4])
    with pytest.raises(errors.UnsupportedFormat, match="CgBI"):
        read_header(HEAD + chunk(b"CgBI", b"\x50\0\x20\2") + data[8:], max_pixels=MAX_PIXELS)


@pytest.mark.parametrize(
    ("before", "shown"),
    [
        (chunk(b"eXIf", EXIF), 6),
        (chunk(b"eXIf", EXIF.replace(b"\6", b"\1")) + chunk(b"eXIf", EXIF), 1),
        (chunk(b"eXIf", EXIF) + chunk(b"eXIf", EXIF.replace(b"\6", b"\1")), 6),
        (chunk(b"eXIf", b"Exif\0\0" + EXIF), 1),
        (chunk(b"eXIf", EXIF)[:-1] + b"?", 1),
        (chunk(b"tEXt", b"Raw profile type exif\0\nexif\n 32\n" + (b"Exif\0\0" + EXIF).hex().encode()), 1),
        (chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0<x tiff:Orientation='6'/>"), 1),
    ],
)
def test_the_orientation_is_the_one_that_chromium_shows(before: bytes, shown: int) -> None:
    data = png(zlib.compress(rows(PHOTO)), before=before)
    assert read_header(data, max_pixels=MAX_PIXELS).orientation == shown
