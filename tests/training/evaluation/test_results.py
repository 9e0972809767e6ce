"""The file of results: appended to, read, and never two runs under one name."""

from pathlib import Path

import pytest

from training.errors import ResultsError
from training.evaluation.results import Row, append, has_row, read_results
from training.evaluation.tables import render_experiment

ROW: Row = {"system": "l1-64", "seed": 0, "split": "val", "recipe": {"num_steps": 5}, "metrics": {"l2": 0.1}}


def test_rows_come_back_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "results.jsonl"
    assert read_results(path) == []
    append(path, ROW)
    append(path, {**ROW, "seed": 1})
    assert read_results(path) == [ROW, {**ROW, "seed": 1}]


def test_a_run_stands_when_its_name_and_recipe_do() -> None:
    assert has_row([ROW], {**ROW, "metrics": None}) and not any(
        has_row([ROW], {**ROW, **other}) for other in ({"seed": 1}, {"split": "dev"}, {"system": "l2-64"})
    )


@pytest.mark.parametrize("part", ["recipe", "objective", "discriminator", "data"])
def test_another_run_of_the_same_name_is_refused(part: str) -> None:
    with pytest.raises(ResultsError, match=f"another {part}"):
        has_row([ROW], {**ROW, part: {"other": 1}})


ROOT = Path(__file__).parents[3]
COMMITTED = read_results(ROOT / "docs" / "results.jsonl")


def test_the_documents_tables_are_made_of_the_committed_rows() -> None:
    told = (ROOT / "docs" / "results.md").read_text("utf-8").partition("<!-- EXPERIMENT -->")[2]
    assert told.partition("<!-- /EXPERIMENT -->")[0].strip() == render_experiment(COMMITTED)


NAMED = '{"system": "l1-64", "seed": 0, "split": "val"'


@pytest.mark.parametrize(
    "line",
    [
        *("not json", "[]", '{"system": "l1-64"}', "[" * 100_000),
        *(NAMED + each for each in ("}", ', "metrics": [1]}', ', "metrics": {"l2": "0.1"}}')),
        NAMED + ', "metrics": {}, "slices": {"dark": 1}}',
    ],
)
def test_a_damaged_line_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "results.jsonl"
    append(path, ROW)
    with path.open("a") as file:
        file.write(line + "\n")
    with pytest.raises(ResultsError, match="line 2 of"):
        read_results(path)
