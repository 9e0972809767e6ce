import dataclasses
import io
import json
import re
import subprocess
import xml.etree.ElementTree as ElementTree
from datetime import UTC, datetime, timedelta
from pathlib import Path
from shutil import which

import cv2
import numpy as np
import PIL.Image
import pytest

from service import __version__
from service.inference.model_files import model_path
from service.inference.synthesizer import ModelInfo, read_model_info
from service.pipeline import Face
from service.provenance.marking import PUBLIC_SECRET, Marker
from service.provenance.signing import DIGITAL_SOURCE_TYPE
from service.provenance.watermark import WatermarkDetector
from service.settings import ConfigurationError, Settings
from service.vision.eyes import measure_quality
from service.vision.images import FaceFormat, Image, decode, encode, read_header
from tests import fakes

FORMATS: tuple[FaceFormat, ...] = ("png", "jpeg", "webp")
MODEL = read_model_info(model_path("synthesizer"))
SECRET = b"of this deployment"


def a_face(pixels: Image) -> Face:
    eye = fakes.astronaut_eyes()[0]
    return Face(pixels[np.newaxis], eye, measure_quality(fakes.astronaut(), eye), certainty=0.5)


def astronaut_face(side: int = 128) -> Image:
    return np.asarray(cv2.resize(fakes.astronaut()[20:190, 140:310], (side, side)), dtype=np.uint8)


def pixels_of(file: bytes) -> Image:
    return decode(file, read_header(file, max_pixels=10**6))


def xmp_of(file: bytes, format: FaceFormat) -> str:
    picture = PIL.Image.open(io.BytesIO(file))
    picture.load()  # PNG: what follows the pixels is read too
    xmp = picture.info["XML:com.adobe.xmp" if format == "png" else "xmp"]
    return xmp if isinstance(xmp, str) else str(xmp.decode())


def test_a_grid_has_an_id_that_all_its_faces_decide() -> None:
    face, marker = a_face(astronaut_face()), Marker(MODEL, secret=SECRET)
    pair = dataclasses.replace(face, guesses=np.stack([face.pixels, face.pixels[:, ::-1]]))
    swapped = dataclasses.replace(face, guesses=pair.guesses[::-1])
    files = [marker.encode(each, "png", guess=None) for each in (face, pair, pair, swapped)]
    alone, one, again, other = (re.findall("<xmpMM:DocumentID>.*?<", xmp_of(file, "png")) for file in files)
    assert one == again and len({*alone, *one, *other}) == 3
    assert pixels_of(marker.encode(pair, "png", guess=1)).tobytes() == pixels_of(files[1])[:, 128:].tobytes()
    assert pixels_of(files[0]).tobytes() == pixels_of(marker.encode(face, "png")).tobytes()


@pytest.mark.parametrize("format", FORMATS)
def test_pillow_finds_the_metadata(format: FaceFormat) -> None:
    marker = Marker(MODEL, producer="A & B <s>", secret=SECRET)
    text = xmp_of(marker.encode(a_face(astronaut_face()), format), format)
    assert f"<Iptc4xmpExt:DigitalSourceType>{DIGITAL_SOURCE_TYPE}</Iptc4xmpExt:DigitalSourceType>" in text
    assert "A &amp; B &lt;s&gt;" in text
    assert len(text) < 1200


