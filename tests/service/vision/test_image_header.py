"""Headers of image files: format, size, orientation and alpha; what is hostile is refused at once."""

import struct
import time
import zlib

import numpy as np
import PIL.Image
import pytest

from service import errors
from service.vision.image_header import MIN_SIDE_PX
from service.vision.images import (
    Header,
    Image,
    estimate_decode_bytes,
    read_header,
)
from service.vision.png import MAX_CHUNKS
from tests import fakes

MAX_PIXELS = 50_000_000


FORMATS = ("jpeg", "png", "webp", "bmp")


def png_chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png_header(width: int, height: int) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))


def part(width: int = 400, height: int = 300) -> Image:
    return fakes.astronaut()[:height, :width]


def png_bomb(side: int) -> bytes:
    rows = zlib.compressobj(9)
    row = bytes(1 + side)
    idat = b"".join(rows.compress(row) for _ in range(side)) + rows.flush()
    return png_header(side, side) + png_chunk(b"IDAT", idat) + png_chunk(b"IEND", b"")


@pytest.mark.parametrize("format", FORMATS)
def test_the_header_tells_format_and_size(format: str) -> None:
    header = read_header(fakes.encoded(part(), format), max_pixels=MAX_PIXELS)
    assert (header.format, header.width, header.height, header.orientation) == (format, 400, 300, 1)


@pytest.mark.parametrize("options", [{"lossless": True}, {"quality": 80}])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_every_kind_of_webp_tells_its_size(mode: str, options: dict[str, object]) -> None:
    data = fakes.encoded(PIL.Image.fromarray(part()).convert(mode), "webp", **options)
    assert read_header(data, max_pixels=MAX_PIXELS) == Header("webp", 400, 300)


@pytest.mark.parametrize("format", ["png", "webp"])
@pytest.mark.parametrize(("alpha", "shows"), [(None, False), (128, True)])
def test_a_header_tells_what_may_show_through(format: str, alpha: int | None, shows: bool) -> None:
    pixels = part() if alpha is None else np.dstack([part(), np.full((300, 400), alpha, np.uint8)])
    header = read_header(fakes.encoded(pixels, format, lossless=True), max_pixels=MAX_PIXELS)
    assert header.may_have_alpha == shows
    assert estimate_decode_bytes(header) == 300 * 400 * (16 if shows else 9)


def test_an_empty_body_is_refused() -> None:
    with pytest.raises(errors.EmptyBody, match="No bytes were sent"):
        read_header(b"", max_pixels=MAX_PIXELS)


@pytest.mark.parametrize(
    "data", [b"hello", b"{}", b"\xff\xd8", b"\x89PNG", b"RIFF0000WAVE", b"BM some text", bytes(99)]
)
def test_what_is_no_picture_is_refused(data: bytes) -> None:
    with pytest.raises(errors.NotAnImage):
        read_header(data, max_pixels=MAX_PIXELS)


@pytest.mark.parametrize("name", ["GIF", "TIFF", "AVIF", "JPEG2000"])
def test_another_format_is_refused_by_its_name(name: str) -> None:
    data = fakes.encoded(part(64, 64), name)
    with pytest.raises(errors.UnsupportedFormat, match=name.replace("G2", "G 2")):
        read_header(data, max_pixels=MAX_PIXELS)


@pytest.mark.parametrize("brand", [b"heic", b"heix", b"hevc", b"mif1"])
def test_a_photo_of_an_iphone_is_named_as_heic(brand: bytes) -> None:
    with pytest.raises(errors.UnsupportedFormat, match="HEIC"):
        read_header(b"\0\0\0\x18ftyp" + brand + bytes(16), max_pixels=MAX_PIXELS)


@pytest.mark.parametrize(("width", "height"), [(0, 0), (0, 100), (100, 0), (MIN_SIDE_PX - 1, 100)])
def test_a_picture_without_pixels_is_too_small(width: int, height: int) -> None:
    with pytest.raises(errors.ImageTooSmall, match=f"{width} x {height}"):
        read_header(png_header(width, height), max_pixels=MAX_PIXELS)


def test_a_65_byte_png_that_claims_ten_thousand_million_pixels_is_refused() -> None:
    data = png_header(100_000, 100_000) + png_chunk(b"IDAT", b"12345678") + png_chunk(b"IEND", b"")
    assert len(data) == 65
    with pytest.raises(errors.ImageTooLarge, match="100,000 x 100,000"):
        read_header(data, max_pixels=MAX_PIXELS)


def test_a_png_bomb_is_refused_from_its_header() -> None:
    data = png_bomb(12_000)
    assert len(data) < 200_000
    begin = time.thread_time()
    with pytest.raises(errors.ImageTooLarge, match="12,000 x 12,000"):
        read_header(data, max_pixels=MAX_PIXELS)
    assert time.thread_time() - begin < 0.05


def test_the_pixel_limit_itself_is_still_taken() -> None:
    assert read_header(png_header(5_000, 10_000), max_pixels=MAX_PIXELS).width == 5_000
    with pytest.raises(errors.ImageTooLarge):
        read_header(png_header(5_000, 10_001), max_pixels=MAX_PIXELS)


def test_a_jpeg_of_countless_scans_is_refused() -> None:
    data = fakes.encoded(part(), "jpeg", progressive=True)
    assert 1 < data.count(b"\xff\xda") < 20
    scan = data.rindex(b"\xff\xda")
    with pytest.raises(errors.ImageCorrupt, match="scans"):
        read_header(data[:-2] + data[scan:-2] * 1000 + data[-2:], max_pixels=MAX_PIXELS)


@pytest.mark.parametrize("filler", [b"\xff", b"\xff\xe0\0\2", b"\0", b"\xff\0", b"\xff\x01"])
def test_a_jpeg_of_endless_filler_is_refused_at_once(filler: bytes) -> None:
    data = b"\xff\xd8\xff\xe0\0\2" + filler * (20_000_000 // len(filler))
    begin = time.thread_time()
    with pytest.raises(errors.ImageCorrupt):
        read_header(data, max_pixels=MAX_PIXELS)
    assert time.thread_time() - begin < 1


def test_a_png_of_endless_chunks_is_refused_at_once() -> None:
    data = png_header(100, 100) + png_chunk(b"teXt", b"") * (10 * MAX_CHUNKS)
    begin = time.thread_time()
    with pytest.raises(errors.ImageCorrupt, match="50,000 parts"):
        read_header(data, max_pixels=MAX_PIXELS)
    assert time.thread_time() - begin < 0.5


@pytest.mark.parametrize(
    "exif", [b"", b"II*\0", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\xff\xff", b"nonsense" * 9]
)
def test_a_broken_exif_block_means_not_turned(exif: bytes) -> None:
    data = fakes.encoded(part(), "jpeg")
    broken = data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 8) + b"Exif\0\0" + exif + data[2:]
    assert read_header(broken, max_pixels=MAX_PIXELS).orientation == 1
