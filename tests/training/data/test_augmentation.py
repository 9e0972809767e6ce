"""Each augmentation changes what it says and nothing else, the same for the same generator."""

from collections.abc import Callable

import numpy as np
import pytest

from service.vision.images import Image
from tests.fakes import astronaut
from training.data import augmentation
from training.data.augmentation import (
    Jitter,
    add_noise,
    adjust_tone,
    blur,
    compress_jpeg,
    degrade_photo,
    lower_resolution,
    motion_blur,
)
from training.data.store import Pairs

NOTHING = Jitter(turn_deg=0, shift=0, zoom=0, gamma=0, blur=0, noise=0, small=0)


def test_jitter_of_nothing_leaves_the_middle_of_the_wide_eye(drawn_pairs: Pairs) -> None:
    wide = drawn_pairs.eyes_wide[0, 0]
    assert np.array_equal(NOTHING(wide, 64, np.random.default_rng(0)), wide[16:80, 16:80])


def test_the_widest_jitter_stays_within_the_wide_eye() -> None:
    widest = Jitter(turn_deg=8, shift=0.05, zoom=0.15, gamma=0, blur=0, noise=0, small=0)
    # White inside, black on the border: if the border were read, black would show.
    wide = np.pad(np.full((94, 94, 3), 255, np.uint8), ((1, 1), (1, 1), (0, 0)))
    assert min(widest(wide, 64, np.random.default_rng(seed)).min() for seed in range(500)) == 255


PHOTO: Image = np.ascontiguousarray(astronaut()[60:188, 160:288])


def detail(picture: Image) -> float:
    """How much neighboring pixels differ."""
    return float(np.abs(np.diff(picture.astype(int), axis=1)).mean())


def test_degraded_photos_keep_their_shape_and_differ_from_the_photo_and_from_each_other() -> None:
    degraded = [degrade_photo(PHOTO, np.random.default_rng(seed)) for seed in range(20)]
    assert all(each.shape == PHOTO.shape and each.dtype == np.uint8 for each in degraded)
    assert all(np.abs(each.astype(int) - PHOTO).mean() > 1 for each in degraded)
    assert len({each.tobytes() for each in degraded}) == 20
    assert np.array_equal(degraded[3], degrade_photo(PHOTO, np.random.default_rng(3)))


def test_some_photos_are_degraded_to_dark_some_to_gray_and_most_to_neither() -> None:
    degraded = [degrade_photo(PHOTO, np.random.default_rng(seed)).astype(int) for seed in range(100)]
    dark = sum(each.mean() < 0.4 * PHOTO.mean() for each in degraded)
    gray = sum(np.abs(each[..., 0] - each[..., 2]).mean() < 3 for each in degraded)
    assert 10 < dark < 45
    assert 3 < gray < 50


@pytest.mark.parametrize("kind", ["blur", "motion_blur", "lower_resolution", "add_noise", "compress_jpeg"])
def test_a_degraded_photo_has_each_flaw_now_and_then(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole: Callable[..., Image] = getattr(augmentation, kind)
    num_seen = 0

    def seen(*args: object, **named: object) -> Image:
        nonlocal num_seen
        num_seen += 1
        return whole(*args, **named)

    monkeypatch.setattr(augmentation, kind, seen)
    for seed in range(60):
        degrade_photo(PHOTO, np.random.default_rng(seed))
    assert 2 < num_seen < 60


def test_mild_degradation_spares_detail() -> None:
    whole, spared = (
        np.mean([detail(degrade_photo(PHOTO, np.random.default_rng(seed), mild=mild)) for seed in range(80)])
        for mild in (False, True)
    )
    assert whole < spared


def test_blur_and_fewer_pixels_lose_detail_and_keep_the_mean() -> None:
    for worse in (blur(PHOTO, 2), motion_blur(PHOTO, 9, 0.3), lower_resolution(PHOTO, 24)):
        assert worse.shape == PHOTO.shape
        assert detail(worse) < 0.7 * detail(PHOTO)
        assert abs(float(worse.mean()) - float(PHOTO.mean())) < 2


def test_noise_has_the_spread_that_is_asked_for_and_no_mean() -> None:
    gray = np.full((200, 150, 3), 128, np.uint8)
    for same in (False, True):
        noise = add_noise(gray, 10, np.random.default_rng(0), gray=same).astype(int) - 128
        assert noise.std() == pytest.approx(10, rel=0.05)
        assert abs(noise.mean()) < 1
        assert (np.ptp(noise, axis=2) == 0).all() == same


def test_tone_raises_scales_and_shifts_levels() -> None:
    half = np.full((2, 2, 3), 128, np.uint8)
    assert adjust_tone(half, gain=[1, 0.5, 0])[0, 0].tolist() == [128, 64, 0]
    assert (adjust_tone(half, gamma=2) == 64).all()
    assert (adjust_tone(half, offset=0.1) == 153).all()
    assert (adjust_tone(half, gain=3) == 255).all()


def test_motion_blurs_along_one_line_and_keeps_the_light() -> None:
    dot = np.zeros((64, 64, 3), np.uint8)
    dot[32, 32] = 255
    for angle in np.linspace(0, 3, 10):
        blurred = motion_blur(dot, 9, angle)[..., 0]
        y, x = np.nonzero(blurred > 8)
        spread, axes = np.linalg.eigh(np.cov(np.stack([x, y]), aweights=blurred[y, x]))
        assert 6 <= len(x) <= 22 and spread[0] < 0.5
        assert abs(axes[:, 1] @ (np.cos(angle), np.sin(angle))) > 0.98
        assert int(blurred.sum()) == pytest.approx(255, rel=0.15)


def test_compression_keeps_a_plain_color() -> None:
    plain = np.full((64, 64, 3), (200, 120, 40), np.uint8)
    assert np.abs(compress_jpeg(plain, 15).astype(int) - plain).max() <= 6


def test_the_lower_the_quality_of_a_jpeg_the_more_is_lost() -> None:
    lost = [np.abs(compress_jpeg(PHOTO, quality).astype(int) - PHOTO).mean() for quality in (90, 50, 15)]
    assert 0 < lost[0] < lost[1] < lost[2]
