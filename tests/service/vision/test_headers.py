"""Headers of image files: format, size, orientation and alpha; what is hostile is refused at once."""

import struct
import time
import zlib

import numpy as np
import PIL.Image
import pytest

from service import errors
from service.vision.images import MIN_SIDE_PX, Header, Image, decode, estimate_decode_bytes, read_header
from service.vision.webp import parse_webp
from tests import fakes

MAX_PIXELS = 50_000_000


FORMATS = ("jpeg", "png", "webp", "avif", "bmp")


def part(width: int = 400, height: int = 300) -> Image:
    return fakes.astronaut()[:height, :width]


def png_bomb(side: int) -> bytes:
    rows = zlib.compressobj(9)
    row = bytes(1 + side)
    idat = b"".join(rows.compress(row) for _ in range(side)) + rows.flush()
    return fakes.png_header(side, side) + fakes.png_chunk(b"IDAT", idat) + fakes.png_chunk(b"IEND", b"")


@pytest.mark.parametrize("format", FORMATS)
def test_the_header_tells_format_and_size(format: str) -> None:
    header = read_header(fakes.encoded(part(), format), max_pixels=MAX_PIXELS)
    assert (header.format, header.width, header.height, header.orientation) == (format, 400, 300, 1)


@pytest.mark.parametrize(("format", "num_bytes"), [("jpeg", 12), ("avif", 26), ("bmp", 9)])
def test_memory_is_reserved_for_each_pixel(format: str, num_bytes: int) -> None:
    header = read_header(fakes.encoded(part(), format), max_pixels=MAX_PIXELS)
    assert estimate_decode_bytes(header) == 300 * 400 * num_bytes


@pytest.mark.parametrize("options", [{"lossless": True}, {"quality": 80}])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_every_kind_of_webp_tells_its_size(mode: str, options: dict[str, object]) -> None:
    data = fakes.encoded(PIL.Image.fromarray(part()).convert(mode), "webp", **options)
    assert read_header(data, max_pixels=MAX_PIXELS) == Header("webp", 400, 300)


@pytest.mark.parametrize(("num_before", "orientation"), [(10, 6), (49_998, 6), (50_000, 1), (2_000_000, 1)])
def test_the_exif_of_a_webp_is_searched_in_fifty_thousand_chunks(num_before: int, orientation: int) -> None:
    exif = b"II*\0\x08\0\0\0" + struct.pack("<HHHIHH", 1, 0x112, 3, 1, 6, 0)
    head = b"VP8X" + struct.pack("<IB", 10, 0x08) + bytes(9)
    chunks = head + b"none\0\0\0\0" * num_before + b"EXIF" + struct.pack("<I", len(exif)) + exif
    begin = time.thread_time()
    assert parse_webp(b"RIFF\0\0\0\0WEBP" + chunks)[2] == orientation
    assert time.thread_time() - begin < 0.5


@pytest.mark.parametrize("format", ["png", "webp"])
@pytest.mark.parametrize(("alpha", "shows"), [(None, False), (128, True)])
def test_a_header_tells_what_may_show_through(format: str, alpha: int | None, shows: bool) -> None:
    pixels = part() if alpha is None else np.dstack([part(), np.full((300, 400), alpha, np.uint8)])
    header = read_header(fakes.encoded(pixels, format, lossless=True), max_pixels=MAX_PIXELS)
    assert header.may_have_alpha == shows
    bytes_per_pixel = {("png", False): 13, ("png", True): 25, ("webp", False): 9, ("webp", True): 16}
    assert estimate_decode_bytes(header) == 300 * 400 * bytes_per_pixel[format, shows]


def test_an_empty_body_is_refused() -> None:
    with pytest.raises(errors.EmptyBody, match="No bytes were sent"):
        read_header(b"", max_pixels=MAX_PIXELS)


@pytest.mark.parametrize(
    "data",
    [b"hello", b"{}", b"\xff\xd8", b"\x89PNG", b"RIFF0000WAVE", b"BM some text", bytes(99), b"<html><p>"],
)
def test_what_is_no_picture_is_refused(data: bytes) -> None:
    with pytest.raises(errors.NotAnImage):
        read_header(data, max_pixels=MAX_PIXELS)


@pytest.mark.parametrize("name", ["GIF", "TIFF", "JPEG2000"])
def test_another_format_is_refused_by_its_name(name: str) -> None:
    data = fakes.encoded(part(64, 64), name)
    with pytest.raises(errors.UnsupportedFormat, match=name.replace("G2", "G 2")):
        read_header(data, max_pixels=MAX_PIXELS)


