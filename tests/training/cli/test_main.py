"""The command `python -m training`, from drawn photos to a served model, and its failures."""

import csv
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import pytest

from service.inference.synthesizer import read_model_info
from tests import fakes
from tests.training.perceptual import write_archives
from tests.training.tiny import TINY
from training.cli import main as cli
from training.loop import checkpoint as checkpoints
from training.loop.run_folder import claim


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    """Runs the command in this process and returns its exit code."""
    monkeypatch.setattr(sys, "argv", ["eye2face-train", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    code = ended.value.code
    return code if isinstance(code, int) else int(code is not None)


@pytest.mark.slow
def test_photos_become_a_model_that_the_service_runs(
    tmp_path: Path, drawn_csv: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data, run, model = tmp_path / "data", tmp_path / "run", tmp_path / "mine.onnx"
    archives, scores = write_archives(tmp_path), tmp_path / "scores.json"
    assert call(monkeypatch, "prepare", drawn_csv, data) == 0
    assert call(monkeypatch, "train", data, run, "--recipe", "tiny", "--steps", "3") == 0
    evaluate = ("evaluate", data, f"mine={run}", "--split", "train", "--perceptual", archives)
    assert call(monkeypatch, *evaluate, "--out", scores, "--grid", tmp_path / "private" / "grid.png") == 0
    table = capsys.readouterr().out
    assert "| mean face |" in table and "| nearest training eye |" in table and "crowd workers" not in table
    assert {path.name for path in (tmp_path / "private").iterdir()} == {"grid.png", "grid-worst.png"}
    assert not list(tmp_path.glob("*.png"))
    export = ("export", run, data, model, "--licence-class", "open", "--scores", scores, "--system", "mine")
    described = json.loads((run / "run.json").read_text()) | {"commit": "of the run"}
    (run / "run.json").write_text(json.dumps(described))
    assert call(monkeypatch, *export) == 0
    assert read_model_info(model).commit == "of the run"
    eye2face = [sys.executable, "-m", "service", "doctor"]
    told = subprocess.run(eye2face, env={"EYE2FACE_MODEL": str(model)}, capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    assert "mine" in told.stdout and "open" in told.stdout
    assert json.loads(scores.read_text())["split"] == "train"

    described["data"]["rows_by_licence"] = {"open": 10, "unstated": 2}
    (run / "run.json").write_text(json.dumps(described))
    model.unlink()
    assert call(monkeypatch, *export) == 1
    assert "learned from photos whose license is unstated" in capsys.readouterr().err and not model.exists()


@pytest.mark.slow
def test_numbers_by_group_go_into_a_card(
    tmp_path: Path, tiny_folder: Path, drawn_csv: Path, exported: Path, archives: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    with drawn_csv.open(newline="") as rows:
        sexes = {"drawn-light": "female", "drawn-dark": "male"}
        lines = [f"{row['file']},{sexes[row['source']]},{row['source']}" for row in csv.DictReader(rows)]
    labels, card, scores = (tmp_path / name for name in ("labels.csv", "card.md", "scores.json"))
    labels.write_text("\n".join(["file,sex,group", *lines]))
    measure = ("evaluate", tiny_folder, f"mine={exported}", "--split", "train", "--perceptual", archives)
    places = ("--out", scores, "--grid", tmp_path / "grid.png")
    assert call(monkeypatch, *measure, *places, "--labels", labels, "--people", "14") == 0
    grid = cv2.imread(str(tmp_path / "grid.png"))
    assert grid is not None and grid.shape == (2 * 6 * 32, 12 * 32, 3)
    card.write_text("<!-- RESULTS -->\n<!-- /RESULTS -->\n<!-- GROUPS -->\n<!-- /GROUPS -->\n")
    assert call(monkeypatch, "table", scores, "--into", card) == 0
    results, groups = card.read_text().split("<!-- GROUPS -->")
    assert "| mine |" in results and "as labeled" in results
    assert groups.startswith("\n| mine | people |")
    assert "| drawn-dark |" in groups and "crowd workers' impressions" in groups
    card.write_text("<!-- RESULTS -->\n<!-- /RESULTS -->\n")
    assert call(monkeypatch, "table", scores, "--into", card) == 0


def test_photos_that_give_no_pair_are_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "text.jpg").write_text("no photo")
    assert call(monkeypatch, "prepare", tmp_path / "photos", tmp_path / "out") == 1
    told = capsys.readouterr()
    assert "rejected, unreadable: 1" in told.out
    assert f"no photo gave a pair: mend {tmp_path}/photos, remove {tmp_path}/out" in told.err


@pytest.mark.parametrize(("own", "of_start"), [("nc", None), ("Open", None), ("open", "unstated")])
def test_a_model_is_as_open_as_its_photos_and_the_run_it_began_with(
    tmp_path: Path, own: str, of_start: str | None, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    start = of_start and {"start_from": None, "data": {"rows_by_licence": {of_start: 12}}}
    described = {"data": {"rows_by_licence": {"open": 9, own: 1}}, "start_from": start}
    (tmp_path / "run.json").write_text(json.dumps(described))
    model = tmp_path / "x.onnx"
    assert call(monkeypatch, "export", tmp_path, tiny_folder, model, "--licence-class", "open") == 1
    assert f"learned from photos whose license is {of_start or own}:" in capsys.readouterr().err


def test_an_export_of_an_unfinished_run_says_so(
    tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, model = tmp_path / "run", tmp_path / "x.onnx"
    claim(run, {"recipe": {"num_steps": 20}})
    checkpoints.save(run, {"step": 7})
    model.touch()
    monkeypatch.setattr("training.export.onnx.export", lambda *_, **__: 1)
    assert call(monkeypatch, "export", run, tiny_folder, model, "--licence-class", "open") == 0
    assert f"1/255 of PyTorch; {run} is unfinished: step 7 of 20\n" in capsys.readouterr().out


def test_a_mistake_of_ours_is_no_sentence_but_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def mistaken(*_: object, **__: object) -> None:
        raise ValueError("a mistake")

    monkeypatch.setattr(cli, "open_pairs", mistaken)
    monkeypatch.setattr(sys, "argv", ["", "export", "run", "pairs", "x.onnx", "--licence-class", "open"])
    with pytest.raises(ValueError, match="a mistake"):
        cli.main()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("train", "nowhere", "run"), "nowhere does not exist: make it with 'python -m training prepare"),
        (
            ("train", "nowhere", "run", "--recipe", "gan"),
            "no recipe is named 'gan'; there are eye2face-192, eye2face-128",
        ),
        (("prepare", "nowhere", "out"), "nowhere"),
        (("evaluate", "nowhere", "std=x.onnx"), "nowhere does not exist"),
        (("experiment", "nowhere"), "nowhere does not exist"),
        (("experiment", "nowhere", "--only", "l3"), "--only ['l3'] names no system; there are"),
        (("report", "--results", "none.jsonl"), "none.jsonl holds no results yet"),
        (("export", "nowhere", "data", "x.onnx", "--licence-class", "open"), "data does not exist"),
    ],
)
def test_a_failure_is_one_sentence(
    arguments: tuple[str, ...], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert call(monkeypatch, *arguments) == 1
    told = capsys.readouterr().err
    assert told.startswith("eye2face-train: ") and sentence in told and told.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "choices"),
    [
        (("evaluate", "data", "mine=x.onnx", "--split", "test"), "'train', 'dev', 'val'"),
        (("experiment", "data", "--split", "train"), "'val', 'dev'"),
        (("prepare", "photos", "out", "--layout", "zip"), "'auto', 'csv', 'folder', 'celeba'"),
        (("export", "run", "data", "x.onnx", "--licence-class", "free"), "'research', 'open'"),
    ],
)
def test_an_option_outside_of_its_choices_is_refused_with_them(
    arguments: tuple[str, ...], choices: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("COLUMNS", "200")
    assert call(monkeypatch, *arguments) == 2
    assert choices in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("models/synthesizer.onnx",), "write NAME=PATH"),
        (("mine=x.onnx",), "x.onnx"),
        (("mine=.",), "expected an .onnx file or the folder of a run"),
    ],
)
def test_systems_that_cannot_be_evaluated_are_named(
    arguments: tuple[str, ...], sentence: str, tmp_path: Path, tiny_folder: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert call(monkeypatch, "evaluate", tiny_folder, *arguments) == 1
    assert sentence in capsys.readouterr().err


def test_options_of_a_run_are_written_beside_its_weights(
    tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "RECIPES", {"tiny": replace(TINY, precision="bf16-mixed")})
    options = ("--recipe", "tiny", "--steps", "1", "--float32", "--seed", "3", "--checkpoint-every", "1")
    assert call(monkeypatch, "train", tiny_folder, tmp_path / "run", *options, "--accelerator", "cpu") == 0
    described = json.loads((tmp_path / "run" / "run.json").read_text())
    assert described["recipe"]["precision"] == "32-true" and described["recipe"]["num_steps"] == 1
    assert described["seed"] == 3


@pytest.mark.slow
def test_the_experiment_ends_in_a_table_in_a_document(
    tmp_path: Path, drawn_csv: Path, archives: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, out, results = tmp_path / "data", tmp_path / "runs", tmp_path / "results.jsonl"
    document = tmp_path / "README.md"
    document.write_text("<!-- EXPERIMENT -->\n<!-- /EXPERIMENT -->\n")
    assert call(monkeypatch, "prepare", drawn_csv, data, "--face-size", "64") == 0
    only = ("--only", "mean face", "--encoder-steps", "1", "--perceptual", archives)
    assert call(monkeypatch, "experiment", data, "--out", out, "--results", results, *only) == 0
    assert call(monkeypatch, "report", "--results", results, "--into", document) == 0
    assert "| mean face | " in document.read_text()


def test_parity_is_measured_on_labeled_photos(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    photo, card = fakes.astronaut(), tmp_path / "card.md"
    (tmp_path / "astronaut.png").write_bytes(fakes.encoded(photo, "png"))
    (right_x, right_y), (left_x, left_y) = fakes.ASTRONAUT_RIGHT_EYE, fakes.ASTRONAUT_LEFT_EYE
    labels = tmp_path / "labels.csv"
    labels.write_text(
        "file,split,right_eye_x,right_eye_y,left_eye_x,left_eye_y\n"
        f"astronaut.png,val,{right_x},{right_y},{left_x},{left_y}\n"
    )
    card.write_text("<!-- PARITY --><!-- /PARITY -->")
    model = fakes.tiny_model(tmp_path / "tiny.onnx")
    assert call(monkeypatch, "parity", labels, model, "--split", "val", "--into", card) == 0
    assert "| eyes_found | 1 |" in card.read_text() and "| center | 0.0" in capsys.readouterr().out


def test_photos_that_cannot_be_fetched_are_named_and_fail_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    columns = "file,split,right_eye_x,right_eye_y,left_eye_x,left_eye_y,url,sha256"
    (tmp_path / "open.csv").write_text(f"{columns}\na.jpg,train,1,2,3,2,http://127.0.0.1:1/a.jpg,00\n")
    assert call(monkeypatch, "fetch-photos", tmp_path / "open.csv", tmp_path / "data" / "open") == 1
    told = capsys.readouterr().err
    assert "a.jpg: " in told and "1 photos could not be fetched" in told
