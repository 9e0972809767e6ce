import io

import numpy as np
import PIL.Image
import pytest

from service.pipeline import Face
from service.provenance import DIGITAL_SOURCE_TYPE, encode_synthetic
from service.vision.eyes import measure_quality
from service.vision.images import FaceFormat, Image, decode, encode, read_header
from tests import fakes

FORMATS: tuple[FaceFormat, ...] = ("png", "jpeg", "webp")


def a_face(pixels: Image) -> Face:
    eye = fakes.astronaut_eyes()[0]
    return Face(pixels, eye, measure_quality(fakes.astronaut(), eye))


@pytest.mark.parametrize("format", FORMATS)
def test_another_reader_finds_the_mark(format: FaceFormat) -> None:
    picture = PIL.Image.open(io.BytesIO(encode_synthetic(a_face(fakes.astronaut()), format)))
    picture.load()  # PNG: what follows the pixels is read too
    xmp = picture.info["XML:com.adobe.xmp" if format == "png" else "xmp"]
    text = xmp if isinstance(xmp, str) else xmp.decode()
    assert f"<Iptc4xmpExt:DigitalSourceType>{DIGITAL_SOURCE_TYPE}</Iptc4xmpExt:DigitalSourceType>" in text


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("shape", [(128, 128, 3), (129, 127, 3), (96, 300, 3)])
def test_the_mark_leaves_the_pixels_alone(format: FaceFormat, shape: tuple[int, int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    marked, plain = encode_synthetic(a_face(pixels), format), encode(pixels, format)
    expected = np.asarray(PIL.Image.open(io.BytesIO(plain)).convert("RGB"))
    np.testing.assert_array_equal(np.asarray(PIL.Image.open(io.BytesIO(marked)).convert("RGB")), expected)
    ours = decode(marked, read_header(marked, max_pixels=10**6))
    assert ours.shape == shape


@pytest.mark.parametrize("format", FORMATS)
def test_a_face_carries_no_exif(format: FaceFormat) -> None:
    picture = PIL.Image.open(io.BytesIO(encode_synthetic(a_face(fakes.astronaut()), format)))
    assert not picture.getexif()
