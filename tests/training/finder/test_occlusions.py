"""Occlusions cover what they say they cover, and leave the eyes that stay."""

import math
from collections import Counter

import numpy as np
import pytest

from service.vision.images import Image
from tests.training.labeled_astronaut import photo
from training.finder.occlusions import cover_face, cover_with_mask, paint_over_eyes

(PERSON,) = photo().people


def changed_by(cover: Image) -> np.ndarray:
    """Which pixels of the astronaut were changed."""
    return np.asarray((cover != photo().pixels).any(axis=2))


def around_eye(changed: np.ndarray, side: int, reach: float) -> np.ndarray:
    """The square around an eye, `reach` eye distances to each side."""
    x, y = (round(float(value)) for value in PERSON.landmarks[side])
    half = round(reach * PERSON.distance)
    return changed[y - half : y + half + 1, x - half : x + half + 1]


def test_an_eye_is_covered_if_and_only_if_it_is_reported_gone() -> None:
    seen: Counter[tuple[bool, ...]] = Counter()
    for seed in range(150):
        picture = photo().pixels.copy()
        gone = cover_face(picture, PERSON.landmarks, np.random.default_rng(seed))
        changed = changed_by(picture)
        assert changed.any()
        for side, is_gone in enumerate(gone):
            middle = around_eye(changed, side, 0.1)
            assert middle.all() if is_gone else not middle.any(), (seed, side)
        seen[tuple(gone)] += 1
    assert seen[(False, False)] > 100
    assert all(seen[each] > 0 for each in [(True, True), (True, False), (False, True)])


def test_a_mask_covers_the_mouth_and_the_nose_but_no_eye() -> None:
    nose = PERSON.landmarks[2]
    for seed in range(20):
        picture = photo().pixels.copy()
        cover_with_mask(picture, PERSON.landmarks, np.random.default_rng(seed))
        changed = changed_by(picture)
        mouth_y = round(float(nose[1] + 0.5 * PERSON.distance))
        assert changed[mouth_y, round(float(nose[0]))]
        assert not around_eye(changed, 0, 0.12).any() and not around_eye(changed, 1, 0.12).any()


def test_a_mask_turns_with_the_head() -> None:
    blank = np.zeros((200, 200, 3), np.uint8)
    upright = np.array([[80, 80], [120, 80], [100, 105]], np.float32)
    centers = []
    for degrees in (0, 40):
        turn = math.radians(degrees)
        matrix = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
        picture = blank.copy()
        landmarks = ((upright - 100) @ matrix.T + 100).astype(np.float32)
        cover_with_mask(picture, landmarks, np.random.default_rng(1))
        v, u = np.nonzero(picture.any(axis=2))
        centers.append((np.array([u.mean(), v.mean()]) - 100) @ matrix)
    assert centers[0] == pytest.approx(centers[1], abs=3)


def test_eyes_painted_over_are_gone_and_little_else_is_changed() -> None:
    for seed in range(10):
        picture = photo().pixels.copy()
        paint_over_eyes(picture, PERSON.landmarks, np.random.default_rng(seed))
        changed = changed_by(picture)
        for side in (0, 1):
            assert around_eye(changed, side, 0.15).mean() > 0.9
        assert changed.mean() < 0.02


def test_a_face_at_the_border_is_covered_as_far_as_it_is_in_the_picture() -> None:
    for at in ((0, 0), (-30, 40), (63, 63), (500, 500)):
        landmarks = (np.array([[0, 0], [20, 0], [10, 12]]) + at).astype(np.float32)
        for seed in range(15):
            picture = np.zeros((64, 64, 3), np.uint8)
            cover_face(picture, landmarks, np.random.default_rng(seed))
            paint_over_eyes(picture, landmarks, np.random.default_rng(seed))
