"""The refiner's training: labels as the service reads them, moved crops, killed runs."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from service.inference.detector import (
    REFINER_CROP_PER_EYE_DISTANCE,
    REFINER_INPUT_PX,
    Detection,
    Refiner,
    crops_for_refiner,
)
from service.inference.session import Session
from tests.fake_finders import seen_right, tiny_finder
from tests.training.labeled_astronaut import photo
from training.errors import RunConflict, RunError
from training.finder.refiner_crops import LABELS, WIDE_PX, WIDEN, match_detections
from training.finder.refiner_model import RefinerNet, augment_crops, refiner_loss
from training.finder.scenes import EyeLabel, Scenes
from training.finder.train import REFINER, train_refiner
from training.loop.checkpoint import load_ema
from training.loop.run_folder import RunOutput

NO_MORE = np.random.default_rng(8)  # whose first numbers add neither missed eyes nor random places


def guessed(x: float, y: float, distance: float, roll_deg: float, left: float) -> Detection:
    return Detection(x, y, distance, left, roll_deg, 1.0, distance, (x + 10, y))


class Answering(Session):
    """Stands for a session: answers the rows that it was given."""

    def __init__(self, rows: list[tuple[float, ...]]) -> None:
        self.rows = rows

    def run(self, outputs: Sequence[str], inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        assert inputs["close"].shape == (len(self.rows), REFINER_INPUT_PX, REFINER_INPUT_PX, 3)
        return [np.array(self.rows)]


@pytest.mark.parametrize("left", [0.1, 0.9])
@pytest.mark.parametrize("eye_is_left", [False, True])
def test_what_is_labeled_is_what_the_service_reads(left: float, eye_is_left: bool) -> None:
    seen = guessed(100, 90, 40, 25, left)
    eye = EyeLabel(106, 86, 46, math.radians(33), eye_is_left, sure=True)
    ((_, label),) = list(match_detections([seen], [eye], NO_MORE))
    (found,) = Refiner(Answering([(3.0, *label[1:5], label[5] * 2 - 1)])).refine(
        np.zeros((200, 200, 3), np.uint8), [seen]
    )
    assert (found.x, found.y, found.distance) == pytest.approx((eye.x, eye.y, eye.distance))
    assert found.roll_deg == pytest.approx(33)
    assert (found.left > 0.5) == eye_is_left
    assert found.refiner_logit == 3.0


def test_nothing_is_asked_where_nothing_was_seen() -> None:
    assert Refiner(Answering([])).refine(np.zeros((9, 9, 3), np.uint8), []) == []


def test_only_what_is_surely_no_eye_is_labeled_so() -> None:
    eye = EyeLabel(100, 100, 40, 0.0, left=False, sure=True)
    unsure = EyeLabel(200, 100, 40, 0.0, left=False, sure=False)
    seen = [guessed(x, 100, 40, 0, 0.0) for x in (104, 116, 150, 205)]
    labeled = [(each.x, label[0]) for each, label in match_detections(seen, [eye, unsure], NO_MORE)]
    assert labeled == [(104, 1.0), (150, 0.0)]


def test_a_crop_that_is_moved_shows_the_eye_where_its_label_says() -> None:
    seen = guessed(100, 100, 40, 0, 0.0)
    picture = np.zeros((200, 200, 3), np.uint8)
    picture[92:95, 107:110] = 255
    eye = EyeLabel(108, 93, 40, 0.0, left=False, sure=True)
    ((_, label),) = list(match_detections([seen], [eye], NO_MORE))
    (crop,) = crops_for_refiner(picture, [seen], size=WIDE_PX, widen=WIDEN)
    wide = torch.from_numpy(crop).permute(2, 0, 1).float()
    random = torch.Generator().manual_seed(3)
    close, labels = augment_crops(wide.repeat(64, 1, 1, 1), torch.tensor([label] * 64), random)
    middle, per_px = (REFINER_INPUT_PX - 1) / 2, REFINER_CROP_PER_EYE_DISTANCE / REFINER_INPUT_PX
    for crop, moved in zip(close[:, 0], labels, strict=True):
        row, column = divmod(int(crop.argmax()), REFINER_INPUT_PX)
        assert (column - middle) * per_px == pytest.approx(float(moved[1]), abs=0.06)
        assert (row - middle) * per_px == pytest.approx(float(moved[2]), abs=0.06)
    assert float(labels[:, 1].std()) > 0.02


def test_size_and_turn_of_a_moved_label_are_those_that_the_crop_shows() -> None:
    turn, middle = 0.3, (WIDE_PX - 1) / 2
    v, u = np.mgrid[:WIDE_PX, :WIDE_PX] - middle
    along, across = u * math.cos(turn) + v * math.sin(turn), v * math.cos(turn) - u * math.sin(turn)
    bar = 255 * np.clip(10.5 - abs(along), 0, 1) * np.clip(3.5 - abs(across), 0, 1)
    label = torch.tensor([[1.0, 0, 0, 0, turn, 0]])
    wide = torch.from_numpy(bar).float().expand(64, 3, WIDE_PX, WIDE_PX)
    close, labels = augment_crops(wide, label.repeat(64, 1), torch.Generator().manual_seed(0))
    lengths = []
    for crop, moved in zip(close[:, 0], labels, strict=True):
        y, x = np.nonzero((crop > 0.5 * crop.max()).numpy())
        variances, axes = np.linalg.eigh(np.cov(np.stack([x, y])))
        assert math.remainder(math.atan2(axes[1, 1], axes[0, 1]) - float(moved[4]), math.pi) == pytest.approx(
            0, abs=0.06
        )
        lengths.append(math.log(variances[1]) / 2)
    apart = np.array(lengths) - labels[:, 3].numpy()
    assert apart == pytest.approx(np.full(64, apart.mean()), abs=0.08)
    assert float(labels[:, 3].std()) > 0.05 and float(labels[:, 4].std()) > 0.05


def test_what_is_no_eye_teaches_no_place() -> None:
    answers, labels = torch.randn(4, len(LABELS)), torch.zeros(4, len(LABELS))
    _, terms = refiner_loss(answers, labels)
    assert (float(terms["place"]), float(terms["side"])) == (0.0, 0.0)
    assert float(terms["eye"]) > 0


@pytest.fixture(scope="module")
def scenes() -> Scenes:
    return Scenes([photo()], [np.zeros((64, 64, 3), np.uint8)])


RECIPE = replace(REFINER, num_steps=4, batch_size=4, warmup_steps=1)


def test_a_run_that_was_killed_ends_as_if_it_had_not_been(
    scenes: Scenes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finder = tiny_finder(tmp_path / "f.onnx", [seen_right(100, 100, 40)])
    whole = train_refiner(RECIPE, scenes, finder, RunOutput(tmp_path / "whole"), num_scenes=6)
    output = RunOutput(tmp_path / "killed", checkpoint_every=2)

    class Killed(Exception):
        pass

    num_steps = 0

    def dies(*arguments: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        nonlocal num_steps
        num_steps += 1
        if num_steps == 4:
            raise Killed
        return refiner_loss(*arguments)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr("training.finder.train.refiner_loss", dies)
        train_refiner(RECIPE, scenes, finder, output, num_scenes=6)
    killed = train_refiner(RECIPE, scenes, finder, output, num_scenes=6)
    one, other = (load_ema(run, RefinerNet()).state_dict() for run in (whole, killed))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_folder_of_another_recipe_finder_or_data_is_refused(scenes: Scenes, tmp_path: Path) -> None:
    finder = tiny_finder(tmp_path / "f.onnx", [seen_right(100, 100, 40)])
    output = RunOutput(tmp_path / "run")
    train_refiner(RECIPE, scenes, finder, output, num_scenes=6)
    with pytest.raises(RunConflict, match="another recipe"):
        train_refiner(REFINER, scenes, finder, output, num_scenes=6)
    with pytest.raises(RunConflict, match="another num_scenes"):
        train_refiner(RECIPE, scenes, finder, output, num_scenes=7)
    other = tiny_finder(tmp_path / "g.onnx", [seen_right(50, 50, 40)])
    with pytest.raises(RunConflict, match="another finder"):
        train_refiner(RECIPE, scenes, other, output, num_scenes=6)
    more = Scenes([photo(), replace(photo(), file="b.jpg")], scenes.empty)
    with pytest.raises(RunConflict, match="another data"):
        train_refiner(RECIPE, more, finder, output, num_scenes=6)


@pytest.mark.parametrize("file", ["crops.npy", "labels.npy"])
@pytest.mark.parametrize("num_bytes", [0, 100, -1, None])
def test_damaged_crops_are_named(scenes: Scenes, tmp_path: Path, file: str, num_bytes: int | None) -> None:
    finder = tiny_finder(tmp_path / "f.onnx", [seen_right(100, 100, 40)])
    output = RunOutput(tmp_path / "run")
    train_refiner(RECIPE, scenes, finder, output, num_scenes=6)
    path = output.folder / file
    if num_bytes is None:
        np.save(path, np.load(path)[1:])
    else:
        path.write_bytes(path.read_bytes()[:num_bytes])
    with pytest.raises(RunError, match=r"run holds .* remove it"):
        train_refiner(replace(RECIPE, num_steps=5), scenes, finder, output, num_scenes=6)


def test_a_dark_crop_is_seen_as_a_bright_one() -> None:
    net, seen = RefinerNet().eval(), []
    net.body.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    bright = torch.rand(1, 3, REFINER_INPUT_PX, REFINER_INPUT_PX) * 255
    net(bright)
    net(bright * 0.3 + 20)
    assert [float(each.mean()) for each in seen] == pytest.approx([0, 0], abs=1e-4)
    # A constant is added to the spread, so that a black crop divides by no zero.
    assert [float(each.std()) for each in seen] == pytest.approx([1, 1], abs=0.2)


def test_missed_eyes_and_random_places_are_shown_now_and_then() -> None:
    eye = EyeLabel(60, 60, 30, 0.0, left=False, sure=True)
    positives: list[Detection] = []
    negatives: list[Detection] = []
    for seed in range(200):
        for seen, label in match_detections([], [eye], np.random.default_rng(seed)):
            (positives if label[0] else negatives).append(seen)
    # Half of the missed eyes, and three random places in ten but those beside the eye.
    assert 70 < len(positives) < 130
    assert 35 < len(negatives) < 75
    assert all(math.hypot(each.x - 60, each.y - 60) < 15 for each in positives)
    assert all(math.hypot(each.x - 60, each.y - 60) > 15 for each in negatives)


def test_crops_are_shown_in_other_light() -> None:
    wide, labels = torch.full((32, 3, WIDE_PX, WIDE_PX), 128.0), torch.zeros(32, len(LABELS))
    close, _ = augment_crops(wide, labels, torch.Generator().manual_seed(0))
    means = close.mean((1, 2, 3))
    assert 60 < float(means.min()) < 110 and 150 < float(means.max()) < 230
