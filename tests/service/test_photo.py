"""How much of a photo is decoded: what the finder wants, and more only where an eye is small."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from service.eye_finder import LearnedEyeFinder
from service.eyes import Eye, HaarEyeFinder, Image, crop_eye
from service.images import Reduce
from service.photo import Photo
from tests import fakes
from tests.fake_finders import seen_right, tiny_finder

RIGHT, LEFT = fakes.astronaut_eyes()
MAX_PIXELS = 50_000_000


def astronaut_times(factor: float, width: int | None = None) -> Image:
    """The astronaut enlarged, or cut to a width."""
    large = cv2.resize(fakes.astronaut(), None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
    return np.asarray(large[:, :width], dtype=np.uint8)


def difference(photo: Image, other: Image) -> float:
    return float(np.abs(photo.astype(float) - other.astype(float)).mean())


@pytest.mark.parametrize(
    ("side_px", "wanted_px", "reduce"),
    [(512, 640, 1), (1920, 640, 2), (1920, 320, 4), (1920, 1000, 1), (4000, 640, 4), (4000, 1000, 4)],
)
def test_the_finder_says_how_much_is_decoded_for_it(side_px: int, wanted_px: int, reduce: Reduce) -> None:
    data = fakes.encoded(np.zeros((side_px // 4, side_px, 3), np.uint8), "jpeg")
    photo = Photo(data, max_pixels=MAX_PIXELS)
    finder = fakes.KnownEyes(look_side_px=wanted_px)
    photo.look(finder)
    assert set(photo._decoded) == {reduce} == {photo.look_reduce(finder)}


def test_what_is_no_jpeg_is_decoded_whole() -> None:
    photo = Photo(fakes.encoded(np.zeros((400, 2000, 3), np.uint8)), max_pixels=MAX_PIXELS)
    photo.look(fakes.KnownEyes(look_side_px=320))
    assert set(photo._decoded) == {1}


def test_a_measure_needs_fewer_pixels_than_a_crop() -> None:
    photo = Photo(fakes.encoded(astronaut_times(4), "jpeg"), max_pixels=MAX_PIXELS)
    eye = Eye(4 * RIGHT.x, 4 * RIGHT.y, 4 * RIGHT.size_px, 0, "right")
    photo.measure(eye)
    assert set(photo._decoded) == {8}
    photo.crop(eye, 64)
    assert set(photo._decoded) == {8, 1}


def test_the_looks_of_both_finders_are_in_pixels_of_the_whole_photo() -> None:
    photo = Photo(fakes.encoded(astronaut_times(4), "jpeg"), max_pixels=MAX_PIXELS)
    right, _ = photo.look(HaarEyeFinder()).eyes
    assert abs(right.x - 4 * RIGHT.x) < RIGHT.size_px


@pytest.mark.parametrize(("logit", "told"), [(-4.0, False), (-1.0, True)])
def test_a_faint_place_is_no_eye_in_doubt(tmp_path: Path, logit: float, told: bool) -> None:
    finder = LearnedEyeFinder.load(tiny_finder(tmp_path / "f.onnx", [seen_right(100, 100, 40, logit)]))
    sight = Photo(fakes.encoded(fakes.astronaut()), max_pixels=MAX_PIXELS).look(finder)
    assert sight.eyes == []
    assert bool(sight.doubtful) == told


def test_more_pixels_are_decoded_only_for_a_small_eye() -> None:
    data = fakes.encoded(astronaut_times(6), "jpeg")  # 3072 px: looked at in a half, 1536 px
    photo = Photo(data, max_pixels=MAX_PIXELS)
    finder = fakes.KnownEyes()
    assert photo.look_reduce(finder) == 2
    photo.look(finder)
    large = Eye(6 * RIGHT.x, 6 * RIGHT.y, 6 * RIGHT.size_px, RIGHT.roll_deg, "right")  # 164 px
    photo.crop(large, 64)
    assert set(photo._decoded) == {2}
    crop = photo.crop(large, 128)
    assert set(photo._decoded) == {2, 1}
    assert difference(crop, crop_eye(astronaut_times(6), large, 128)) < 2


def test_an_eye_alone_is_decoded_at_the_smallest_scale_that_serves() -> None:
    photo = Photo(fakes.encoded(astronaut_times(4), "jpeg"), max_pixels=MAX_PIXELS)
    photo.crop(Eye(1023.5, 1023.5, 2048, 0, "right"), 64)
    assert set(photo._decoded) == {8}
