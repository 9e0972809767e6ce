import io
import struct
import time
import zlib

import cv2
import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service import errors
from service.vision.images import FaceFormat, Header, Image, Reduce, decode, encode, read_header
from tests import fakes

MAX_PIXELS = 50_000_000
FORMATS = ("jpeg", "png", "webp", "avif", "bmp")


def read(data: bytes, max_pixels: int = MAX_PIXELS) -> Image:
    return decode(data, read_header(data, max_pixels=max_pixels))


def difference(photo: Image, other: Image) -> float:
    return float(np.abs(photo.astype(float) - other.astype(float)).mean())


def part(width: int = 400, height: int = 300) -> Image:
    return fakes.astronaut()[:height, :width]


@pytest.mark.parametrize("format", ["png", "bmp"])
def test_a_lossless_picture_comes_back_as_it_was(format: str) -> None:
    np.testing.assert_array_equal(read(fakes.encoded(part(), format)), part())


def test_a_face_as_png_comes_back_as_it_was_in_fewer_bytes_than_opencv_would_take() -> None:
    face = cv2.resize(fakes.astronaut()[30:190, 150:310], (128, 128), interpolation=cv2.INTER_AREA)
    png = encode(np.asarray(face, np.uint8), "png")
    np.testing.assert_array_equal(read(png), face)
    assert len(png) < 0.97 * len(cv2.imencode(".png", face[..., ::-1])[1])


def test_a_bmp_stored_from_the_top_is_upright() -> None:
    picture = fakes.encoded(part(), "bmp")
    rows = np.frombuffer(picture[54:], np.uint8).reshape(300, -1)[::-1].tobytes()
    from_top = picture[:22] + struct.pack("<i", -300) + picture[26:54] + rows
    np.testing.assert_array_equal(read(from_top), part())