@pytest.mark.parametrize(
    ("brands", "name"),
    [
        ([b"heic", b"mif1"], "HEIC"), ([b"heix"], "HEIC"), ([b"hevc"], "HEIC"), ([b"msf1"], "HEIF"),
        ([b"mif1", b"heic"], r"HEIC.* Most Compatible"), ([b"mif1", b"miaf"], "HEIF"),
        ([b"crx ", b"isom"], "CR3"),
    ],
)  # fmt: skip
def test_a_photo_in_an_iso_media_file_is_named_by_its_brands(brands: list[bytes], name: str) -> None:
    box = b"ftyp" + brands[0] + bytes(4) + b"".join(brands)
    with pytest.raises(errors.UnsupportedFormat, match=name):
        read_header(struct.pack(">I", 4 + len(box)) + box + bytes(99), max_pixels=MAX_PIXELS)


@pytest.mark.parametrize("brands", [[b"mif1", b"miaf", b"avif"], [b"avis"]])
def test_an_avif_is_told_from_a_heic_by_any_brand(brands: list[bytes]) -> None:
    box = b"ftyp" + brands[0] + bytes(4) + b"".join(brands)
    with pytest.raises(errors.ImageCorrupt, match="begins like an AVIF"):
        read_header(struct.pack(">I", 4 + len(box)) + box + bytes(99), max_pixels=MAX_PIXELS)


@pytest.mark.parametrize("brand", [b"isom", b"mp42", b"qt  "])
def test_a_video_is_no_image(brand: bytes) -> None:
    with pytest.raises(errors.NotAnImage):
        read_header(b"\0\0\0\x14ftyp" + brand + bytes(4) + brand + bytes(99), max_pixels=MAX_PIXELS)


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_digital_negative_is_named_as_dng(order: str) -> None:
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, 1)
    with pytest.raises(errors.UnsupportedFormat, match="DNG"):
        read_header(head + struct.pack(order + "HHII", 0xC612, 1, 4, 1), max_pixels=MAX_PIXELS)


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"\xff\x0a", "JPEG XL"), (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"), (b"II\xbc\1", "JPEG XR"),
        (b"\xff\x4f\xff\x51", "JPEG 2000"), (b"II+\0\x08\0\0\0", "BigTIFF"), (b"8BPS", "Photoshop"),
        (b"\0\0\1\0\1\0", "ICO"), (b"FUJIFILMCCD-RAW 0201", "RAF"), (b"IIRS\x08\0\0\0", "ORF"),
        (b"IIU\0\x18\0\0\0", "RW2"), (b"II\x1a\0\0\0HEAPCCDR", "CRW"), (b"P6\n16 16\n255\n", "PNM"),
        (b"\x8aMNG\r\n\x1a\n", "MNG"), (b"#?RADIANCE\n", "Radiance"), (b"<svg xmlns='", "SVG"),
        (b"\xef\xbb\xbf<?xml version='1.0'?>\n<!-- made by -->\n<svg ", "SVG"),
    ],
)  # fmt: skip
def test_a_format_of_which_only_the_head_is_known_is_refused_by_its_name(head: bytes, name: str) -> None:
    with pytest.raises(errors.UnsupportedFormat, match=name):
        read_header(head + bytes(99), max_pixels=MAX_PIXELS)


@pytest.mark.parametrize("reserved", [b"\1\0\0\0", b"\xff\xff\xff\xff", b"abcd"])
def test_the_reserved_fields_of_a_bmp_are_ignored(reserved: bytes) -> None:
    data = fakes.encoded(part(), "bmp")
    changed = data[:6] + reserved + data[10:]
    header = read_header(changed, max_pixels=MAX_PIXELS)
    np.testing.assert_array_equal(decode(changed, header), part())


@pytest.mark.parametrize(("width", "height"), [(0, 0), (0, 100), (100, 0), (MIN_SIDE_PX - 1, 100)])
def test_a_picture_without_pixels_is_too_small(width: int, height: int) -> None:
    with pytest.raises(errors.ImageTooSmall, match=f"{width} x {height}"):
        read_header(fakes.png_header(width, height), max_pixels=MAX_PIXELS)


def test_a_65_byte_png_that_claims_ten_thousand_million_pixels_is_refused() -> None:
    data = (
        fakes.png_header(100_000, 100_000)
        + fakes.png_chunk(b"IDAT", b"12345678")
        + fakes.png_chunk(b"IEND", b"")
    )
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
    assert read_header(fakes.png_header(5_000, 10_000), max_pixels=MAX_PIXELS).width == 5_000
    with pytest.raises(errors.ImageTooLarge):
        read_header(fakes.png_header(5_000, 10_001), max_pixels=MAX_PIXELS)
