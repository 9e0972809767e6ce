"""Where the face lies, and what the background weighs."""

import pytest

from training.data.face_alignment import LEFT_EYE_AT, RIGHT_EYE_AT
from training.synthesizer.regions import face_region, region_weights


def test_the_face_is_symmetric_and_holds_the_eyes_but_no_corner() -> None:
    region = face_region(64)
    assert region.equal(region.flip(1))
    for x, y in (LEFT_EYE_AT, RIGHT_EYE_AT):
        assert region[int(y * 64), int(x * 64)] == 1
    assert region[0, 0] == region[-1, 0] == region[-1, -1] == 0
    assert 0.6 < region.mean() < 0.7


def test_weights_have_the_mean_of_one_and_the_stated_ratio() -> None:
    weights, region = region_weights(64, 0.3), face_region(64)
    assert weights.mean().item() == pytest.approx(1)
    assert weights[region == 0].max() / weights[region == 1].min() == pytest.approx(0.3)
    assert weights[region == 0].min() / weights[region == 1].max() == pytest.approx(0.3)
