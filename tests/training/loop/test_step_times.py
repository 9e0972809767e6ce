"""How long the parts of a step take: all of them are there, and add up to the whole."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from training.cli.main import app
from training.data.store import Pairs
from training.loop.step_times import StepTimes, time_steps
from training.synthesizer.recipes import RECIPES

SMALL = replace(RECIPES["std-64"], batch_size=4, precision="32-true")


def test_the_parts_add_up_and_the_largest_is_named_first() -> None:
    times = StepTimes(batch_size=64, loading=20, model=100, features=260, statistics=20)
    assert times.samples_per_second == pytest.approx(160)
    assert times.describe() == (
        "160 samples a second; of a step's 400 ms features 65%, model 25%, loading 5%, statistics 5%"
    )


def test_features_take_time_only_where_the_objective_looks_at_them(small_pairs: Pairs, archives: str) -> None:
    plain = time_steps(replace(SMALL, objective="l1"), small_pairs, archives, accelerator="cpu", rounds=2)
    whole = time_steps(replace(SMALL, objective="std-h"), small_pairs, archives, accelerator="cpu", rounds=2)
    assert plain.features == 0 < plain.model
    assert whole.features > 0 and whole.loading > 0


def test_a_critic_is_timed_too(small_pairs: Pairs, archives: str) -> None:
    times = time_steps(replace(SMALL, objective="gan"), small_pairs, archives, accelerator="cpu", rounds=2)
    assert times.features == 0 < times.statistics


def test_a_recipe_that_is_not_there_is_named(small_folder: Path) -> None:
    result = CliRunner().invoke(app, ["time-steps", str(small_folder), "--recipe", "nothing"])
    assert isinstance(result.exception, ValueError)
    assert "no recipe is named 'nothing'" in str(result.exception)


def test_the_command_says_it_in_one_line(drawn_folder: Path) -> None:
    asked = ["time-steps", str(drawn_folder), "--recipe", "tiny", "--rounds", "1", "--accelerator", "cpu"]
    result = CliRunner().invoke(app, asked)
    assert result.exit_code == 0
    assert re.fullmatch(
        r"tiny: \d+ samples a second; of a step's \d+ ms model \d+%, .*", result.stdout.strip()
    )


def test_pairs_of_another_size_are_refused(small_folder: Path) -> None:
    result = CliRunner().invoke(app, ["time-steps", str(small_folder), "--recipe", "std-128"])
    assert isinstance(result.exception, ValueError)
    assert "prepare them at these sizes" in str(result.exception)
