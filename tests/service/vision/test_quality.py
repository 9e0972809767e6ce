"""Quality of an eye: comparable between sizes, and separating usable eyes from others."""

from dataclasses import replace
from functools import cache

import cv2
import numpy as np
import pytest

from service.errors import EyeRefused, EyeTooBlurred, EyeTooDark, EyeTooSmall
from service.pipeline import quality_thresholds
from service.selection import QualityThresholds
from service.settings import Settings
from service.vision.eyes import MEASURED_PX, Eye, Quality, crop_eye, eyes_from_points, measure_quality
from service.vision.images import Image
from tests import fakes
from tests.drawn_faces import draw_photos

DEFAULT = quality_thresholds(Settings())
RIGHT, LEFT = fakes.astronaut_eyes()


@cache
def eyes() -> list[tuple[Image, Eye]]:
    """Open, uncovered eyes: the astronaut's and drawn ones; of crops between 20 and 40 px."""
    drawn = [
        (photo.pixels, eye)
        for photo in draw_photos(30, seed=5)
        for eye in eyes_from_points(photo.right, photo.left)
    ]
    return [(fakes.astronaut(), RIGHT), (fakes.astronaut(), LEFT), *drawn]


def resized(photo: Image, eye: Eye, size_px: float) -> tuple[Image, Eye]:
    """The photo in which the eye's crop has so many pixels."""
    scale = size_px / eye.size_px
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    new = np.asarray(cv2.resize(photo, None, fx=scale, fy=scale, interpolation=interpolation), dtype=np.uint8)
    x, y = (eye.x + 0.5) * scale - 0.5, (eye.y + 0.5) * scale - 0.5
    return new, replace(eye, x=x, y=y, size_px=size_px)


def blurred(photo: Image, eye: Eye, part: float) -> Image:
    """The photo out of focus by this part of the eye's crop."""
    return np.asarray(cv2.GaussianBlur(photo, (0, 0), part * eye.size_px), dtype=np.uint8)


def darkened(photo: Image, light: float) -> Image:
    return np.asarray(np.rint(photo * light), dtype=np.uint8)


def refusals(seen: list[tuple[Image, Eye]]) -> list[type[EyeRefused] | None]:
    errors = (DEFAULT.refusal(measure_quality(photo, eye)) for photo, eye in seen)
    return [None if error is None else type(error) for error in errors]


def test_eyes_that_can_be_seen_are_not_refused() -> None:
    assert set(refusals(eyes())) == {None}


@pytest.mark.parametrize("size_px", [8.0, 12.0, 20.0, 200.0])
def test_a_sharp_eye_of_any_size_is_not_refused(size_px: float) -> None:
    assert set(refusals([resized(*each, size_px) for each in eyes()])) == {None}


@pytest.mark.parametrize("size_px", [12.0, 20.0, 200.0])
def test_a_blur_of_a_fifth_of_the_eye_is_refused_at_any_size(size_px: float) -> None:
    smeared = [(blurred(photo, eye, 0.2), eye) for photo, eye in eyes()]
    assert set(refusals([resized(*each, size_px) for each in smeared])) == {EyeTooBlurred}


def test_a_twentieth_of_the_light_is_refused_and_a_fifth_is_not() -> None:
    assert set(refusals([(darkened(photo, 0.05), eye) for photo, eye in eyes()])) == {EyeTooDark}
    assert set(refusals([(darkened(photo, 0.2), eye) for photo, eye in eyes()])) == {None}


def test_the_eyes_of_a_face_of_12_px_are_refused_and_of_20_px_are_not() -> None:
    eye_distance_per_face = 0.49  # the median of labeled faces
    for face_px, expected in ((12, EyeTooSmall), (20, None)):
        size_px = 0.62 * eye_distance_per_face * face_px
        assert set(refusals([resized(*each, size_px) for each in eyes()])) == {expected}


def test_sharpness_falls_as_the_blur_grows() -> None:
    photo, eye = resized(fakes.astronaut(), RIGHT, 100)
    parts = (0.01, 0.05, 0.1, 0.2, 0.4)
    sharp = [measure_quality(blurred(photo, eye, part), eye).sharpness for part in parts]
    assert sharp == sorted(sharp, reverse=True)
    assert 0 <= sharp[-1] < sharp[0] <= 1


def test_sharpness_does_not_depend_on_light_or_contrast() -> None:
    bright = measure_quality(fakes.astronaut(), RIGHT).sharpness
    darker = measure_quality(darkened(fakes.astronaut(), 0.4), RIGHT).sharpness
    assert darker == pytest.approx(bright, abs=0.05)


def test_light_and_contrast_are_of_the_twentieth_parts_at_either_end() -> None:
    for photo, eye in eyes():
        gray = cv2.cvtColor(crop_eye(photo, eye, MEASURED_PX), cv2.COLOR_RGB2GRAY)
        dark, bright = np.percentile(gray, (5, 95)) / 255
        seen = measure_quality(photo, eye)
        assert (seen.light, seen.contrast) == pytest.approx((bright, bright - dark), abs=1e-6)


def test_light_brightness_and_contrast_fall_together() -> None:
    bright, dark = (
        measure_quality(photo, RIGHT) for photo in (fakes.astronaut(), darkened(fakes.astronaut(), 0.25))
    )
    for name in ("light", "brightness", "contrast"):
        assert getattr(dark, name) == pytest.approx(getattr(bright, name) / 4, abs=0.01)


def test_tilt_and_size_are_those_of_the_eye() -> None:
    quality = measure_quality(fakes.astronaut(), replace(RIGHT, roll_deg=33.0))
    assert (quality.tilt_deg, quality.size_px) == (33.0, RIGHT.size_px)


def test_an_even_patch_has_no_sharpness() -> None:
    gray: Image = np.full((50, 50, 3), 128, np.uint8)
    assert measure_quality(gray, Eye(25, 25, 20, 0, "right")).sharpness == 0.0


HOPELESS = Quality(size_px=2.0, sharpness=0.01, brightness=0.001, contrast=0.001, light=0.002, tilt_deg=0.0)


@pytest.mark.parametrize(
    ("thresholds", "says"),
    [
        (QualityThresholds(min_px=5), r"2\.0 pixels wide; at least 5 .*more pixels.*EYE2FACE_MIN_EYE_PX=0"),
        (
            QualityThresholds(min_light=0.05),
            r"0\.002 of full light; at least 0\.05 .*more light.*EYE2FACE_MIN_EYE_LIGHT=0",
        ),
        (
            QualityThresholds(min_sharpness=0.3),
            r"0\.01; at least 0\.3 .*in focus.*EYE2FACE_MIN_EYE_SHARPNESS=0",
        ),
    ],
)
def test_a_refusal_says_what_was_measured_what_is_asked_and_how_to_go_on(
    thresholds: QualityThresholds, says: str
) -> None:
    error = thresholds.refusal(HOPELESS)
    assert error is not None
    with pytest.raises(EyeRefused, match=says):
        raise error


def test_gates_at_zero_let_everything_through() -> None:
    assert QualityThresholds().refusal(HOPELESS) is None