@pytest.mark.skipif(which("exiftool") is None, reason="needs exiftool")
@pytest.mark.parametrize("format", FORMATS)
def test_exiftool_finds_the_metadata(format: FaceFormat, tmp_path: Path) -> None:
    file = tmp_path / f"face.{format}"
    file.write_bytes(Marker(MODEL, producer="A & B", secret=SECRET).encode(a_face(astronaut_face()), format))
    command = ["exiftool", "-json", "-G0", "-n", str(file)]
    (tags,) = json.loads(subprocess.run(command, capture_output=True, check=True, timeout=60).stdout)
    assert tags["XMP:DigitalSourceType"] == DIGITAL_SOURCE_TYPE
    assert tags["XMP:AISystemUsed"] == f"eye2face {MODEL.name}"
    assert str(tags["XMP:AISystemVersionUsed"]) == MODEL.version
    assert tags["XMP:CreatorTool"] == f"eye2face {__version__}"
    made = datetime.strptime(tags["XMP:CreateDate"], "%Y:%m:%d %H:%M:%S%z")
    assert abs(datetime.now(UTC) - made) < timedelta(minutes=1)
    aigc = json.loads({name.lower(): value for name, value in tags.items()}["xmp:aigc"])
    assert (aigc["Label"], aigc["ContentProducer"]) == ("1", "A & B")
    assert tags["XMP:DocumentID"] == f"urn:uuid:{aigc['ProduceID']}"


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("shape", [(128, 128, 3), (129, 127, 3), (96, 300, 3)])
def test_metadata_leave_the_pixels_alone(format: FaceFormat, shape: tuple[int, int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    marked = Marker(MODEL, has_watermark=False).encode(a_face(pixels), format)
    expected = np.asarray(PIL.Image.open(io.BytesIO(encode(pixels, format))).convert("RGB"))
    np.testing.assert_array_equal(np.asarray(PIL.Image.open(io.BytesIO(marked)).convert("RGB")), expected)
    assert pixels_of(marked).shape == shape


@pytest.mark.parametrize("format", FORMATS)
def test_a_face_carries_no_exif(format: FaceFormat) -> None:
    file = Marker(MODEL).encode(a_face(astronaut_face()), format)
    assert not PIL.Image.open(io.BytesIO(file)).getexif()


def test_each_face_has_an_id_that_the_secret_decides() -> None:
    def find_id(marker: Marker, face: Image) -> str:
        match = re.search(r"urn:uuid:([0-9a-f-]{36})<", xmp_of(marker.encode(a_face(face), "png"), "png"))
        assert match is not None
        return match[1]

    face, other = astronaut_face(), astronaut_face()[:, ::-1].copy()
    ours, theirs = Marker(MODEL, secret=SECRET), Marker(MODEL, secret=b"another")
    ids = {find_id(ours, face), find_id(ours, other), find_id(theirs, face)}
    assert len(ids) == 3
    assert find_id(ours, face) in ids


@pytest.mark.parametrize("side", [64, 96, 128, 129, 192, 256, 512])
@pytest.mark.parametrize("format", FORMATS)
def test_a_face_of_any_size_bears_the_watermark_and_hardly_changes(side: int, format: FaceFormat) -> None:
    face = astronaut_face(side)
    marked = pixels_of(Marker(MODEL, secret=SECRET).encode(a_face(face), format))
    assert WatermarkDetector(SECRET).find(marked).is_found
    assert not WatermarkDetector(b"another").find(marked).is_found
    if format == "png":
        assert 38 < cv2.PSNR(face, marked) < 42


def test_faces_get_all_patterns() -> None:
    marker, seen = Marker(MODEL, secret=SECRET), set()
    for shade in range(40):
        face = np.full((128, 128, 3), 60 + shade, np.uint8)
        added = pixels_of(marker.encode(a_face(face), "png")).astype(int) - face
        seen.add(added.tobytes())
    assert len(seen) > 20  # one pattern would give one


def test_a_face_and_a_secret_give_one_watermark() -> None:
    marker, face = Marker(MODEL, secret=SECRET), a_face(astronaut_face())
    first, again = (pixels_of(marker.encode(face, "png")) for _ in range(2))
    np.testing.assert_array_equal(first, again)


def test_a_label_is_seen_in_the_corner_alone() -> None:
    face = astronaut_face()
    marker = Marker(MODEL, has_watermark=False)
    labeled = pixels_of(marker.encode(a_face(face), "png", label=True))
    changed = (labeled != face).any(axis=2)
    assert changed[-8:, -12:].mean() > 0.8
    assert not changed[:100].any()
    assert not changed[:, :90].any()


def test_the_secret_is_read_from_its_file(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("of a file\n")
    marker = Marker.open(Settings(marking_secret_file=file), MODEL)
    marked = pixels_of(marker.encode(a_face(astronaut_face()), "png"))
    assert WatermarkDetector(b"of a file").find(marked).is_found
    plain = pixels_of(Marker.open(Settings(), MODEL).encode(a_face(astronaut_face()), "png"))
    assert WatermarkDetector(PUBLIC_SECRET).find(plain).is_found
    file.write_text("\n")
    with pytest.raises(ConfigurationError, match="is empty"):
        Marker.open(Settings(marking_secret_file=file), MODEL)


def test_marking_off_is_loud_and_leaves_the_metadata(caplog: pytest.LogCaptureFixture) -> None:
    face = astronaut_face()
    file = Marker.open(Settings(marking="off"), MODEL).encode(a_face(face), "png")
    assert "EYE2FACE_MARKING=off" in caplog.text
    np.testing.assert_array_equal(pixels_of(file), face)
    assert DIGITAL_SOURCE_TYPE in xmp_of(file, "png")


def test_names_of_a_model_and_an_operator_are_text() -> None:
    model: ModelInfo = dataclasses.replace(MODEL, name="<&{}\"'", version="{}")
    file = Marker(model, producer="{}</x>\"'").encode(a_face(astronaut_face()), "png")
    root = ElementTree.fromstring(xmp_of(file, "png"))
    texts = {element.tag.rpartition("}")[2]: element.text or "" for element in root.iter()}
    assert texts["AISystemUsed"] == "eye2face <&{}\"'"
    assert texts["AISystemVersionUsed"] == "{}"
    assert json.loads(texts["AIGC"])["ContentProducer"] == "{}</x>\"'"
