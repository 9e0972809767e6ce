"""The file of results: appended to, read, and never two runs under one name."""

from pathlib import Path

import pytest

from training.results import Key, ResultsError, Row, append, find, read_results, stands

ROW: Row = {"system": "l1-64", "seed": 0, "split": "val", "recipe": {"num_steps": 5}, "metrics": {"l2": 0.1}}


def test_rows_come_back_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "results.jsonl"
    assert read_results(path) == []
    append(path, ROW)
    append(path, {**ROW, "seed": 1})
    assert read_results(path) == [ROW, {**ROW, "seed": 1}]
    assert find(read_results(path), Key("l1-64", 1, "val")) == {**ROW, "seed": 1}
    assert find(read_results(path), Key("l1-64", 0, "dev")) is None


def test_a_run_stands_when_its_name_and_recipe_do() -> None:
    assert stands([ROW], {**ROW, "metrics": None}) and not stands([ROW], {**ROW, "seed": 1})


@pytest.mark.parametrize("part", ["recipe", "objective", "critic", "data"])
def test_another_run_of_the_same_name_is_refused(part: str) -> None:
    with pytest.raises(ResultsError, match=f"another {part}"):
        stands([ROW], {**ROW, part: {"other": 1}})


@pytest.mark.parametrize("line", ["not json", "[]", '{"system": "l1-64"}'])
def test_a_damaged_line_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "results.jsonl"
    append(path, ROW)
    with path.open("a") as file:
        file.write(line + "\n")
    with pytest.raises(ResultsError, match="line 2 of"):
        read_results(path)
