"""What a finder does in the service, on drawn photos."""

from dataclasses import replace
from pathlib import Path

import cv2
import pytest

from service.decoding.reader import InProcessReader
from service.inference.eye_finder import LearnedEyeFinder
from service.inference.synthesizer import Synthesizer
from service.pipeline import Pipeline
from service.selection import QualityThresholds
from service.vision.eyes import CROP_PER_EYE_DISTANCE, EyeDetections, eyes_from_points
from service.vision.images import Image
from tests.fake_finders import tiny_finder
from tests.fakes import tiny_model
from training.data.photos import Photo, list_photos
from training.errors import DataError
from training.finder.end_to_end import (
    TIMED,
    EndToEndResult,
    draw_refused_photos,
    measure_latency_ms,
    run_service,
)


@pytest.fixture(scope="module")
def photos(drawn_csv: Path) -> list[Photo]:
    return list_photos(drawn_csv, "csv", dev_part=0.05, seed=0)[:4]


class Labelled:
    """Knows where the eyes of one photo are, and answers that for every picture."""

    input_side_px = 10_000

    def __init__(self, photo: Photo, *, off: float = 0.0) -> None:
        assert photo.eyes is not None
        eyes = eyes_from_points(*photo.eyes)
        self.eyes = [replace(eye, x=eye.x + off * eye.size_px / CROP_PER_EYE_DISTANCE) for eye in eyes]

    def detect(self, photo: Image) -> EyeDetections:
        return EyeDetections(self.eyes, [])


@pytest.fixture(scope="module")
def synthesizer(tmp_path_factory: pytest.TempPathFactory) -> Synthesizer:
    return Synthesizer.load(tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx"), device="cpu")


def any_eye(finder: Labelled | LearnedEyeFinder, synthesizer: Synthesizer) -> Pipeline:
    return Pipeline(
        InProcessReader(finder, max_pixels=10**7), synthesizer, thresholds=QualityThresholds(0, 0, 0)
    )


def test_a_photo_whose_eyes_are_found_gets_a_face(photos: list[Photo], synthesizer: Synthesizer) -> None:
    finder = Labelled(photos[0])
    result = run_service(photos[:1], any_eye(finder, synthesizer), finder, finder, progress=False)
    assert result == EndToEndResult({photos[0].file: "face"}, (0.0, 0.0))
    assert "| 1.000 (0.207–1.000) |" in result.table("`dev`")


def test_two_finders_are_compared_in_eye_distances(photos: list[Photo], synthesizer: Synthesizer) -> None:
    finder, other = Labelled(photos[0]), Labelled(photos[0], off=0.1)
    result = run_service(photos[:1], any_eye(finder, synthesizer), finder, other, progress=False)
    assert result.apart == pytest.approx((0.1, 0.1))
    assert "| apart from Haar in eye distances, median of 2 eyes | 0.100 |" in result.table("`dev`")


def test_a_photo_whose_eyes_are_not_found_is_refused_and_drawn(
    photos: list[Photo], synthesizer: Synthesizer, tmp_path: Path
) -> None:
    blind = LearnedEyeFinder.load(tiny_finder(tmp_path / "blind.onnx", []))
    result = run_service(photos, any_eye(blind, synthesizer), blind, Labelled(photos[0]), progress=False)
    assert set(result.codes.values()) == {"no_eye_found"}
    assert "| refused: no_eye_found | 4 |" in result.table("`dev`")
    assert draw_refused_photos(result, photos, tmp_path / "sheets" / "refused.png") == 4
    sheet = cv2.imread(str(tmp_path / "sheets" / "refused.png"))
    assert sheet is not None
    assert sheet.shape == (200, 1600, 3)
    assert sheet[:, :800].std() > 20


def test_photos_without_a_label_say_nothing(photos: list[Photo], synthesizer: Synthesizer) -> None:
    finder = Labelled(photos[0])
    unknown = [replace(photo, eyes=None) for photo in photos]
    unknown[0] = replace(photos[0], label_spread=0.5)  # labels that disagree
    with pytest.raises(DataError, match="none of the 4 photos"):
        run_service(unknown, any_eye(finder, synthesizer), finder, finder, progress=False)


@pytest.mark.slow
def test_the_time_is_that_of_whole_photos_at_two_weights() -> None:
    class Looking:
        input_side_px = 640

        def __init__(self) -> None:
            self.shapes: list[tuple[int, ...]] = []

        def detect(self, photo: Image) -> EyeDetections:
            self.shapes.append(photo.shape[:2])
            return EyeDetections([])

    finder = Looking()
    spent = measure_latency_ms(finder, repeats=1)
    assert set(finder.shapes) == {(240, 320), (540, 960), (750, 1000)}
    alone, *decoded = spent
    assert alone == "search a picture of 320 px"
    assert [name.split(" JPEG")[0].removeprefix("decode and search a ") for name in decoded] == [
        name for name in TIMED for _ in range(2)
    ]
    weights = [int(name.split(" of ")[1].removesuffix(" kB")) for name in decoded]
    assert all(usual < heavy for usual, heavy in zip(weights[::2], weights[1::2], strict=True))
    assert 0.05 < spent[decoded[0]] < spent[decoded[2]] < spent[decoded[4]]
