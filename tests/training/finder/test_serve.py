"""The finder end to end: its eyes through the service's pipeline, on drawn photos."""

from dataclasses import replace
from pathlib import Path

import pytest

from service.decoding.reader import InProcessReader
from service.inference.eye_finder import LearnedEyeFinder
from service.inference.synthesizer import Synthesizer
from service.pipeline import Pipeline
from service.selection import QualityThresholds
from service.vision.eyes import EyeDetections, eyes_from_points
from service.vision.images import Image
from tests.fake_finders import tiny_finder
from tests.fakes import tiny_model
from training.data.photos import SourcePhoto, list_photos
from training.errors import DataError
from training.finder.serve import render_codes, run_service


@pytest.fixture(scope="module")
def photos(drawn_csv: Path) -> list[SourcePhoto]:
    return list_photos(drawn_csv, "csv", dev_part=0.05, seed=0)[:4]


class Labeled:
    """Knows where the eyes of one photo are, and answers that for every picture."""

    input_side_px = 10_000

    def __init__(self, photo: SourcePhoto) -> None:
        assert photo.eyes is not None
        self.eyes = list(eyes_from_points(*photo.eyes))

    def detect(self, photo: Image) -> EyeDetections:
        return EyeDetections(self.eyes, [])


@pytest.fixture(scope="module")
def synthesizer(tmp_path_factory: pytest.TempPathFactory) -> Synthesizer:
    return Synthesizer.load(tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx"), device="cpu")


def any_eye(finder: Labeled | LearnedEyeFinder, synthesizer: Synthesizer) -> Pipeline:
    return Pipeline(
        InProcessReader(finder, max_pixels=10**7), synthesizer, thresholds=QualityThresholds(0, 0, 0)
    )


def test_a_photo_whose_eyes_are_found_gets_a_face(
    photos: list[SourcePhoto], synthesizer: Synthesizer
) -> None:
    codes = run_service(photos[:1], any_eye(Labeled(photos[0]), synthesizer))
    assert codes == {photos[0].file: "face"}
    assert "| 1.000 (0.207–1.000) |" in render_codes(codes, "dev")


def test_a_photo_whose_eyes_are_not_found_is_refused(
    photos: list[SourcePhoto], synthesizer: Synthesizer, tmp_path: Path
) -> None:
    blind = LearnedEyeFinder.load(tiny_finder(tmp_path / "blind.onnx", []))
    codes = run_service(photos, any_eye(blind, synthesizer))
    assert codes == {photo.file: "no_eye_found" for photo in photos}
    assert "| refused: no_eye_found | 4 |" in render_codes(codes, "dev")


def test_photos_without_a_label_say_nothing(photos: list[SourcePhoto], synthesizer: Synthesizer) -> None:
    unknown = [replace(photo, eyes=None) for photo in photos]
    unknown[0] = replace(photos[0], label_spread=0.5)  # labels that disagree
    with pytest.raises(DataError, match="none of the 4 photos"):
        run_service(unknown, any_eye(Labeled(photos[0]), synthesizer))
