"""The overlay: every eye in its color, eyes below the threshold in gray, labels that can be read."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from service.vision.eyes import Eye, eyes_from_points
from service.vision.images import Image
from service.vision.overlay import MAX_SIDE_PX, MIN_SIDE_PX, draw_eyes
from tests import fakes

GREEN, ORANGE = (0, 230, 118), (255, 179, 0)
BLACK: Image = np.zeros((600, 600, 3), np.uint8)


def pixels_of(photo: Image, color: tuple[int, int, int]) -> int:
    return int((photo == color).all(axis=2).sum())


def test_right_eyes_are_green_and_left_ones_orange() -> None:
    right, left = eyes_from_points((200, 300), (400, 300))
    only_right, both = draw_eyes(BLACK, [right]), draw_eyes(BLACK, [right, left])
    assert pixels_of(only_right, GREEN) > 200 and pixels_of(only_right, ORANGE) == 0
    assert pixels_of(both, ORANGE) > 200


def test_the_center_is_marked() -> None:
    drawn = draw_eyes(BLACK, [Eye(300, 300, 80, 0.0, "right")])
    assert tuple(drawn[300, 300]) == GREEN


def test_what_is_in_doubt_is_gray_and_thin() -> None:
    eye = Eye(300, 300, 80, 20.0, "right", 0.1)
    below_threshold, sure = draw_eyes(BLACK, [], [eye]), draw_eyes(BLACK, [eye])
    assert pixels_of(below_threshold, GREEN) == pixels_of(below_threshold, ORANGE) == 0
    assert 0 < (below_threshold.max(axis=2) > 100).sum() < (sure.max(axis=2) > 100).sum()
    gray = below_threshold[(below_threshold > 0).any(axis=2)]
    assert (gray.max(axis=1) == gray.min(axis=1)).all()


def test_the_label_tells_person_side_and_score_apart() -> None:
    eye = Eye(300, 300, 80, 0.0, "right", 0.5)
    others = [replace(eye, person=1), replace(eye, score=0.6)]
    assert all((draw_eyes(BLACK, [eye]) != draw_eyes(BLACK, [each])).any() for each in others)


@pytest.mark.parametrize("distance", [20.0, 40.0, 60.0])
def test_the_labels_of_a_pair_do_not_cover_each_other(distance: float) -> None:
    right, left = eyes_from_points((300 - distance / 2, 300), (300 + distance / 2, 300), score=0.88)
    alone = [pixels_of(draw_eyes(BLACK, [eye]), color) for eye, color in ((right, GREEN), (left, ORANGE))]
    together = draw_eyes(BLACK, [right, left])
    assert pixels_of(together, GREEN) >= 0.85 * alone[0]
    assert pixels_of(together, ORANGE) >= 0.85 * alone[1]


@pytest.mark.parametrize("place", [(2, 2), (597, 2), (2, 597), (597, 597)])
def test_the_label_of_an_eye_in_a_corner_is_in_the_photo(place: tuple[float, float]) -> None:
    middle, corner = Eye(300, 300, 40, 0.0, "right", 0.5), Eye(*place, 40, 0.0, "right", 0.5)
    label = _label_pixels(middle)
    assert _label_pixels(corner) == pytest.approx(label, rel=0.02)


def _label_pixels(eye: Eye) -> int:
    """How many pixels change with the score: they are the label's alone."""
    first, second = (draw_eyes(BLACK, [replace(eye, score=score)]) for score in (0.11, 0.88))
    return int((first != second).any(axis=2).sum())


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((512, 512), (512, 512)),
        ((45, 90), (270, 540)),
        ((8, 8), (512, 512)),
        ((2000, 4000), (640, 1280)),
        ((1, 5000), (1, 1280)),
    ],
)
def test_a_small_photo_is_enlarged_and_a_large_one_reduced(
    shape: tuple[int, int], expected: tuple[int, int]
) -> None:
    drawn = draw_eyes(
        np.zeros((*shape, 3), np.uint8), [Eye(4, 0, 3, 0.0, "left")], [Eye(2, 0, 3, 0.0, "left")]
    )
    assert drawn.shape[:2] == expected
    assert max(drawn.shape) <= MAX_SIDE_PX and (max(drawn.shape) >= MIN_SIDE_PX)


@pytest.mark.parametrize("side_px", [90, 512, 3000])
def test_squares_lie_where_the_eyes_are_at_any_size(side_px: int) -> None:
    photo = np.asarray(cv2.resize(fakes.astronaut(), (side_px, side_px), interpolation=cv2.INTER_AREA))
    grow = side_px / 512
    eye = fakes.astronaut_eyes()[0]
    seen = replace(eye, x=eye.x * grow, y=eye.y * grow, size_px=eye.size_px * grow)
    drawn = draw_eyes(photo.astype(np.uint8), [seen])
    ys, xs = np.nonzero((drawn == GREEN).all(axis=2))
    scale = len(drawn) / 512
    assert xs.min() / scale < eye.x < xs.max() / scale
    assert eye.y + 0.4 * eye.size_px < ys.max() / scale < eye.y + 0.7 * eye.size_px


def test_the_photo_itself_is_not_drawn_into() -> None:
    before = fakes.astronaut().copy()
    draw_eyes(before, list(fakes.astronaut_eyes()))
    np.testing.assert_array_equal(before, fakes.astronaut())
