"""Training pictures: drawn again from the same number, with eyes where they say they are."""

from dataclasses import replace

import numpy as np
import pytest

from service.vision.images import Image
from tests.training.labeled_astronaut import photo
from training.errors import DataError
from training.finder import scenes as scenes_module
from training.finder.labels import LabeledPhoto, Person
from training.finder.scenes import (
    MAX_DISTANCE_PX,
    MIN_DISTANCE_PX,
    SIDE,
    EyeLabel,
    Scenes,
    _label,
    _masked,
    _paste,
    _similarity_transform,
)

EMPTY: Image = np.full((80, 90, 3), 120, np.uint8)


@pytest.fixture(scope="module")
def scenes() -> Scenes:
    return Scenes([photo(), photo("several-faces")], [EMPTY], seed=3)


def test_the_same_number_is_the_same_picture(scenes: Scenes) -> None:
    for index in range(12):
        (one, eyes), (again, same) = scenes.draw(index), scenes.draw(index)
        assert np.array_equal(one, again)
        assert eyes == same


def test_pictures_have_their_size_and_sure_eyes_lie_inside(scenes: Scenes) -> None:
    drawn = [scenes.draw(index) for index in range(60)]
    assert all(picture.shape == (SIDE, SIDE, 3) and picture.dtype == np.uint8 for picture, _ in drawn)
    sure = [eye for _, eyes in drawn for eye in eyes if eye.sure]
    assert len(sure) > 40
    assert all(0 <= eye.x < SIDE and 0 <= eye.y < SIDE for eye in sure)
    assert all(MIN_DISTANCE_PX <= eye.distance <= MAX_DISTANCE_PX for eye in sure)
    assert any(not eyes for _, eyes in drawn)


@pytest.mark.parametrize("flip", [False, True])
def test_an_eye_is_where_its_label_says(flip: bool) -> None:
    marked = np.zeros((100, 100, 3), np.uint8)
    marked[40:45, 30:35] = (255, 0, 0)
    marked[40:45, 60:65] = (0, 255, 0)
    points = np.array([[32, 42], [62, 42], [47, 60]], np.float32)
    scene = LabeledPhoto("m.png", "face", marked, (Person(points, (True, True), 60.0),))
    move = _similarity_transform(points[:2].mean(0), np.array([120.0, 130.0]), 1.7, 0.4, flip=flip)
    canvas = np.zeros((SIDE, SIDE, 3), np.uint8)
    rng = np.random.default_rng(4)
    _paste(canvas, marked, move, rng)
    eyes = _label(canvas.copy(), scene, move, np.random.default_rng(1), 0.0)
    assert [eye.left for eye in eyes] == [False, True]
    # A mirrored right eye looks like a left one: the colors change places.
    colors = [1, 0] if flip else [0, 1]
    for eye, color in zip(eyes, colors, strict=True):
        v, u = np.nonzero(canvas[..., color] > 128)
        assert (u.mean(), v.mean()) == pytest.approx((eye.x, eye.y), abs=0.3)
        assert eye.distance == pytest.approx(30 * 1.7)
    assert eyes[0].roll == pytest.approx(0.4, abs=1e-5)


def test_a_shrunk_photo_keeps_its_eyes_in_place() -> None:
    marked = np.zeros((301, 299, 3), np.uint8)
    marked[180:200, 100:120] = 255
    move = _similarity_transform(np.array([109.5, 189.5]), np.array([80.0, 70.0]), 0.2, 0.0, flip=False)
    canvas = np.zeros((SIDE, SIDE, 3), np.uint8)
    _paste(canvas, marked, move, np.random.default_rng(0))
    weights = canvas[..., 0].astype(float)
    v, u = np.mgrid[0:SIDE, 0:SIDE]
    center = (u * weights).sum() / weights.sum(), (v * weights).sum() / weights.sum()
    assert center == pytest.approx((80, 70), abs=0.2)


def test_scenes_want_photos_and_pictures_without_people() -> None:
    with pytest.raises(DataError, match="no labeled photo"):
        Scenes([], [EMPTY])


def test_an_eye_that_is_covered_has_no_label(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenes_module, "cover_face", lambda *_: [True, False])
    still = np.array([[1, 0, -100], [0, 1, 0]], np.float64)
    eyes = _label(photo().pixels[:SIDE, :SIDE].copy(), photo(), still, np.random.default_rng(0), 1.0)
    assert [eye.left for eye in eyes] == [True]


def test_an_eye_behind_another_person_has_no_label_and_one_at_the_edge_is_not_sure() -> None:
    eye = EyeLabel(100, 100, 40, 0.0, False, True)
    mask = np.zeros((SIDE, SIDE), np.uint8)
    assert _masked(eye, mask, inside=False) == eye
    assert _masked(eye, mask, inside=True) is None
    mask[:, 100:] = 255
    for inside in (False, True):
        assert _masked(eye, mask, inside=inside) == replace(eye, sure=False)
    mask[:] = 255
    assert _masked(eye, mask, inside=False) is None
    assert _masked(eye, mask, inside=True) == eye


def test_rare_kinds_are_sampled_more_often() -> None:
    scenes = Scenes([photo("face"), photo("masked")], [EMPTY])
    rng = np.random.default_rng(0)
    num_masked = sum(scenes._sample_photo(rng).kind == "masked" for _ in range(400))
    assert num_masked == pytest.approx(400 * 5 / 5.8, abs=30)
