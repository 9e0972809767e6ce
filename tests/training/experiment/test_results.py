"""The file of results: appended to, read, and never two runs under one name."""

from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest

from training.cli.experiment import render_experiment
from training.errors import ResultsError
from training.experiment.results import Key, Row, append, find_row, has_row, read_results
from training.experiment.run import PLAN
from training.synthesizer.objectives import OBJECTIVES, describe_objective
from training.synthesizer.recipes import RECIPES, describe

ROW: Row = {"system": "l1-64", "seed": 0, "split": "val", "recipe": {"num_steps": 5}, "metrics": {"l2": 0.1}}


def test_rows_come_back_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "results.jsonl"
    assert read_results(path) == []
    append(path, ROW)
    append(path, {**ROW, "seed": 1})
    assert read_results(path) == [ROW, {**ROW, "seed": 1}]
    assert find_row(read_results(path), Key("l1-64", 1, "val")) == {**ROW, "seed": 1}
    assert find_row(read_results(path), Key("l1-64", 0, "dev")) is None


def test_a_run_stands_when_its_name_and_recipe_do() -> None:
    assert has_row([ROW], {**ROW, "metrics": None}) and not has_row([ROW], {**ROW, "seed": 1})


@pytest.mark.parametrize("part", ["recipe", "objective", "discriminator", "data"])
def test_another_run_of_the_same_name_is_refused(part: str) -> None:
    with pytest.raises(ResultsError, match=f"another {part}"):
        has_row([ROW], {**ROW, part: {"other": 1}})


ROOT = Path(__file__).parents[3]
COMMITTED = read_results(ROOT / "docs" / "results.jsonl")


def test_the_documents_tables_are_made_of_the_committed_rows() -> None:
    told = (ROOT / "docs" / "results.md").read_text("utf-8").partition("<!-- EXPERIMENT -->")[2]
    assert told.partition("<!-- /EXPERIMENT -->")[0].strip() == render_experiment(COMMITTED)


@pytest.mark.parametrize("row", [row for row in COMMITTED if "recipe" in row], ids=lambda row: row["system"])
def test_every_committed_row_stands_for_its_recipe_of_today(row: Row) -> None:
    assert row["system"] in {entry.system for entry in PLAN}
    recipe = RECIPES[row["system"]]
    today = {**row, "recipe": describe(recipe), **describe_objective(OBJECTIVES[recipe.objective])}
    assert has_row([row], today)


def test_a_row_from_before_a_field_was_there_stands_only_for_its_default() -> None:
    new = {**ROW, "recipe": describe(RECIPES["layer-stdmap-64"])}
    old = deepcopy(new)
    del old["recipe"]["part"], old["recipe"]["model"]["num_eyes"], old["recipe"]["jitter"]["small"]
    assert has_row([old], new)
    for other in (
        replace(RECIPES["layer-stdmap-64"], part="mouth"),
        replace(RECIPES["layer-stdmap-64"], model=replace(RECIPES["layer-stdmap-64"].model, num_eyes=2)),
        replace(RECIPES["layer-stdmap-64"], jitter=replace(RECIPES["layer-stdmap-64"].jitter, small=0.5)),
    ):
        with pytest.raises(ResultsError, match="another recipe"):
            has_row([old], {**ROW, "recipe": describe(other)})


@pytest.mark.parametrize("line", ["not json", "[]", '{"system": "l1-64"}'])
def test_a_damaged_line_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "results.jsonl"
    append(path, ROW)
    with path.open("a") as file:
        file.write(line + "\n")
    with pytest.raises(ResultsError, match="line 2 of"):
        read_results(path)
