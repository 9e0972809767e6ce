from collections.abc import Callable
from dataclasses import replace
from typing import Final

import cv2
import numpy as np
import pytest

from service.provenance.marking import Marker
from service.provenance.watermark import THRESHOLD, WatermarkDetector
from service.vision.images import Image
from tests import fakes
from tests.service.provenance.test_marking import MODEL, SECRET, a_face, astronaut_face, pixels_of

DETECTOR: Final = WatermarkDetector(SECRET)


def marked_face() -> Image:
    return pixels_of(Marker(MODEL, secret=SECRET).encode(a_face(astronaut_face()), "png"))


def marked_grid(num_guesses: int) -> Image:
    face = a_face(astronaut_face())
    several = replace(face, guesses=np.concatenate([face.guesses] * num_guesses))
    return pixels_of(Marker(MODEL, secret=SECRET).encode(several, "png", guess=None))


def compress(picture: Image, ending: str, quality: int) -> Image:
    option = cv2.IMWRITE_JPEG_QUALITY if ending == ".jpg" else cv2.IMWRITE_WEBP_QUALITY
    return np.asarray(cv2.imdecode(cv2.imencode(ending, picture, [option, quality])[1], 1), dtype=np.uint8)


def resize(picture: Image, side: int) -> Image:
    return np.asarray(cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA), dtype=np.uint8)


@pytest.mark.parametrize(
    "change",
    [
        lambda face: compress(face, ".jpg", 50),
        lambda face: compress(face, ".webp", 60),
        lambda face: resize(face, 64),
        lambda face: resize(face, 300),
        lambda face: cv2.GaussianBlur(face, (0, 0), 1),
        lambda face: face[:, ::-1],
        lambda face: face[4:124, 5:125],
        lambda face: face[:, 9:],
        lambda face: compress(resize(face[7:122, 6:121], 256), ".jpg", 70),
        lambda face: compress(np.ascontiguousarray(face[3:121, 2:120][:, ::-1]), ".jpg", 75),
        lambda face: cv2.cvtColor(cv2.cvtColor(face, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB),
        lambda face: cv2.convertScaleAbs(face, alpha=0.8, beta=20),
    ],
    ids=["jpeg", "webp", "small", "large", "blurred", "mirrored", "cut", "cut at a side", "enlarged cut",
         "mirrored, cut, jpeg", "gray", "lighter"],
)  # fmt: skip
def test_the_watermark_is_found_after(change: Callable[[Image], Image]) -> None:
    found = DETECTOR.find(np.ascontiguousarray(change(marked_face())))
    assert found.is_found
    assert found.false_alarm_probability < 1e-5


@pytest.mark.parametrize("num_guesses", [2, 5, 16])
@pytest.mark.parametrize(
    "change", [lambda grid: grid, lambda grid: compress(grid, ".jpg", 75)], ids=["png", "jpeg"]
)
def test_the_watermark_is_found_in_a_grid_and_in_each_face_of_it(
    change: Callable[[Image], Image], num_guesses: int
) -> None:
    grid = change(marked_grid(num_guesses))
    assert DETECTOR.find(grid).is_found
    for number in range(num_guesses):
        row, column = divmod(number, grid.shape[1] // 128)
        cell = grid[128 * row : 128 * (row + 1), 128 * column : 128 * (column + 1)]
        assert DETECTOR.find(np.ascontiguousarray(cell)).is_found


@pytest.mark.parametrize("picture", [fakes.astronaut(), astronaut_face(), np.zeros((64, 64, 3), np.uint8),
                                     np.full((300, 20, 3), 255, np.uint8)],
                         ids=["photo", "face", "black", "narrow"])  # fmt: skip
def test_no_watermark_is_found_where_none_is(picture: Image) -> None:
    found = DETECTOR.find(picture)
    assert not found.is_found
    assert found.score < THRESHOLD
    assert found.false_alarm_probability > 1e-6


def test_another_secret_finds_nothing() -> None:
    assert not WatermarkDetector(b"another").find(marked_face()).is_found


def test_scores_of_wrong_secrets_are_standard_normal() -> None:
    face = marked_face()
    trials = [WatermarkDetector(str(number).encode()).score_whole(face) for number in range(40)]
    scores = np.concatenate(trials)
    assert abs(float(scores.mean())) < 0.05
    assert abs(float(scores.std()) - 1) < 0.05
