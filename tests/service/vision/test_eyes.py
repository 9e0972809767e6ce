import math
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.vision.eyes import CROP_VERSION, Eye, crop_eye, eyes_from_points
from service.vision.images import Image
from tests import fakes

RIGHT, LEFT = fakes.astronaut_eyes()
GOLDEN = Path(__file__).parent / "golden" / f"crop_eye_v{CROP_VERSION}.png"


def difference(photo: Image, other: Image) -> float:
    return float(np.abs(photo.astype(float) - other.astype(float)).mean())


def mirrored(eye: Eye, width: int) -> Eye:
    """The same eye in the mirrored photo, where it is an eye of the other side."""
    return replace(
        eye, x=width - 1 - eye.x, roll_deg=-eye.roll_deg, side="left" if eye.side == "right" else "right"
    )


def turned(photo: Image, degrees_clockwise: float) -> tuple[Image, np.ndarray]:
    height, width = photo.shape[:2]
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), -degrees_clockwise, 1.0)
    return np.asarray(cv2.warpAffine(photo, turn, (width, height)), dtype=np.uint8), turn


# Geometry


def test_the_crop_is_0_62_eye_distances_wide() -> None:
    right, left = eyes_from_points((100.0, 50.0), (200.0, 50.0))
    assert (right.x, right.y, right.size_px, right.roll_deg, right.side) == (100, 50, 62, 0, "right")
    assert (left.x, left.y, left.size_px, left.roll_deg, left.side) == (200, 50, 62, 0, "left")


def test_roll_is_clockwise() -> None:
    right, _ = eyes_from_points((100.0, 50.0), (200.0, 150.0))
    assert right.roll_deg == pytest.approx(45)


def test_the_crop_of_a_whole_square_is_the_square_itself() -> None:
    photo = fakes.astronaut()
    eye = Eye(x=100 + 31.5, y=200 + 31.5, size_px=64, roll_deg=0, side="right")
    np.testing.assert_array_equal(crop_eye(photo, eye, 64), photo[200:264, 100:164])


def test_an_eye_of_twice_the_size_is_averaged() -> None:
    photo = fakes.astronaut()
    eye = Eye(x=100 + 63.5, y=200 + 63.5, size_px=128, roll_deg=0, side="right")
    mean = photo[200:328, 100:228].reshape(64, 2, 64, 2, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(crop_eye(photo, eye, 64), mean, atol=1)  # rounding


@given(
    x=st.integers(-100, 611),
    y=st.integers(-100, 611),
    size_px=st.integers(1, 800),
    roll_deg=st.integers(-180, 180),
)
def test_the_left_eye_of_the_mirrored_photo_is_the_right_eye_of_the_photo(
    x: int, y: int, size_px: int, roll_deg: int
) -> None:
    photo = fakes.astronaut()
    eye = Eye(x, y, size_px, roll_deg, "right")
    other = crop_eye(np.ascontiguousarray(photo[:, ::-1]), mirrored(eye, photo.shape[1]), 32)
    # OpenCV places samples on a grid of 1/32 pixel, and rounds it to one side.
    assert difference(crop_eye(photo, eye, 32), other) < 3


def test_a_turned_head_gives_the_same_crop() -> None:
    photo, turn = turned(fakes.astronaut(), 25)
    x, y = turn @ (RIGHT.x, RIGHT.y, 1)
    eye = replace(RIGHT, x=float(x), y=float(y), roll_deg=RIGHT.roll_deg + 25)
    assert difference(crop_eye(photo, eye, 64), crop_eye(fakes.astronaut(), RIGHT, 64)) < 4  # sampled twice


@given(
    width=st.sampled_from([1, 2, 7, 640, 40_000]),
    size_px=st.sampled_from([1e-3, 0.5, 1.0, 63.9, 64.0, 64.1, 127.9, 128.1, 5_000.0, 1e5]),
    at=st.tuples(st.floats(-0.5, 1.5), st.floats(-0.5, 1.5)),
    turned_around=st.booleans(),
)
def test_any_eye_in_any_photo_gives_a_full_crop(
    width: int, size_px: float, at: tuple[float, float], turned_around: bool
) -> None:
    height = 1 if width == 40_000 else 48
    shape = (width, height, 3) if turned_around else (height, width, 3)
    photo = np.full(shape, 77, np.uint8)
    eye = Eye(at[0] * shape[1], at[1] * shape[0], size_px, 33.0, "left")
    crop = crop_eye(photo, eye, 64)
    assert crop.shape == (64, 64, 3) and crop.dtype == np.uint8
    assert (crop == 77).all()


def test_beyond_the_border_the_border_is_repeated() -> None:
    photo = fakes.astronaut()
    eye = Eye(x=-0.5, y=300 + 31.5, size_px=64, roll_deg=0, side="right")
    crop = crop_eye(photo, eye, 64)
    np.testing.assert_array_equal(crop[:, 32:], photo[300:364, :32])
    np.testing.assert_array_equal(crop[:, :32], np.repeat(photo[300:364, :1], 32, axis=1))


@pytest.mark.parametrize("size_px", [0.0, -1.0, math.nan])
def test_an_eye_without_size_is_a_mistake(size_px: float) -> None:
    with pytest.raises(ValueError, match="cannot be cropped"):
        crop_eye(fakes.astronaut(), replace(RIGHT, size_px=size_px), 64)


def test_the_crop_keeps_its_geometry_as_long_as_it_keeps_its_version(tmp_path: Path) -> None:
    photo = fakes.astronaut()
    large = np.asarray(cv2.resize(photo, None, fx=6, fy=6, interpolation=cv2.INTER_CUBIC), dtype=np.uint8)
    tilted = Eye(6 * LEFT.x, 6 * LEFT.y, 6 * LEFT.size_px, 20.0, "left")
    crops = [crop_eye(photo, RIGHT, 64), crop_eye(photo, LEFT, 64), crop_eye(large, tilted, 64, context=1.5)]
    actual = np.hstack(crops)
    path = tmp_path / "actual.png"
    cv2.imwrite(str(path), actual[:, :, ::-1])
    assert GOLDEN.exists(), f"CROP_VERSION is new: look at {path} and copy it to {GOLDEN}"
    expected = np.asarray(cv2.imread(str(GOLDEN)), dtype=np.uint8)[:, :, ::-1]
    if np.abs(actual.astype(int) - expected).max() > 2:  # OpenCV's rounding differs a little between CPUs
        cv2.imwrite(str(path), np.vstack([expected, actual])[:, :, ::-1])
        pytest.fail(f"the crop moved, raise CROP_VERSION; expected (top) and actual: {path}")
