"""The finder's commands, one after the other, on copies of one photo: trained, exported, measured."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from service.eye_finder import LearnedEyeFinder
from tests.training.labelled_astronaut import write_scenes
from training.arrays import PairsError
from training.cli import app


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_a_finder_is_trained_exported_and_measured(tmp_path: Path) -> None:
    data = write_scenes(tmp_path / "data", 12)
    model, numbers = tmp_path / "finder.onnx", tmp_path / "numbers.json"
    assert "finished" in run("train-finder", data, tmp_path / "run", "--steps", 1)
    assert " MB, eyes count from" in run(
        "export-finder", tmp_path / "run", data, model, "--licence-class", "open", "--limit", 1
    )
    info = LearnedEyeFinder.load(model).info
    assert (info.licence_class, info.training_data) == ("open", "data: 12 open")
    assert 0 < info.threshold <= 1
    shown = run("evaluate-finder", data, model, "--no-haar", "--limit", 1, "--out", numbers)
    assert "| found: frontal |" in shown
    assert "haar" not in shown
    assert numbers.is_file()


def test_data_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(PairsError, match="holds neither"):
        run("train-finder", tmp_path, tmp_path / "run")
