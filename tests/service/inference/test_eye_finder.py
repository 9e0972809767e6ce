"""From the network's candidates to eyes: each once, paired, scored, and searched at finer scales."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from service.errors import ModelContractUnknown, ModelNotFound
from service.inference.eye_finder import LearnedEyeFinder
from service.vision.eyes import CROP_PER_EYE_DISTANCE
from service.vision.images import Image
from tests.fake_finders import Row, seen_left, seen_right, tiny_finder
from tests.fakes import tiny_model

PHOTO: Image = np.full((192, 256, 3), 99, np.uint8)


def finder(tmp_path: Path, rows: Sequence[Row], **metadata: str) -> LearnedEyeFinder:
    return LearnedEyeFinder.load(tiny_finder(tmp_path / "finder.onnx", rows, **metadata))


def test_eyes_that_name_each_other_are_one_person(tmp_path: Path) -> None:
    right, left = finder(tmp_path, [seen_left(140, 110, 44), seen_right(100, 100, 40)]).detect(PHOTO).eyes
    assert (right.side, left.side, right.person, left.person) == ("right", "left", 0, 0)
    assert (right.x, right.y, left.x, left.y) == pytest.approx((100, 100, 140, 110))
    assert right.size_px == pytest.approx(CROP_PER_EYE_DISTANCE * np.hypot(40, 10))
    assert right.roll_deg == pytest.approx(np.degrees(np.arctan2(10, 40)))
    assert right.score == pytest.approx(1 / (1 + np.exp(-3)))


def test_an_eye_alone_takes_side_size_and_roll_from_the_network(tmp_path: Path) -> None:
    tilted: Row = (3.0, 50.0, 60.0, 100.0, 0.9, 0.8, 0.6, -0.8, -0.6)
    (eye,) = finder(tmp_path, [tilted]).detect(PHOTO).eyes
    assert eye.side == "left"
    assert eye.size_px == pytest.approx(62)
    assert eye.roll_deg == pytest.approx(36.87, abs=0.01)


def test_what_scores_below_the_threshold_is_no_eye_but_is_told(tmp_path: Path) -> None:
    found = finder(tmp_path, [seen_right(100, 100, 40, logit=-1.0)])
    assert found.detect(PHOTO).eyes == []
    assert len(found.detect(PHOTO).below_threshold or []) == 1


def test_a_partner_counts_as_much_as_the_file_says(tmp_path: Path) -> None:
    rows = [seen_right(100, 100, 40, logit=-1.0), seen_left(140, 100, 40, logit=3.0)]
    eyes = finder(tmp_path, rows, score_weights="[1, 0, 0.5, 0, 0.25, 0, 0.0, -0.25]").detect(PHOTO).eyes
    assert [eye.score for eye in eyes] == pytest.approx([1 / (1 + np.exp(-0.5)), 1 / (1 + np.exp(-2.5))])


@pytest.mark.parametrize(("x", "missed"), [(100, 1), (240, 0)], ids=["partner in the picture", "beside it"])
def test_an_eye_alone_counts_less_where_its_partner_should_be_seen(
    tmp_path: Path, x: float, missed: int
) -> None:
    rows = [seen_right(x, 100, 40, logit=1.0)]
    (seen,) = finder(tmp_path, rows, score_weights="[1, 0, 0, 0, 0, -2, 0, 0]").score_eyes(PHOTO)
    assert seen.eye.score == pytest.approx(1 / (1 + np.exp(-(1.0 - 2 * missed))))


def test_the_same_eye_seen_twice_is_one(tmp_path: Path) -> None:
    (eye,) = (
        finder(tmp_path, [seen_right(100, 100, 40, 2.0), seen_right(104, 101, 30, 4.0)]).detect(PHOTO).eyes
    )
    assert eye.x == pytest.approx(104)


def test_eyes_of_different_people_are_not_paired(tmp_path: Path) -> None:
    eyes = finder(tmp_path, [seen_right(40, 100, 40), seen_left(160, 100, 40)]).detect(PHOTO).eyes
    assert [eye.person for eye in eyes] == [0, 1]


def test_eyes_are_paired_with_whom_they_name_best_although_another_is_surer(tmp_path: Path) -> None:
    also: Row = (4.0, 157.0, 100.0, 40.0, 1.0, 1.0, 0.0, -1.425, 0.0)  # its partner is the right eye, too
    eyes = finder(tmp_path, [seen_right(100, 100, 40), seen_left(140, 100, 40), also]).detect(PHOTO).eyes
    person = {round(eye.x): eye.person for eye in eyes}
    assert person[100] == person[140] != person[157]


def test_people_are_counted_from_the_largest(tmp_path: Path) -> None:
    rows = [seen_right(40, 40, 30), seen_left(70, 40, 30), seen_right(150, 120, 80), seen_left(230, 120, 80)]
    eyes = finder(tmp_path, rows).detect(PHOTO).eyes
    assert [(eye.person, eye.side, round(eye.x)) for eye in eyes] == [
        (0, "right", 150),
        (0, "left", 230),
        (1, "right", 40),
        (1, "left", 70),
    ]


def test_eyes_of_a_large_photo_are_in_its_own_pixels(tmp_path: Path) -> None:
    photo: Image = np.zeros((960, 1280, 3), np.uint8)
    (eye,) = finder(tmp_path, [seen_right(99.5, 59.5, 100)]).detect(photo).eyes
    assert (eye.x, eye.y) == pytest.approx((499.5, 299.5))
    assert eye.size_px == pytest.approx(5 * 62)


def test_a_photo_shrunk_by_halves_and_the_rest_keeps_its_eyes_in_place(tmp_path: Path) -> None:
    photo: Image = np.zeros((1083, 1927, 3), np.uint8)
    (eye,) = finder(tmp_path, [seen_right(255.5, 143.5, 100)]).detect(photo).eyes
    assert (eye.x, eye.y) == pytest.approx((1926.5, 1082.5), abs=8)  # a pixel of the look is 8 of the photo


@pytest.mark.parametrize(
    "rows",
    [
        [seen_right(60, 20, 7.0)],
        [seen_right(60, 20, 12.0), seen_right(110, 20, 20.0)],
        [seen_right(60, 20, 12.0, logit=-1.0), seen_right(110, 20, 100.0)],
    ],
    ids=["one tiny", "several small", "one small of a score of 0.018"],
)
def test_a_finer_look_follows_where_smaller_people_may_be(tmp_path: Path, rows: list[Row]) -> None:
    photo: Image = np.zeros((960, 1280, 3), np.uint8)
    doubting = finder(tmp_path, rows, score_weights="[4, 0, 0, 0, 0, 0, 0, 0]")
    assert len(doubting.score_eyes(photo)) > len(rows)


@pytest.mark.parametrize(("long_side", "look"), [(800, 640), (1280, 1152), (4000, 1152)])
def test_the_finer_look_at_a_larger_photo_is_finer(tmp_path: Path, long_side: int, look: int) -> None:
    photo: Image = np.zeros((long_side // 2, long_side, 3), np.uint8)
    seen = [each.eye.x for each in finder(tmp_path, [seen_right(60, 20, 7.0)]).score_eyes(photo)]
    assert pytest.approx((60 + 0.5) * long_side / look - 0.5, abs=8) in seen


@pytest.mark.parametrize(("distance", "looks"), [(100.0, 1), (12.0, 1), (140.0, 2)])
def test_one_person_is_looked_at_once_unless_an_eye_is_very_large(
    tmp_path: Path, distance: float, looks: int
) -> None:
    photo: Image = np.zeros((960, 1280, 3), np.uint8)
    assert len(finder(tmp_path, [seen_right(110, 20, distance)]).detect(photo).eyes) == looks


def test_what_lies_in_the_padding_is_no_eye(tmp_path: Path) -> None:
    photo: Image = np.zeros((184, 256, 3), np.uint8)
    assert finder(tmp_path, [seen_right(100, 188, 40)]).detect(photo).eyes == []


@pytest.mark.parametrize("shape", [(8, 8, 3), (1, 5000, 3), (5000, 1, 3), (33, 1000, 3)])
def test_a_picture_of_any_shape_is_looked_at(tmp_path: Path, shape: tuple[int, int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    assert finder(tmp_path, [seen_right(1e6, 1e6, 40)]).detect(noise).eyes == []


def test_threads_may_share_a_finder(tmp_path: Path) -> None:
    shared = finder(tmp_path, [seen_right(100, 100, 40), seen_left(140, 110, 44)])
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(shared.detect, [PHOTO] * 16))
    assert all(answer == answers[0] for answer in answers)


def test_the_synthesizer_is_no_eye_finder(tmp_path: Path) -> None:
    with pytest.raises(ModelContractUnknown, match="expects eye_finder 3"):
        LearnedEyeFinder.load(tiny_model(tmp_path / "tiny.onnx"))


@pytest.mark.parametrize("threshold", [None, "nan", "inf", "-1"])
def test_a_finder_that_does_not_say_its_threshold_is_refused(tmp_path: Path, threshold: str | None) -> None:
    path = tiny_finder(tmp_path / "finder.onnx", [seen_right(0, 0, 9)], threshold=threshold)
    with pytest.raises(ModelContractUnknown, match="threshold"):
        LearnedEyeFinder.load(path)


def test_a_finder_of_another_license_class_is_refused(tmp_path: Path) -> None:
    path = tiny_finder(tmp_path / "finder.onnx", [seen_right(0, 0, 9)], licence_class="apache-2.0")
    with pytest.raises(ModelContractUnknown, match="licence_class"):
        LearnedEyeFinder.load(path)


def test_a_finder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="nowhere"):
        LearnedEyeFinder.load(tmp_path / "nowhere.onnx")


@pytest.mark.parametrize("held", ["rubbish!", "cnViYmlzaA=="], ids=["no base64", "no model"])
def test_a_closer_look_that_cannot_be_loaded_is_told(tmp_path: Path, held: str) -> None:
    path = tiny_finder(tmp_path / "finder.onnx", [seen_right(0, 0, 9)], refiner=held)
    with pytest.raises(ModelContractUnknown, match="refiner that cannot be loaded"):
        LearnedEyeFinder.load(path)
