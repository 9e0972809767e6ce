"""The finder's commands, one after the other, on copies of one photo: trained, exported, measured."""

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from service.inference.eye_finder import LearnedEyeFinder
from tests.fake_finders import tiny_finder
from tests.fakes import tiny_model
from tests.training.labeled_astronaut import write_scenes
from training.cli.main import app
from training.errors import CheckpointError, DataError, RunConflict
from training.finder.labels import load_photos
from training.finder.negatives import from_folder
from training.loop.run_folder import claim


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.slow
def test_a_finder_is_trained_exported_and_measured(tmp_path: Path) -> None:
    data = write_scenes(tmp_path / "data", 12)
    model, numbers = tmp_path / "finder.onnx", tmp_path / "numbers.json"
    assert "finished" in run("train-finder", data, tmp_path / "run", "--steps", 1)
    described = json.loads((tmp_path / "run" / "run.json").read_text()) | {"commit": "of the run"}
    (tmp_path / "run" / "run.json").write_text(json.dumps(described))
    assert " MB, eyes count from" in run(
        "export-finder", tmp_path / "run", data, model, "--licence-class", "open", "--limit", 1
    )
    assert "finished" in run(
        "train-refiner", data, tmp_path / "closer", "--finder", model, "--pictures", 20, "--steps", 1
    )
    run(
        *("export-finder", tmp_path / "run", data, model, "--refiner", tmp_path / "closer"),
        *("--licence-class", "open", "--limit", 1),
    )
    assert LearnedEyeFinder.load(model)._detect._refiner is not None
    info = LearnedEyeFinder.load(model).info
    num_trained = len(load_photos(data, "train"))
    assert (info.licence_class, info.training_data) == ("open", f"photos by licence: {num_trained} open")
    assert 0 < info.threshold <= 1 and info.commit == "of the run"
    shown = run("evaluate-finder", data, model, "--no-haar", "--limit", 1, "--out", numbers)
    assert "| found: frontal |" in shown
    assert "haar" not in shown
    assert numbers.is_file()


@pytest.mark.slow
def test_more_pictures_without_people_come_from_a_folder(tmp_path: Path) -> None:
    data = write_scenes(tmp_path / "data", 12)
    nobody = tmp_path / "nobody"
    nobody.mkdir()
    for number in range(20):
        cv2.imwrite(str(nobody / f"{number}.png"), np.full((40, 40, 3), 10 * number, np.uint8))
    run("train-finder", data, tmp_path / "run", "--steps", 1, "--nobody", nobody)
    with pytest.raises(RunConflict, match="pictures_without_people"):
        run("train-finder", data, tmp_path / "run", "--steps", 1)
    model, limits = tmp_path / "finder.onnx", ("--limit", 1, "--nobody", nobody)
    run("export-finder", tmp_path / "run", data, model, "--licence-class", "research", *limits)
    shown = run("evaluate-finder", data, model, "--no-haar", "--out", tmp_path / "numbers.json", *limits)
    num_measured = 2 * len(list(from_folder(nobody, "dev")))
    assert f"| false positives a picture, no people: a folder | {num_measured} pictures |" in shown


@pytest.mark.slow
def test_photos_are_served(drawn_csv: Path, tmp_path: Path) -> None:
    models = (
        "--model", tiny_finder(tmp_path / "f.onnx", []), "--synthesizer", tiny_model(tmp_path / "s.onnx"),
    )  # fmt: skip
    shown = run("serve-finder", drawn_csv, "--split", "train", "--limit", 2, *models)
    assert "| refused: no_eye_found | 2 |" in shown
    assert shown.count("\nno_eye_found: ") == 2


def test_data_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds neither"):
        run("train-finder", tmp_path, tmp_path / "run")


def test_a_model_of_photos_that_are_not_open_is_not_exported_as_open(tmp_path: Path) -> None:
    data = write_scenes(tmp_path / "data", 40, licence="non-commercial")
    learned, out = tmp_path / "run", tmp_path / "out.onnx"
    claim(learned, {"recipe": {"num_steps": 1}, "data": {"photos_by_licence": {"open": 3}}})
    arguments = ("export-finder", learned, data, out, "--limit", 1)
    with pytest.raises(DataError, match="whose license is non-commercial"):
        run(*arguments, "--licence-class", "open")
    refused = CliRunner().invoke(app, [*map(str, arguments), "--licence-class", "Open"])
    assert refused.exit_code == 2
    assert not out.exists()


def test_only_photos_of_the_license_asked_for_are_learned_from(tmp_path: Path) -> None:
    data = write_scenes(tmp_path / "data", 40, licence="non-commercial")
    asked = ("--licence", "open")
    for command, *few in (("train-finder", "--steps", 1), ("train-refiner", "--steps", 1, "--pictures", 1)):
        with pytest.raises(DataError, match="no labeled photo"):
            run(command, data, tmp_path / str(command), *few, *asked)
    with pytest.raises(CheckpointError):
        export_as_open(tmp_path, data, *asked)


def export_as_open(tmp_path: Path, data: Path, *options: object) -> None:
    """Exports a run that learned from open photos, and has no checkpoint: its licenses are checked before."""
    claim(tmp_path / "run", {"recipe": {"num_steps": 1}, "data": {"photos_by_licence": {"open": 3}}})
    out = tmp_path / "out.onnx"
    run("export-finder", tmp_path / "run", data, out, "--licence-class", "open", "--limit", 1, *options)


def test_photos_that_a_finder_is_measured_on_decide_nothing_of_it(tmp_path: Path) -> None:
    data = write_scenes(tmp_path / "data", 40)
    measured = {photo.file for photo in load_photos(data, "dev")}
    with (data / "scenes.csv").open(newline="") as lines:
        rows = [
            {**row, "licence": "non-commercial" if row["file"] in measured else "open"}
            for row in csv.DictReader(lines)
        ]
    with (data / "scenes.csv").open("w", newline="") as lines:
        writer = csv.DictWriter(lines, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    assert 0 < len(measured) < 20
    with pytest.raises(CheckpointError):
        export_as_open(tmp_path, data)
