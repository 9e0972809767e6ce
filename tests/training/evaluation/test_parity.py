"""What serving adds to the crops of training, on drawn faces with known eyes."""

from dataclasses import replace
from pathlib import Path

import pytest

from service.vision.eyes import EyeDetections, eyes_from_points
from service.vision.images import Image
from tests.fakes import tiny_model
from training.data.photos import SourcePhoto, list_photos
from training.errors import DataError
from training.evaluation.parity import measure_parity


@pytest.fixture(scope="module")
def photos(drawn_csv: Path) -> list[SourcePhoto]:
    photos = list_photos(drawn_csv, "csv")[:4]
    return [replace(photo, split="dev") for photo in photos]


class MovedFinder:
    """Knows the labels of the photos in their order, and is off by a part of the eye distance."""

    input_side_px = 10_000

    def __init__(self, photos: list[SourcePhoto], off: float) -> None:
        self.points = iter([photo.eyes for photo in photos if photo.eyes])
        self.off = off

    def detect(self, photo: Image) -> EyeDetections:
        right, left = next(self.points)
        distance = left[0] - right[0]
        moved = ((x + self.off * distance, y) for x, y in (right, left))
        return EyeDetections(list(eyes_from_points(*moved)))


def test_a_finder_that_is_right_adds_nothing(photos: list[SourcePhoto], tmp_path: Path) -> None:
    measured = measure_parity(photos, MovedFinder(photos, 0), tiny_model(tmp_path / "m.onnx"))
    assert (measured["num_photos"], measured["eyes_found"]) == (4, 1.0)
    assert (measured["center"], measured["roll_deg"], measured["size"]) == (0, 0, 0)
    assert (measured["crop_by_finder"], measured["face_by_finder"]) == (0, 0)


def test_a_finder_that_is_off_is_measured(photos: list[SourcePhoto], tmp_path: Path) -> None:
    finder = MovedFinder(photos, 0.1)
    measured = measure_parity(photos, finder, tiny_model(tmp_path / "m.onnx"))
    assert measured["center"] == pytest.approx(0.1, rel=0.05)  # the heads are turned by a few degrees
    assert measured["crop_by_finder"] > 1 and measured["face_by_finder"] > 1


def test_the_reduced_decode_moves_a_crop_by_less_than_two_levels(
    photos: list[SourcePhoto], tmp_path: Path
) -> None:
    measured = measure_parity(photos, MovedFinder(photos, 0), tiny_model(tmp_path / "m.onnx"))
    assert 0 < measured["crop_by_decode"] < 2


def test_a_finder_that_finds_nothing_is_an_error(photos: list[SourcePhoto], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none of the labeled eyes in 4 photos"):
        measure_parity(photos, MovedFinder(photos, 0.5), tiny_model(tmp_path / "m.onnx"))


def test_photos_that_the_finder_may_have_learned_from_are_refused(
    photos: list[SourcePhoto], tmp_path: Path
) -> None:
    seen = [*photos[1:], replace(photos[0], split="train")]
    with pytest.raises(DataError, match="may have learned from them"):
        measure_parity(seen, MovedFinder(seen, 0), tiny_model(tmp_path / "m.onnx"))
