"""Training the finder: killed and begun again it ends the same; another recipe is refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training.labeled_astronaut import photo
from training.errors import RunConflict
from training.finder.finder_model import EyeFinderNet
from training.finder.scenes import Scenes
from training.finder.train import FINDER, train_finder
from training.loop.checkpoint import load_ema
from training.loop.run_folder import RunOutput


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


RECIPE = replace(FINDER, num_steps=3, batch_size=2, warmup_steps=1)


@pytest.mark.slow
def test_a_run_that_was_killed_ends_as_if_it_had_not_been(scenes: Scenes, tmp_path: Path) -> None:
    whole = train_finder(RECIPE, scenes, RunOutput(tmp_path / "whole", checkpoint_every=1, log_every=1))
    settings = RunOutput(tmp_path / "killed", checkpoint_every=1, log_every=1)
    with pytest.raises(Killed):
        train_finder(RECIPE, DyingScenes(scenes.photos, scenes.empty), settings)
    killed = train_finder(RECIPE, scenes, settings)
    one, other = load_ema(whole, EyeFinderNet()).state_dict(), load_ema(killed, EyeFinderNet()).state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)
    steps = [line.split(",")[0] for line in (killed / "stats.jsonl").read_text().splitlines()]
    assert steps == ['{"step": 1', '{"step": 2', '{"step": 3']


def test_a_finished_run_keeps_what_it_says_of_itself(
    scenes: Scenes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = RunOutput(tmp_path)
    said = (train_finder(RECIPE, scenes, settings) / "run.json").read_bytes()
    monkeypatch.setattr("training.loop.run_folder.commit_hash", lambda: "a later one")
    assert (train_finder(RECIPE, scenes, settings) / "run.json").read_bytes() == said
    longer = train_finder(replace(RECIPE, num_steps=4), scenes, settings)
    assert "a later one" in (longer / "run.json").read_text()


def test_a_folder_of_another_recipe_or_data_is_refused(scenes: Scenes, tmp_path: Path) -> None:
    recipe = replace(RECIPE, num_steps=0)
    train_finder(recipe, scenes, RunOutput(tmp_path))
    with pytest.raises(RunConflict, match="another recipe"):
        train_finder(replace(recipe, batch_size=3), scenes, RunOutput(tmp_path))
    with pytest.raises(RunConflict, match="another seed"):
        train_finder(recipe, Scenes(scenes.photos, scenes.empty, seed=1), RunOutput(tmp_path))
    other = Scenes([replace(photo(), file="other.jpg")], scenes.empty)
    with pytest.raises(RunConflict, match="another data"):
        train_finder(recipe, other, RunOutput(tmp_path))
