"""Face alignment: eye positions, rotation, and the part beyond the photo."""

import math

import cv2
import numpy as np
import pytest

from service.vision.images import Image
from tests.drawn_faces import draw_photo
from tests.drawn_people import Shot, make_person
from training.data.face_alignment import LEFT_EYE_AT, MAX_FRACTION_OUTSIDE, RIGHT_EYE_AT, align_face

RED, GREEN = (255, 0, 0), (0, 255, 0)


def photo_with_dots(right: tuple[int, int], left: tuple[int, int], size: int) -> Image:
    """Gray, with a red disc at the right eye and a green one at the left."""
    photo = np.full((size, size, 3), 128, np.uint8)
    radius = max(2, round(math.dist(right, left) / 12))
    cv2.circle(photo, right, radius, RED, -1)
    cv2.circle(photo, left, radius, GREEN, -1)
    return photo


def center_of(face: Image, channel: int) -> tuple[float, float]:
    """Where the disc of one color is, in parts of the side."""
    others = np.delete(face.astype(float), channel, axis=2).mean(axis=2)
    weight = np.clip(face[..., channel].astype(float) - others, 0, None)
    y, x = np.mgrid[: face.shape[0], : face.shape[1]] + 0.5
    return float((x * weight).sum() / weight.sum() / face.shape[1]), float(
        (y * weight).sum() / weight.sum() / face.shape[0]
    )


@pytest.mark.parametrize("distance", [20, 41, 90, 400])
@pytest.mark.parametrize("roll_deg", [0, 17, -33, 170])
def test_the_eyes_land_at_their_places(distance: int, roll_deg: int) -> None:
    size = 8 * distance
    dx, dy = (distance / 2 * turn(math.radians(roll_deg)) for turn in (math.cos, math.sin))
    right = (round(size / 2 - dx), round(size / 2 - dy))
    left = (round(size / 2 + dx), round(size / 2 + dy))
    face, outside = align_face(photo_with_dots(right, left, size), right, left, 128)
    # A quarter of a pixel of 128: discs are drawn at whole pixels of the photo.
    assert center_of(face, 0) == pytest.approx(RIGHT_EYE_AT, abs=0.25 / 128 + 0.1 / distance)
    assert center_of(face, 1) == pytest.approx(LEFT_EYE_AT, abs=0.25 / 128 + 0.1 / distance)
    assert outside == 0


def test_a_turned_head_gives_nearly_the_same_face_as_an_upright_one() -> None:
    upright, turned = (
        draw_photo(make_person(3), Shot(width=260, height=300, middle=(130, 130), roll_deg=roll, noise=0))
        for roll in (0.0, 14.0)
    )
    faces = [align_face(photo.pixels, photo.right, photo.left, 64)[0] for photo in (upright, turned)]
    # The background is graded from top to bottom, and turns: compare the middle of the face.
    middle = [face[16:52, 16:48].astype(float) for face in faces]
    assert np.abs(middle[0] - middle[1]).mean() < 3
    mirrored = np.abs(middle[0] - middle[1][:, ::-1]).mean()
    assert np.abs(middle[0] - middle[1]).mean() < mirrored


def test_the_part_beyond_the_photo_is_told() -> None:
    photo = np.zeros((100, 100, 3), np.uint8)
    # The frame is 100 px wide and begins at (0, 0) when the eyes are 40 px apart at 35 % of its height.
    assert align_face(photo, (29.5, 34.5), (69.5, 34.5), 64)[1] == 0
    assert align_face(photo, (29.5 - 50, 34.5), (69.5 - 50, 34.5), 64)[1] == pytest.approx(0.5, abs=0.02)
    assert align_face(photo, (29.5 - 6, 34.5), (69.5 - 6, 34.5), 64)[1] < MAX_FRACTION_OUTSIDE
    assert align_face(photo, (29.5, 34.5 + 11), (69.5, 34.5 + 11), 64)[1] > MAX_FRACTION_OUTSIDE


def test_beyond_the_photo_its_border_goes_on() -> None:
    photo = np.zeros((100, 100, 3), np.uint8)
    photo[:, :3] = 200
    face, _ = align_face(photo, (29.5 - 40, 34.5), (69.5 - 40, 34.5), 64)
    assert (face[:, :20] == 200).all()


def test_eyes_at_one_point_are_refused() -> None:
    with pytest.raises(ValueError, match="same point"):
        align_face(np.zeros((9, 9, 3), np.uint8), (4, 4), (4, 4), 64)
