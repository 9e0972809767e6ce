"""Recall, false positives and ignored eyes; and the calibration of scores."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from service.inference.eye_finder import LearnedEyeFinder
from service.vision.eyes import Eye, EyeDetections, eyes_from_points
from service.vision.images import Image
from tests.fake_finders import seen_left, seen_right, tiny_finder
from tests.fakes import ASTRONAUT_LEFT_EYE, ASTRONAUT_RIGHT_EYE
from tests.training.labeled_astronaut import photo
from training.finder import test_sets
from training.finder.calibration import (
    FALSE_POSITIVES_PER_PICTURE,
    MIN_THRESHOLD,
    LabeledDetections,
    fit_logistic_regression,
    fit_threshold,
    label_detections,
)
from training.finder.evaluate import (
    evaluate_finder,
    is_true_positive,
    render_numbers,
    summarize,
    wilson_interval,
)
from training.finder.labels import LabeledPhoto, Person
from training.finder.scenes import EyeLabel
from training.finder.test_sets import (
    EYES_PAINTED_OVER,
    PACKAGED,
    Example,
    composed_crowds,
    negative_examples,
    people_examples,
)

EYES = eyes_from_points(ASTRONAUT_RIGHT_EYE, ASTRONAUT_LEFT_EYE)


class Knowing:
    """A finder with the same output for every picture."""

    input_side_px = 10_000

    def __init__(self, *eyes: Eye) -> None:
        self.eyes = list(eyes)

    def detect(self, photo: Image) -> EyeDetections:
        return EyeDetections(self.eyes)


def as_it_is(sure: tuple[bool, bool] = (True, True)) -> Example:
    return next(example for example in people_examples([photo(sure=sure)]) if example.kind == "frontal")


def test_who_knows_the_eyes_finds_them_exactly() -> None:
    result = evaluate_finder(Knowing(*EYES), [as_it_is()])["frontal"]
    assert (result.num_eyes, len(result.errors), result.false_positives) == (2, 2, [0])
    for center, side, roll, size in result.errors:
        assert side
        assert (center, roll, size) == pytest.approx((0, 0, 1), abs=1e-6)


def test_who_says_nothing_finds_nothing() -> None:
    result = evaluate_finder(Knowing(), [as_it_is()])["frontal"]
    assert (result.num_eyes, len(result.errors), result.false_positives) == (2, 0, [0])


@pytest.mark.parametrize(("moved", "found"), [(0.14, 1), (0.16, 0)])
def test_an_eye_is_found_within_a_part_of_the_eye_distance(moved: float, found: int) -> None:
    distance = np.hypot(*np.subtract(ASTRONAUT_LEFT_EYE, ASTRONAUT_RIGHT_EYE))
    answer = replace(EYES[0], y=EYES[0].y - moved * float(distance))
    result = evaluate_finder(Knowing(answer), [as_it_is()])["frontal"]
    assert len(result.errors) == found
    assert result.false_positives == [1 - found]


def test_an_eye_whose_label_is_not_sure_is_neither_hit_nor_miss_nor_false() -> None:
    result = evaluate_finder(Knowing(*EYES), [as_it_is(sure=(True, False))])["frontal"]
    assert (result.num_eyes, len(result.errors), result.false_positives) == (1, 1, [0])
    assert is_true_positive(EYES[1], as_it_is(sure=(True, False))) is None


def test_any_eye_is_false_where_there_are_no_people() -> None:
    empty = Example("no people", np.zeros((9, 9, 3), np.uint8), ())
    assert evaluate_finder(Knowing(*EYES), [empty])["no people"].false_positives == [2]


def test_examples_show_their_eyes_where_they_say() -> None:
    examples = {example.kind: example for example in people_examples([photo()])}
    assert set(examples) == {"frontal", "tilted", "dark", "small", "masked, drawn", "close-up"}
    assert np.mean(examples["dark"].picture) < 0.25 * np.mean(photo().pixels)
    assert examples["small"].eyes[0].distance < 25
    tilt = np.degrees(examples["tilted"].eyes[0].roll - examples["frontal"].eyes[0].roll)
    assert abs(tilt) == pytest.approx(round(abs(tilt) / 15) * 15, abs=0.01)
    (one,) = [eye for eye in examples["close-up"].eyes if eye.sure]
    middle = (examples["close-up"].picture.shape[0] - 1) / 2
    assert (one.x, one.y) == pytest.approx((middle, middle), abs=0.05 * one.distance)
    pupil = examples["frontal"].picture[101, 203].astype(int)
    x, y = round(examples["tilted"].eyes[0].x), round(examples["tilted"].eyes[0].y)
    assert np.abs(examples["tilted"].picture[y, x] - pupil).max() < 40


def test_crowds_show_eyes_where_they_say_and_count_one_range(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(test_sets, "CROWDS", ((640, 2, (8, 16, 48)), (1280, 2, (8, 16, 48))))
    red_eyes = np.full((200, 160, 3), 90, np.uint8)
    for x in (40, 120):
        red_eyes[60:100, x - 20 : x + 20] = (255, 0, 0)
    points = np.array([(39.5, 79.5), (119.5, 79.5), (79.5, 120)], np.float32)
    red = LabeledPhoto("red.png", "face", red_eyes, (Person(points, (True, True), 160.0),))
    examples = list(composed_crowds([red] * 2, [np.zeros((64, 64, 3), np.uint8)]))
    sure = [(example, eye) for example in examples for eye in example.eyes if eye.sure]
    assert len(examples) == 8 and len(sure) > 40
    for example, eye in sure:
        height, width = example.picture.shape[:2]
        assert height == width * 3 // 4
        low, high = (8, 16) if "8–16" in example.kind else (16, 48)
        assert f"{width} px" in example.kind and low <= eye.distance * 640 / width < high
        assert example.picture[round(eye.y), round(eye.x)].tolist() == pytest.approx([255, 0, 0], abs=40)
    (in_one, in_other), *_ = zip(examples[::2], examples[1::2], strict=True)
    assert in_one.picture is in_other.picture
    assert {eye.x for eye in in_one.eyes} == {eye.x for eye in in_other.eyes}


def test_pictures_without_people_have_no_eyes() -> None:
    examples = list(negative_examples([photo()]))
    assert {example.kind.split(":")[0] for example in examples} == {"no people", EYES_PAINTED_OVER}
    assert len({example.kind for example in examples}) == 3
    assert not any(example.eyes for example in examples)


def test_the_interval_of_a_rate_is_wilsons() -> None:
    # Source of the values: Newcombe 1998, "Two-sided confidence intervals", table I, method 3.
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-4)
    assert wilson_interval(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-4)
    assert wilson_interval(0, 0) == (0.0, 1.0)


def test_the_table_shows_every_kind_and_finder() -> None:
    empty = np.zeros((9, 9, 3), np.uint8)
    examples = [as_it_is(), Example("no people: black", empty, ()), *[Example(PACKAGED, empty, ())] * 3]
    finders = {"a": Knowing(*EYES), "b": Knowing()}
    numbers = {name: summarize(evaluate_finder(finder, examples)) for name, finder in finders.items()}
    shown = render_numbers(numbers)
    assert "| found: frontal | 2 eyes | 1.000 (0.342–1.000) | 0.000 (0.000–0.658) |" in shown
    assert "| false positives a picture, no people: black | 1 pictures | 2.00 (2/1) |" in shown
    assert "| false positives a picture, all without people |  | 2.00 (8/4) |" in shown
    assert "| false positives a picture, all without people but packaged |  | 2.00 (2/1) |" in shown
    assert "| side right |  | 1.000 (0.342–1.000) | none |" in shown
    assert "| center error, median |  | 0.0 | None |" in shown
    assert render_numbers(json.loads(json.dumps(numbers))) == shown
    assert all(kind["cpu_us"] > 0 for kind in numbers["a"]["kinds"].values())


def test_scores_are_fitted_to_what_is_true() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, 4000)
    paired = rng.random(4000) < 0.5
    truth = rng.random(4000) < 1 / (1 + np.exp(-(0.8 * logits + 1.5 * paired - 0.5)))
    nothing = np.zeros(4000)
    features = np.stack([logits, *[nothing] * 3, paired, *[nothing] * 2, np.ones(4000)], 1)
    own, *_, partner, _, _, constant = fit_logistic_regression(
        LabeledDetections(features, truth, np.full(4000, ""))
    )
    assert (own, partner, constant) == pytest.approx((0.8, 1.5, -0.5), abs=0.2)


def test_the_threshold_allows_so_many_false_positives_and_no_more() -> None:
    num_empty = {"no people: hard": 700, "no people: easy": 10_000}
    logits = np.linspace(-5, 5, 100)
    features = np.stack([logits, *[0 * logits] * 3, 1 + 0 * logits], 1)
    judged = LabeledDetections(features, np.zeros(100, np.bool_), np.full(100, "no people: hard"))
    threshold = fit_threshold(judged, (1.0, 0.0, 0.0, 0.0, 0.0), num_empty)
    assert (1 / (1 + np.exp(-logits)) >= threshold).sum() == int(700 * FALSE_POSITIVES_PER_PICTURE)


def test_candidates_are_judged_with_their_partners(tmp_path: Path) -> None:
    (x, y), (x2, y2) = ASTRONAUT_RIGHT_EYE, ASTRONAUT_LEFT_EYE
    example = Example("astronaut", photo().pixels[:256, :256], as_it_is().eyes)
    rows = [seen_right(x, y, x2 - x, 2.0), seen_left(x2, y2, x2 - x, 1.0), seen_right(30, 30, 40, -1.0)]
    judged = label_detections(LearnedEyeFinder.load(tiny_finder(tmp_path / "f.onnx", rows)), [example])
    # The last one's partner would be in sight.
    expected = [[2, 1, 1, 0, 1], [1, 2, 1, 0, 1], [-1, 0, 0, 1, 1]]
    np.testing.assert_allclose(judged.features[:, [0, 2, 4, 5, 7]], expected, atol=1e-5)
    assert judged.is_eye.tolist() == [True, True, False]
    assert set(judged.negatives) == {""}
    kinds = [EYES_PAINTED_OVER, "no people: black"]
    empty = [Example(kind, photo().pixels[:256, :256], ()) for kind in kinds]
    finder = LearnedEyeFinder.load(tiny_finder(tmp_path / "f.onnx", rows))
    assert label_detections(finder, empty).negatives.tolist() == [""] * 3 + ["no people: black"] * 3


def test_a_threshold_is_never_below_the_least() -> None:
    features = np.array([[-9.0, 0, 0, 0, 1]])
    detections = LabeledDetections(features, np.zeros(1, np.bool_), np.full(1, "no people: hard"))
    assert fit_threshold(detections, (1.0, 0, 0, 0, 0), {"no people: hard": 10}) == MIN_THRESHOLD


def test_a_roll_of_nearly_half_a_turn_to_either_side_is_nearly_the_same() -> None:
    label = EyeLabel(50, 50, 40, np.radians(179), left=False, sure=True)
    found = Eye(x=50, y=50, size_px=24.8, roll_deg=-179, side="right", score=1.0, person=0)
    example = Example("frontal", np.zeros((99, 99, 3), np.uint8), (label,))
    ((_, _, roll, _),) = evaluate_finder(Knowing(found), [example])["frontal"].errors
    assert roll == pytest.approx(2)
