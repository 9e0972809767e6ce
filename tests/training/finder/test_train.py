"""Training the finder: killed and begun again it ends the same; another recipe is refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training.labelled_astronaut import photo
from training.finder.scenes import Scenes
from training.finder.train import (
    FinderSettings,
    load_average,
    train_finder,
)
from training.loop.checkpoint import CheckpointError
from training.synthesizer.recipes import FinderRecipe
from training.synthesizer.train import RunConflict, learning_rate


@pytest.fixture(scope="module")
def scenes() -> Scenes:
    return Scenes([photo()], [np.zeros((64, 64, 3), np.uint8)])


class Killed(Exception):
    pass


class DyingScenes(Scenes):
    """Scenes that fail at picture number 4."""

    def draw(self, index):  # type: ignore[no-untyped-def]
        if index == 4:
            raise Killed
        return super().draw(index)


RECIPE = FinderRecipe(num_steps=3, batch_size=2, warmup_steps=1)


def test_a_run_that_was_killed_ends_as_if_it_had_not_been(scenes: Scenes, tmp_path: Path) -> None:
    whole = train_finder(RECIPE, scenes, FinderSettings(tmp_path / "whole", checkpoint_every=1, log_every=1))
    settings = FinderSettings(tmp_path / "killed", checkpoint_every=1, log_every=1)
    with pytest.raises(Killed):
        train_finder(RECIPE, DyingScenes(scenes.photos, scenes.empty), settings)
    killed = train_finder(RECIPE, scenes, settings)
    one, other = load_average(whole).state_dict(), load_average(killed).state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)
    steps = [line.split(",")[0] for line in (killed / "stats.jsonl").read_text().splitlines()]
    assert steps == ['{"step": 1', '{"step": 2', '{"step": 3']


def test_a_finished_run_keeps_what_it_says_of_itself(
    scenes: Scenes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = FinderSettings(tmp_path)
    said = (train_finder(RECIPE, scenes, settings) / "run.json").read_bytes()
    monkeypatch.setattr("training.finder.train.commit_hash", lambda: "a later one")
    assert (train_finder(RECIPE, scenes, settings) / "run.json").read_bytes() == said
    longer = train_finder(replace(RECIPE, num_steps=4), scenes, settings)
    assert "a later one" in (longer / "run.json").read_text()


def test_a_folder_of_another_recipe_is_refused(scenes: Scenes, tmp_path: Path) -> None:
    train_finder(FinderRecipe(num_steps=0), scenes, FinderSettings(tmp_path))
    with pytest.raises(RunConflict, match="another recipe"):
        train_finder(FinderRecipe(num_steps=0, seed=1), scenes, FinderSettings(tmp_path))


def test_a_folder_without_a_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="train the finder first"):
        load_average(tmp_path)


def test_the_learning_rate_warms_up_stays_and_goes_down_to_nothing() -> None:
    recipe = FinderRecipe(num_steps=100, warmup_steps=10, cooldown_part=0.5, learning_rate=1.0)
    rates = [learning_rate(recipe, step) for step in (0, 9, 30, 75, 100)]
    assert rates == pytest.approx([0.1, 1.0, 1.0, 0.5, 0.0])