# What is no picture that we can use


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("kept", [0.001, 0.01, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_jpeg_is_noticed(kept: float, progressive: bool) -> None:
    data = fakes.encoded(fakes.astronaut(), "jpeg", progressive=progressive)
    with pytest.raises(errors.ImageCorrupt):
        read(data[: int(len(data) * kept)])


@pytest.mark.parametrize("reduce", [2, 4, 8])
def test_a_truncated_jpeg_is_noticed_at_a_reduced_scale_too(reduce: Reduce) -> None:
    data = fakes.encoded(fakes.astronaut(), "jpeg")
    cut = data[: len(data) * 4 // 5]
    with pytest.raises(errors.ImageCorrupt):
        decode(cut, read_header(cut, max_pixels=MAX_PIXELS), reduce=reduce)


@pytest.mark.parametrize("kept", [0.0005, 0.01, 0.5, 0.99])
@pytest.mark.parametrize("format", ["png", "webp", "avif", "bmp"])
def test_other_truncated_pictures_are_noticed(format: str, kept: float) -> None:
    data = fakes.encoded(fakes.astronaut(), format)
    with pytest.raises(errors.ImageCorrupt):
        read(data[: max(18, int(len(data) * kept))])


@pytest.mark.parametrize(
    ("width", "height", "refusal"),
    [(2**20 + 1, 16, errors.ImageCorrupt), (100_000, 100_000, errors.ImageTooLarge)],
)
def test_a_png_that_claims_too_much_is_refused_whatever_the_pixel_limit(
    width: int, height: int, refusal: type[errors.ImageError]
) -> None:
    data = (
        fakes.png_header(width, height)
        + fakes.png_chunk(b"IDAT", b"12345678")
        + fakes.png_chunk(b"IEND", b"")
    )
    with pytest.raises(refusal):
        decode(data, read_header(data, max_pixels=10**11))


def test_opencv_itself_refuses_what_a_header_hides() -> None:
    # The second line: had the size got past read_header, OpenCV would still not decode it.
    picture = fakes.encoded(part(), "bmp")
    data = picture[:18] + struct.pack("<ii", 100_000, 100_000) + picture[26:]
    with pytest.raises((errors.ImageCorrupt, errors.OutOfMemory)):  # as much memory as there is
        decode(data, Header("bmp", 100_000, 100_000))


@pytest.mark.parametrize("name", [b"PLTE", b"tEXt", b"fdAT"])
@pytest.mark.parametrize("length", [2_000_000, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF])
def test_a_png_whose_chunk_claims_more_than_there_is_takes_no_memory(name: bytes, length: int) -> None:
    whole = fakes.encoded(part(), "png")
    data = whole[:33] + struct.pack(">I", length) + name + whole[41:]
    begin = time.thread_time()
    with pytest.raises(errors.ImageCorrupt, match="rows are missing"):
        read(data)
    assert time.thread_time() - begin < 0.1  # OpenCV zeroes two gigabytes in a second


def test_a_png_in_thousands_of_chunks_is_read_to_its_end() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (140, 140, 3), np.uint8)
    whole = fakes.encoded(picture, "png")
    begin, end = whole.index(b"IDAT") + 4, whole.rindex(b"IEND") - 8
    pixels = whole[begin:end]
    pieces = [fakes.png_chunk(b"IDAT", pixels[start : start + 10]) for start in range(0, len(pixels), 10)]
    exif = fakes.turned(part(64, 48), 6, "png")
    at = exif.index(b"eXIf") - 4
    (length,) = struct.unpack_from(">I", exif, at)
    data = whole[:33] + b"".join(pieces) + exif[at : at + 12 + length] + whole[-12:]
    assert len(pieces) > 5000
    assert read_header(data, max_pixels=MAX_PIXELS).orientation == 6
    assert np.array_equal(read(data), np.rot90(picture, -1))


@pytest.mark.parametrize("format", FORMATS)
@settings(max_examples=150)
@given(
    edits=st.lists(st.tuples(st.integers(0, 1500), st.integers(0, 255)), max_size=12),
    cut=st.integers(0, 5000),
)
def test_hostile_bytes_never_meet_another_error(format: str, edits: list[tuple[int, int]], cut: int) -> None:
    data = bytearray(
        fakes.turned(part(64, 48), 6, format) if format != "bmp" else fakes.encoded(part(64, 48), "bmp")
    )
    for position, value in edits:
        data[position % len(data)] = value
    try:
        read(bytes(data[: len(data) - cut]), max_pixels=1_000_000)
    except errors.ImageError as error:
        assert str(error).endswith(".")


@given(
    st.binary(max_size=300),
    st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM\0\0\0\0\0\0\0\0"]),
)
def test_random_bytes_never_meet_another_error(noise: bytes, magic: bytes) -> None:
    with pytest.raises(errors.ImageError):
        read(magic + noise, max_pixels=1_000_000)


# Uncommon pictures that answer properly


def test_a_cmyk_jpeg_has_its_colors() -> None:
    data = fakes.encoded(PIL.Image.fromarray(part()).convert("CMYK"), "jpeg", quality=95)
    assert difference(read(data), part()) < 3  # JPEG at quality 95 is 1.4 off


def test_a_16_bit_png_has_its_colors() -> None:
    done, data = cv2.imencode(".png", part()[:, :, ::-1].astype(np.uint16) * 257)
    assert done
    np.testing.assert_array_equal(read(data.tobytes()), part())


def test_a_16_bit_gray_png_is_gray() -> None:
    gray = part()[:, :, 1]
    data = fakes.encoded(PIL.Image.fromarray(gray.astype(np.uint16) * 257))
    np.testing.assert_array_equal(read(data), np.dstack([gray] * 3))


@pytest.mark.parametrize("format", ["png", "bmp"])
def test_a_palette_picture_has_its_colors(format: str) -> None:
    picture = PIL.Image.fromarray(part()).convert("P")
    np.testing.assert_array_equal(read(fakes.encoded(picture, format)), np.asarray(picture.convert("RGB")))


@pytest.mark.parametrize("mode", ["L", "1"])
@pytest.mark.parametrize("format", FORMATS)
def test_a_gray_picture_has_three_equal_channels(format: str, mode: str) -> None:
    photo = read(fakes.encoded(PIL.Image.fromarray(part()).convert(mode), format))
    assert photo.shape == (300, 400, 3)
    np.testing.assert_array_equal(photo[:, :, 0], photo[:, :, 2])


@pytest.mark.parametrize(("format", "options"), [("png", {}), ("webp", {"lossless": True, "exact": True})])
def test_what_is_transparent_is_laid_over_white(format: str, options: dict[str, object]) -> None:
    alpha = np.zeros((300, 400), np.uint8)
    alpha[:, 100:] = 128
    alpha[:, 200:] = 255
    photo = read(fakes.encoded(np.dstack([part(), alpha]), format, **options))
    assert (photo[:, :100] == 255).all()
    np.testing.assert_array_equal(photo[:, 200:], part()[:, 200:])
    half = part()[:, 100:200] * (128 / 255) + 255 * (127 / 255)
    np.testing.assert_allclose(photo[:, 100:200], half, atol=1)  # rounding of the two terms


def test_a_palette_with_a_transparent_color_is_laid_over_white() -> None:
    picture = PIL.Image.fromarray(part()).convert("P")
    index = int(np.asarray(picture)[0, 0])
    photo = read(fakes.encoded(picture, "png", transparency=index))
    assert (photo[np.asarray(picture) == index] == 255).all()
    assert difference(photo, np.asarray(picture.convert("RGB"))) > 0


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("surplus", [0, 0xFF00])
def test_a_transparent_gray_is_laid_over_white(depth: int, surplus: int) -> None:
    grays = np.asarray(part(64, 64)[:, :, 0] >> max(0, 8 - depth), dtype=np.uint8)
    chosen = int(grays[30, 30])
    shown = grays * (255 // ((1 << min(depth, 8)) - 1))
    gray = chosen * 257 if depth == 16 else chosen | surplus
    bits = np.unpackbits(grays[:, :, np.newaxis], axis=2)[:, :, -min(depth, 8) :]
    rows = np.packbits(bits.reshape(64, -1), axis=1) if depth < 16 else np.repeat(grays, 2, axis=1)
    data = fakes.png_chunk(b"tRNS", struct.pack(">H", gray))
    data += fakes.png_chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows)))
    head = struct.pack(">IIBBBBB", 64, 64, depth, 0, 0, 0, 0)
    photo = read(b"\x89PNG\r\n\x1a\n" + fakes.png_chunk(b"IHDR", head) + data)
    assert (shown[grays == chosen] < 255).any() or depth == 1
    np.testing.assert_array_equal(photo[:, :, 0], np.where(grays == chosen, 255, shown))


