"""The Haar finder: both eyes of faces of any size, tilt and light, and none without a face."""

import math
import threading
from dataclasses import replace

import cv2
import numpy as np
import pytest

from service.inference.haar import HaarEyeFinder
from service.vision.eyes import Eye
from service.vision.images import Image
from tests import fakes

RIGHT, LEFT = fakes.astronaut_eyes()


def turned(photo: Image, degrees_clockwise: float) -> tuple[Image, np.ndarray]:
    height, width = photo.shape[:2]
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), -degrees_clockwise, 1.0)
    return np.asarray(cv2.warpAffine(photo, turn, (width, height)), dtype=np.uint8), turn


@pytest.fixture(scope="module")
def finder() -> HaarEyeFinder:
    return HaarEyeFinder()


def assert_finds_the_astronaut(eyes: list[Eye], scale: float = 1.0, roll_deg: float = 0.0) -> None:
    assert [eye.side for eye in eyes] == ["right", "left"]
    for eye, expected in zip(eyes, (RIGHT, LEFT), strict=True):
        assert (
            math.dist((eye.x, eye.y), (expected.x * scale, expected.y * scale)) < 5 * scale
        )  # 0.11 eye distances
        assert eye.size_px == pytest.approx(expected.size_px * scale, rel=0.15)
        assert eye.roll_deg == pytest.approx(expected.roll_deg + roll_deg, abs=6)
        assert 0 < eye.score <= 1 and eye.person == 0


def test_both_eyes_of_the_astronaut_are_found(finder: HaarEyeFinder) -> None:
    assert_finds_the_astronaut(finder.detect(fakes.astronaut()).eyes)


def test_eyes_of_a_large_photo_are_in_its_own_pixels(finder: HaarEyeFinder) -> None:
    photo = np.asarray(cv2.resize(fakes.astronaut(), None, fx=4, fy=4), dtype=np.uint8)
    scaled = [replace(eye, x=eye.x - 1.5, y=eye.y - 1.5) for eye in finder.detect(photo).eyes]
    assert_finds_the_astronaut(scaled, scale=4)


def test_a_small_face_in_a_large_photo_is_found_at_the_last_look(finder: HaarEyeFinder) -> None:
    photo = np.full((1280, 1280, 3), 128, np.uint8)
    photo[:256, :256] = cv2.resize(fakes.astronaut(), (256, 256), interpolation=cv2.INTER_AREA)
    photo = np.asarray(cv2.resize(photo, (1600, 1600)), dtype=np.uint8)
    eyes = finder.detect(photo).eyes
    assert [eye.side for eye in eyes] == ["right", "left"]
    assert eyes[0].x == pytest.approx(RIGHT.x * 0.5 * 1.25, abs=5)


@pytest.mark.slow
@pytest.mark.parametrize("degrees", [-30, -20, 20, 30])
def test_a_tilted_head_is_found(finder: HaarEyeFinder, degrees: float) -> None:
    photo, turn = turned(fakes.astronaut(), degrees)
    eyes = finder.detect(photo).eyes
    back = cv2.invertAffineTransform(turn)
    upright = [replace(eye, **dict(zip("xy", back @ (eye.x, eye.y, 1), strict=True))) for eye in eyes]
    assert_finds_the_astronaut(upright, roll_deg=degrees)


def test_a_dark_photo_is_found(finder: HaarEyeFinder) -> None:
    assert_finds_the_astronaut(finder.detect((fakes.astronaut() // 12).astype(np.uint8)).eyes)


def test_one_visible_eye_is_found_with_its_size(finder: HaarEyeFinder) -> None:
    photo = fakes.astronaut().copy()
    photo[92:112, 232:264] = photo[112:132, 232:264]  # her cheek over her left eye
    (eye,) = finder.detect(photo).eyes
    assert eye.side == "right"
    assert math.dist((eye.x, eye.y), (RIGHT.x, RIGHT.y)) < 5
    assert eye.size_px == pytest.approx(RIGHT.size_px, rel=0.25)  # the size of a box alone is 9 % off


def test_people_are_counted_from_the_largest(finder: HaarEyeFinder) -> None:
    small = cv2.resize(fakes.astronaut(), (320, 320), interpolation=cv2.INTER_AREA)
    photo = np.full((512, 832, 3), 200, np.uint8)
    photo[:320, :320] = small
    photo[:, 320:] = fakes.astronaut()
    eyes = finder.detect(photo).eyes
    assert [(eye.person, eye.side) for eye in eyes] == [(0, "right"), (0, "left"), (1, "right"), (1, "left")]
    assert eyes[0].x > 320 > eyes[2].x


@pytest.mark.parametrize("shape", [(240, 320, 3), (16, 16, 3), (1, 1, 3), (1, 40_000, 3), (40_000, 16, 3)])
def test_a_photo_without_people_has_no_eyes(finder: HaarEyeFinder, shape: tuple[int, int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    assert finder.detect(noise).eyes == []


def test_threads_may_share_a_finder(finder: HaarEyeFinder) -> None:
    expected = finder.detect(fakes.astronaut()).eyes
    found: list[list[Eye]] = []
    threads = [
        threading.Thread(target=lambda: found.extend(finder.detect(fakes.astronaut()).eyes for _ in range(2)))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * (2 * len(threads))
