"""How much of a photo is decoded: what the finder wants, and more only where an eye is small."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from service.inference.eye_finder import LearnedEyeFinder
from service.vision.eyes import Eye, crop_eye
from service.vision.haar import HaarEyeFinder
from service.vision.images import Header, Image, Reduce, decode
from service.vision.photo import Photo
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
    ("side_px", "wanted_px", "reduce", "decoded"),
    [
        (512, 640, 1, {1}),
        (1920, 640, 2, {1, 2}),
        (1920, 320, 4, {2, 4}),
        (1920, 1000, 1, {1}),
        (4000, 640, 4, {2, 4}),
        (4000, 320, 8, {4, 8}),
    ],
)
def test_the_finder_says_how_much_is_decoded_for_it(
    side_px: int, wanted_px: int, reduce: Reduce, decoded: set[Reduce]
) -> None:
    data = fakes.encoded(np.zeros((side_px // 4, side_px, 3), np.uint8), "jpeg")
    photo = Photo(data, max_pixels=MAX_PIXELS)
    finder = fakes.KnownEyes(input_side_px=wanted_px)
    photo.detect(finder)
    assert set(photo._decoded) == decoded  # twice as fine, and from that what the finder wants
    assert reduce == max(decoded) == photo.detection_reduce(finder)


def test_what_is_no_jpeg_is_decoded_whole() -> None:
    photo = Photo(fakes.encoded(np.zeros((400, 2000, 3), np.uint8)), max_pixels=MAX_PIXELS)
    photo.detect(fakes.KnownEyes(input_side_px=320))
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

    monkeypatch.setattr("service.vision.photo.decode", count)
    photo = Photo(fakes.encoded(astronaut_times(3), "jpeg"), max_pixels=MAX_PIXELS)
    photo.detect(fakes.KnownEyes(input_side_px=640))  # at a half
    small = Eye(3 * RIGHT.x, 3 * RIGHT.y, 3 * RIGHT.size_px, RIGHT.roll_deg, "right")  # 82 px
    crop = photo.crop(small, 64)
    assert scales == [1]
    assert difference(crop, crop_eye(astronaut_times(3), small, 64)) < 2


def test_more_pixels_are_decoded_only_for_a_smaller_eye_still() -> None:
    photo = Photo(fakes.encoded(astronaut_times(8), "jpeg"), max_pixels=MAX_PIXELS)  # 4096 px
    photo.detect(fakes.KnownEyes(input_side_px=1000))  # at a quarter
    eye = Eye(8 * RIGHT.x, 8 * RIGHT.y, 8 * RIGHT.size_px, RIGHT.roll_deg, "right")  # 219 px
    photo.crop(eye, 64)
    assert set(photo._decoded) == {4, 2}
    crop = photo.crop(eye, 128)
    assert set(photo._decoded) == {4, 2, 1}
    assert difference(crop, crop_eye(astronaut_times(8), eye, 128)) < 2


def test_an_eye_alone_is_decoded_at_the_smallest_scale_that_serves() -> None:
    photo = Photo(fakes.encoded(astronaut_times(4), "jpeg"), max_pixels=MAX_PIXELS)
    photo.crop(Eye(1023.5, 1023.5, 2048, 0, "right"), 64)
    assert set(photo._decoded) == {8}