@pytest.mark.parametrize("background", [b"\xff\xff\xff\xff", b"\0\0\xff\xff", bytes(4)])
def test_what_the_first_frame_of_an_animation_leaves_free_is_white(background: bytes) -> None:
    frame = fakes.encoded(part(64, 48), "webp", lossless=True)[12:]
    place = b"".join(each.to_bytes(3, "little") for each in (10, 15, 63, 47, 100)) + b"\0"
    size = (99).to_bytes(3, "little") * 2
    parts = ((b"VP8X", b"\2\0\0\0" + size), (b"ANIM", background + b"\0\0"), (b"ANMF", place + frame))
    chunks = b"".join(name + struct.pack("<I", len(content)) + content for name, content in parts)
    expected = np.full((100, 100, 3), 255, np.uint8)
    expected[30:78, 20:84] = part(64, 48)
    data = b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WEBP" + chunks
    np.testing.assert_array_equal(read(data), expected)


@pytest.mark.parametrize("format", ["png", "webp", "avif"])
def test_an_animation_shows_its_first_frame(format: str) -> None:
    frames = [PIL.Image.fromarray(part()), PIL.Image.fromarray(part()[::-1])]
    options = {"lossless": True} if format == "webp" else {}
    data = fakes.encoded(frames[0], format, save_all=True, append_images=frames[1:], **options)
    assert difference(read(data), part()) < (5 if format == "avif" else 0.001)


