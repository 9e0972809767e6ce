"""Eyes corrupted, to measure systems on."""

import cv2
import numpy as np
import pytest

from training.data.corruptions import CORRUPTIONS, GAIN, SMALL_PX, TILT_DEG, darken, shrink, tilt
from training.data.dataset import EyeFacePairs
from training.data.store import Pairs


def _striped(turn_deg: float) -> np.ndarray:
    """Gray waves of 96 px that run along a line turned by so much."""
    y, x = np.mgrid[:96, :96] - 47.5
    turn = np.radians(turn_deg)
    wave = 127 + 100 * np.sin((np.cos(turn) * y - np.sin(turn) * x) / 4)
    return np.repeat(wave[..., None], 3, axis=2).astype(np.uint8)


def test_a_tilted_eye_is_turned_to_one_side_or_the_other() -> None:
    upright, seen = _striped(0), set()
    for seed in range(20):
        eye = tilt(upright, 64, np.random.default_rng(seed)).astype(int)
        errors = {way: np.abs(eye - _striped(way * TILT_DEG)[16:80, 16:80]).mean() for way in (-1, 0, 1)}
        way = min(errors, key=lambda each: errors[each])
        assert errors[way] < 3 < errors[0]
        seen.add(way)
    assert seen == {-1, 1}


def test_a_small_eye_has_no_more_detail_than_its_pixels(drawn_pairs: Pairs) -> None:
    wide = drawn_pairs.eyes_wide[0, 0]
    eye = shrink(wide, 64, np.random.default_rng(0))
    assert eye.shape == (64, 64, 3)
    few = cv2.resize(wide[16:80, 16:80], (SMALL_PX, SMALL_PX), interpolation=cv2.INTER_AREA)
    assert np.array_equal(eye, cv2.resize(few, (64, 64)))


def test_a_dark_eye_has_less_light_and_grain(drawn_pairs: Pairs) -> None:
    wide = drawn_pairs.eyes_wide[0, 0]
    eye = darken(wide, 64, np.random.default_rng(0)).astype(float)
    difference = eye - GAIN * wide[16:80, 16:80]
    assert abs(difference.mean()) < 0.5 and 3 < difference.std() < 5


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_sample_is_spoilt_the_same_way_each_time_and_its_face_is_not(drawn_pairs: Pairs, name: str) -> None:
    as_it_is = EyeFacePairs(drawn_pairs, "val")
    spoilt, again = (EyeFacePairs(drawn_pairs, "val", jitter=CORRUPTIONS[name]) for _ in range(2))
    for i in range(len(as_it_is)):
        assert spoilt[i][0].equal(again[i][0]) and not spoilt[i][0].equal(as_it_is[i][0])
        assert spoilt[i][1].equal(as_it_is[i][1])
