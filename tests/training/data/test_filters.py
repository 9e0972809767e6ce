"""Blur, covered eyes and colorfulness, measured on drawn faces with one flaw each."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from service.vision.eyes import crop_eye, eyes_from_points
from service.vision.images import Image
from tests.drawn_faces import DrawnPhoto, draw_photo
from tests.drawn_people import Shot, make_person
from tests.fakes import ASTRONAUT_LEFT_EYE, ASTRONAUT_RIGHT_EYE, astronaut, astronaut_eyes
from training.data.face_alignment import align_face
from training.data.filters import (
    MIN_COLORFULNESS,
    MIN_SHARPNESS,
    colorfulness,
    sharpness,
    usable_eyes,
)

SHOT = Shot()


def face_and_eyes(photo: DrawnPhoto, pixels: Image | None = None, eye_size: int = 64) -> tuple[Image, Image]:
    pixels = photo.pixels if pixels is None else pixels
    eyes = eyes_from_points(photo.right, photo.left)
    crops = np.stack([crop_eye(pixels, eye, eye_size) for eye in eyes])
    return align_face(pixels, photo.right, photo.left, 2 * eye_size)[0], crops


def test_a_sharp_face_passes_and_the_same_face_blurred_does_not() -> None:
    for seed in range(4):
        photo = draw_photo(make_person(seed), SHOT)
        blurred = np.asarray(cv2.GaussianBlur(photo.pixels, (0, 0), 3.5), np.uint8)
        assert sharpness(face_and_eyes(photo)[0]) > MIN_SHARPNESS
        assert sharpness(face_and_eyes(photo, blurred)[0]) < MIN_SHARPNESS


def test_the_astronaut_is_sharp_in_color_and_shows_both_eyes() -> None:
    face, outside = align_face(astronaut(), ASTRONAUT_RIGHT_EYE, ASTRONAUT_LEFT_EYE, 128)
    eyes = np.stack([crop_eye(astronaut(), eye, 64) for eye in astronaut_eyes()])
    assert outside == 0
    assert sharpness(face) > MIN_SHARPNESS
    assert colorfulness(face) > MIN_COLORFULNESS
    assert usable_eyes(face, eyes) == (True, True)


@pytest.mark.parametrize("seed", range(12))
def test_only_sunglasses_cover_the_eyes_of_people_of_any_skin(seed: int) -> None:
    person = make_person(seed)
    assert usable_eyes(*face_and_eyes(draw_photo(person, SHOT))) == (True, True)
    assert usable_eyes(*face_and_eyes(draw_photo(person, replace(SHOT, sunglasses=True)))) == (False, False)


@pytest.mark.parametrize("seed", range(4))
def test_lenses_of_the_color_of_skin_but_darker_are_sunglasses(seed: int) -> None:
    face, eyes = face_and_eyes(draw_photo(make_person(seed), SHOT))
    cheek = np.median(face[64:80, 30:48].reshape(-1, 3), axis=0)
    stripes = np.where(np.arange(64) % 16 < 8, 0.3, 0.4)[:, None, None]
    lens = np.broadcast_to(stripes * cheek, eyes.shape[1:]).astype(np.uint8)
    assert usable_eyes(face, np.stack([lens, lens])) == (False, False)


def test_one_eye_in_black_shadow_is_the_only_one_not_usable() -> None:
    photo = draw_photo(make_person(1), SHOT)
    pixels = photo.pixels.copy()
    x, y = (round(value) for value in photo.left)
    pixels[y - 14 : y + 15, x - 15 : x + 16] = 25
    assert usable_eyes(*face_and_eyes(photo, pixels)) == (True, False)


def test_the_size_of_the_crops_changes_no_verdict() -> None:
    photo = draw_photo(make_person(2), replace(SHOT, sunglasses=True))
    assert usable_eyes(*face_and_eyes(photo, eye_size=96)) == (False, False)


@pytest.mark.parametrize("tone", [(1.0, 1.0, 1.0), (1.0, 0.85, 0.6), (0.7, 0.8, 1.0)])
def test_gray_and_toned_faces_are_monochrome_and_colored_ones_are_not(tone: tuple[float, ...]) -> None:
    for seed in range(4):
        face, _ = face_and_eyes(draw_photo(make_person(seed), SHOT))
        gray = cv2.cvtColor(face, cv2.COLOR_RGB2GRAY)[..., None]
        assert colorfulness((gray * np.array(tone)).astype(np.uint8)) < MIN_COLORFULNESS
        assert colorfulness(face) > MIN_COLORFULNESS
