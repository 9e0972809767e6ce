"""Decoding scales: what the finder needs, and finer ones only for small eyes."""

import math
from pathlib import Path

import cv2
import numpy as np
import pytest

from service.inference.eye_finder import FINEST_SIDE_PX, LearnedEyeFinder, open_eye_finder
from service.inference.haar import HaarEyeFinder
from service.vision.eyes import Eye, Photo, crop_eye
from service.vision.images import Header, Image, Reduce, decode
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
    [(512, 640, 1), (1920, 640, 2), (1920, 320, 4), (1920, 1000, 1), (4000, 640, 4), (4000, 320, 8)],
)
def test_the_finder_says_how_much_is_decoded_for_it(side_px: int, wanted_px: int, reduce: Reduce) -> None:
    data = fakes.encoded(np.zeros((side_px // 4, side_px, 3), np.uint8), "jpeg")
    photo = Photo(data, max_pixels=MAX_PIXELS)
    finder = fakes.KnownEyes(input_side_px=wanted_px)
    photo.detect(finder)
    assert set(photo.decoded) == {reduce}
    assert photo.detection_reduce(finder) == reduce


def test_what_is_no_jpeg_is_decoded_whole() -> None:
    photo = Photo(fakes.encoded(np.zeros((400, 2000, 3), np.uint8)), max_pixels=MAX_PIXELS)
    photo.detect(fakes.KnownEyes(input_side_px=320))
    assert set(photo.decoded) == {1}


def test_a_measure_needs_fewer_pixels_than_a_crop() -> None:
    photo = Photo(fakes.encoded(astronaut_times(4), "jpeg"), max_pixels=MAX_PIXELS)
    eye = Eye(4 * RIGHT.x, 4 * RIGHT.y, 4 * RIGHT.size_px, 0, "right")
    photo.measure([eye])
    assert set(photo.decoded) == {8}
    photo.crop(eye, 64)
    assert set(photo.decoded) == {8, 1}


def test_the_looks_of_both_finders_are_in_pixels_of_the_whole_photo() -> None:
    photo = Photo(fakes.encoded(astronaut_times(4), "jpeg"), max_pixels=MAX_PIXELS)
    right, _ = photo.detect(HaarEyeFinder()).eyes
    assert abs(right.x - 4 * RIGHT.x) < RIGHT.size_px


@pytest.mark.parametrize(("logit", "told"), [(-4.0, False), (-1.0, True)])
def test_a_faint_place_is_no_eye_in_doubt(tmp_path: Path, logit: float, told: bool) -> None:
    finder = LearnedEyeFinder.load(tiny_finder(tmp_path / "f.onnx", [seen_right(100, 100, 40, logit)]))
    detections = Photo(fakes.encoded(fakes.astronaut()), max_pixels=MAX_PIXELS).detect(finder)
    assert detections.eyes == []
    assert bool(detections.below_threshold) == told


def test_a_jpeg_is_decoded_once_for_the_finder_and_for_a_small_eye(monkeypatch: pytest.MonkeyPatch) -> None:
    scales: list[Reduce] = []

    def count(data: bytes, header: Header, *, reduce: Reduce = 1) -> Image:
        scales.append(reduce)
        return decode(data, header, reduce=reduce)

    monkeypatch.setattr("service.vision.eyes.decode", count)
    photo = Photo(fakes.encoded(astronaut_times(3), "jpeg"), max_pixels=MAX_PIXELS)
    photo.detect(fakes.KnownEyes(input_side_px=FINEST_SIDE_PX))
    small = Eye(3 * RIGHT.x, 3 * RIGHT.y, 3 * RIGHT.size_px, RIGHT.roll_deg, "right")  # 82 px
    crop = photo.crop(small, 64)
    photo.measure([small])  # a quarter of the pixels would do
    assert scales == [1]
    assert difference(crop, crop_eye(astronaut_times(3), small, 64)) < 2


def test_more_pixels_are_decoded_only_for_a_smaller_eye_still() -> None:
    photo = Photo(fakes.encoded(astronaut_times(8), "jpeg"), max_pixels=MAX_PIXELS)  # 4096 px
    photo.detect(fakes.KnownEyes(input_side_px=1000))  # at a quarter
    eye = Eye(8 * RIGHT.x, 8 * RIGHT.y, 8 * RIGHT.size_px, RIGHT.roll_deg, "right")  # 219 px
    photo.crop(eye, 64)
    assert set(photo.decoded) == {4, 2}
    crop = photo.crop(eye, 128)
    assert set(photo.decoded) == {4, 2, 1}
    assert difference(crop, crop_eye(astronaut_times(8), eye, 128)) < 2


def test_an_eye_alone_is_decoded_at_the_smallest_scale_that_serves() -> None:
    photo = Photo(fakes.encoded(astronaut_times(4), "jpeg"), max_pixels=MAX_PIXELS)
    photo.crop(Eye(1023.5, 1023.5, 2048, 0, "right"), 64)
    assert set(photo.decoded) == {8}


@pytest.mark.parametrize("reduce", [2, 4, 8])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_point_of_the_photo_is_found_at_a_reduced_scale(orientation: int, reduce: Reduce) -> None:
    drawn = np.full((203, 301, 3), 255, np.uint8)  # no side is a multiple of 8
    drawn[90:106, 144:160] = 0
    photo = Photo(fakes.turned(drawn, orientation, quality=98, subsampling=0), max_pixels=MAX_PIXELS)
    dark = 255.0 - photo.pixels(reduce)[:, :, 0]
    dark[dark < 16] = 0
    y, x = (float((np.indices(dark.shape)[axis] * dark).sum() / dark.sum()) for axis in (0, 1))
    there = photo.at_scale(Eye(151.5, 97.5, 16, 0, "right"), reduce)
    assert (there.x, there.y) == pytest.approx((x, y), abs=0.15 / reduce)
    assert there.size_px == 16 / reduce


def test_eyes_45_px_apart_are_found_in_12_megapixels() -> None:
    scene = np.asarray(cv2.resize(fakes.astronaut()[300:], (4000, 3000)), np.uint8)  # no face is in this part
    scale = 45 / math.dist((RIGHT.x, RIGHT.y), (LEFT.x, LEFT.y))
    small = cv2.resize(fakes.astronaut(), None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    scene[1200 : 1200 + len(small), 2500 : 2500 + len(small)] = small
    photo = Photo(fakes.encoded(scene, "jpeg"), max_pixels=MAX_PIXELS)
    found = {eye.side: (eye.x - 2500, eye.y - 1200) for eye in photo.detect(open_eye_finder("learned")).eyes}
    assert set(found) == {"right", "left"}
    assert math.dist(found["right"], (RIGHT.x * scale, RIGHT.y * scale)) < 0.15 * 45