@pytest.mark.parametrize("kind", ["lossy", "lossless", "transparent", "animated", "extended"])
@pytest.mark.parametrize("stated", ["more", "less", "none", "unpadded", "cut"])
def test_a_webp_whose_own_data_is_complete_is_read_whatever_stands_around_it(kind: str, stated: str) -> None:
    picture = PIL.Image.fromarray(part(90, 60))
    options: dict[str, dict[str, object]] = {
        "lossless": {"lossless": True},
        "animated": {"save_all": True, "append_images": [picture.rotate(180)]},
        "extended": {"exif": b"Exif\0\0" + bytes(99), "xmp": bytes(300)},
    }
    if kind == "transparent":
        picture.putalpha(200)
    data = fakes.encoded(picture, "webp", **options.get(kind, {}))
    sizes = {"more": len(data) + 1000, "less": len(data) - 30, "none": 0, "unpadded": len(data) - 9}
    size = sizes.get(stated, len(data) + 200)
    rest = struct.pack("<4sI", b"EXIF", 200) + bytes(100) if stated == "cut" else b""
    changed = data[:4] + struct.pack("<I", size) + data[8:] + rest
    np.testing.assert_array_equal(read(changed), read(data))


def test_a_webp_whose_own_data_is_cut_is_damaged() -> None:
    data = fakes.encoded(part(90, 60), "webp")
    for cut in (1, 2, 100):
        with pytest.raises(errors.ImageCorrupt):
            read(data[:-cut])


# Orientation and reduced scale


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["png", "webp"])
def test_all_orientations_give_the_same_pixels(format: str, orientation: int) -> None:
    options = {"lossless": True} if format == "webp" else {}
    data = fakes.turned(part(), orientation, format, **options)
    header = read_header(data, max_pixels=MAX_PIXELS)
    assert (header.orientation, header.upright_width, header.upright_height) == (orientation, 400, 300)
    np.testing.assert_array_equal(read(data), part())


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_avif_is_turned_and_mirrored_by_its_properties(orientation: int) -> None:
    data = fakes.turned(part(), orientation, "avif", quality=90)
    header = read_header(data, max_pixels=MAX_PIXELS)
    assert (header.orientation, header.upright_width, header.upright_height) == (orientation, 400, 300)
    assert difference(read(data), part()) < 3  # its loss; turned wrongly it is 50 off


@pytest.mark.parametrize("depth", [8, 10, 12])
@pytest.mark.parametrize("alpha", [False, True])
def test_an_avif_of_every_depth_has_its_colors_without_its_transparency(depth: int, alpha: bool) -> None:
    channels = [part()[:, :, ::-1], np.full((300, 400, 1), 9, np.uint8)][: 1 + alpha]
    pixels = np.dstack(channels)
    deep = pixels if depth == 8 else pixels.astype(np.uint16) << depth - 8
    quality = [cv2.IMWRITE_AVIF_QUALITY, 95, cv2.IMWRITE_AVIF_DEPTH, depth]
    done, data = cv2.imencode(".avif", np.asarray(deep), quality)
    assert done
    assert difference(read(data.tobytes()), part()) < 4


@pytest.mark.parametrize("reduce", [1, 2, 4, 8])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_jpeg_is_upright_at_every_scale(orientation: int, reduce: Reduce) -> None:
    whole = part(400, 296)  # whole blocks of 8
    data = fakes.turned(whole, orientation, quality=98, subsampling=0)
    photo = decode(data, read_header(data, max_pixels=MAX_PIXELS), reduce=reduce)
    small = cv2.resize(whole, (400 // reduce, 296 // reduce), interpolation=cv2.INTER_AREA)
    # Blocks of a JPEG differ from turn to turn, and its scaling is not quite the mean over an area;
    # a picture turned wrongly is more than 50 off.
    assert photo.shape == small.shape
    assert difference(photo, np.asarray(small, dtype=np.uint8)) < 3


def test_only_a_jpeg_is_decoded_at_a_reduced_scale() -> None:
    data = fakes.encoded(part())
    with pytest.raises(ValueError, match="only a JPEG"):
        decode(data, read_header(data, max_pixels=MAX_PIXELS), reduce=2)


# Writing


@pytest.mark.parametrize(
    ("format", "name", "limit"), [("png", "PNG", 0), ("jpeg", "JPEG", 3), ("webp", "WEBP", 5)]
)
def test_a_face_is_written_in_the_format_asked_for(format: FaceFormat, name: str, limit: float) -> None:
    picture = PIL.Image.open(io.BytesIO(encode(part(128, 128), format)))
    assert (picture.format, picture.size) == (name, (128, 128))
    assert difference(np.asarray(picture), part(128, 128)) <= limit
