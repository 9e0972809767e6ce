"""The eye finder in models/: its facts, the astronaut's eyes however she is shown, its card's numbers."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import skimage.data

from service.inference.eye_finder import LearnedEyeFinder, open_eye_finder, read_finder_info
from service.inference.model_files import model_path
from service.settings import Settings
from service.vision.images import Image
from tests import fakes
from training.finder.evaluate import render_numbers

MODELS = Path(__file__).parents[1] / "models"

MAX_BYTES = 1_000_000
EYES = np.array([fakes.ASTRONAUT_RIGHT_EYE, fakes.ASTRONAUT_LEFT_EYE])
DISTANCE = float(np.hypot(*(EYES[1] - EYES[0])))


@pytest.fixture(scope="module")
def finder() -> LearnedEyeFinder:
    opened = open_eye_finder("learned")
    assert isinstance(opened, LearnedEyeFinder)
    return opened


def turned(degrees: float, scale: float = 1.0) -> tuple[Image, np.ndarray[tuple[int, ...], np.dtype[Any]]]:
    """The astronaut turned clockwise around her face and enlarged, with her eyes."""
    photo = fakes.astronaut()
    move = cv2.getRotationMatrix2D((224, 110), -degrees, scale)
    shown = cv2.warpAffine(photo, move, photo.shape[1::-1], borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(shown, np.uint8), EYES @ move[:, :2].T + move[:, 2]


def darkened(photo: Image) -> Image:
    return np.asarray(photo * 0.12, np.uint8)


def masked(photo: Image) -> Image:
    covered = photo.copy()
    corners = np.array([[170, 122], [225, 115], [280, 122], [268, 190], [225, 215], [180, 190]])
    cv2.fillPoly(covered, [corners], (120, 170, 220), cv2.LINE_AA)
    return covered


def gray(photo: Image) -> Image:
    return np.asarray(cv2.cvtColor(cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB), np.uint8)


def test_it_is_small_and_for_any_use() -> None:
    info = read_finder_info(model_path("eye_finder"))
    assert model_path("eye_finder").stat().st_size < MAX_BYTES
    assert info.licence_class == "open" and "non-commercial" not in info.training_data


def test_it_is_the_default() -> None:
    assert Settings().eye_finder == "learned"


@pytest.mark.parametrize("degrees", [-45, -30, -15, 0, 15, 30, 45])
@pytest.mark.parametrize("spoil", [np.copy, darkened, gray], ids=["as it is", "dark", "gray"])
def test_it_finds_both_eyes_of_the_astronaut(
    finder: LearnedEyeFinder, spoil: Callable[[Image], Image], degrees: float
) -> None:
    photo, eyes = turned(degrees)
    right, left = finder.detect(spoil(photo)).eyes
    assert (right.side, left.side) == ("right", "left")
    for found, (x, y) in zip((right, left), eyes, strict=True):
        assert np.hypot(found.x - x, found.y - y) < 0.1 * DISTANCE
        assert abs(found.roll_deg - (degrees + 2)) < 8


def test_it_finds_both_eyes_above_a_mask(finder: LearnedEyeFinder) -> None:
    found = finder.detect(masked(fakes.astronaut())).eyes
    assert [eye.side for eye in found] == ["right", "left"]
    for eye, (x, y) in zip(found, EYES, strict=True):
        assert np.hypot(eye.x - x, eye.y - y) < 0.1 * DISTANCE


@pytest.mark.parametrize("side", [0, 1])
def test_it_finds_the_eye_of_a_close_up(finder: LearnedEyeFinder, side: int) -> None:
    x, y = (round(value) for value in EYES[side])
    close_up = cv2.resize(fakes.astronaut()[y - 20 : y + 20, x - 20 : x + 20], (320, 320))
    (eye,) = finder.detect(np.asarray(close_up, np.uint8)).eyes
    assert eye.side == ("right", "left")[side]
    assert np.hypot(eye.x - 164, eye.y - 164) < 0.1 * DISTANCE * 8


def test_it_sees_nobody_in_a_rocket_and_a_cup_of_coffee(finder: LearnedEyeFinder) -> None:
    for name in ("rocket", "coffee"):
        assert finder.detect(getattr(skimage.data, name)()).eyes == []


def test_its_numbers_are_those_of_its_card() -> None:
    numbers: dict[str, Any] = json.loads((MODELS / "eye_finder.json").read_text(encoding="utf-8"))
    assert render_numbers(numbers) in (MODELS / "EYE_FINDER_CARD.md").read_text(encoding="utf-8")
