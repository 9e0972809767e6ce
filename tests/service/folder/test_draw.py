"""Many photos through the command: from where a run was killed, with no half file, nothing done twice."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import PIL.Image
import pyarrow.parquet
import pytest

from service.cli import main as cli
from tests import fakes

ROOT = Path(__file__).parents[3]
FACE = fakes.astronaut()[:256, 96:352]


@pytest.fixture(autouse=True)
def _model(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    path = fakes.tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx")
    monkeypatch.setenv("EYE2FACE_MODEL", str(path))
    monkeypatch.setenv("EYE2FACE_DEVICE", "cpu")
    monkeypatch.setenv("EYE2FACE_EYE_FINDER", "haar")  # what it sees in these photos is known


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder: the astronaut, two of her, and nobody."""
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "one.jpg").write_bytes(fakes.encoded(FACE, "jpeg"))
    (folder / "two.png").write_bytes(fakes.encoded(np.hstack([FACE, FACE])))
    (folder / "nobody.png").write_bytes(fakes.encoded(np.zeros((64, 64, 3), np.uint8)))
    return folder


def run(*arguments: object) -> int:
    """The exit status of `eye2face synthesize` with these arguments."""
    with pytest.raises(SystemExit) as ended:
        cli.main(["synthesize", *(str(each) for each in arguments)])
    return int(ended.value.code or 0)


def rows_of(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]


def test_the_manifest_tells_of_every_photo(photos: Path, tmp_path: Path) -> None:
    faces = tmp_path / "faces"
    assert run(photos, "-o", faces, "--person", "all") == 1
    rows = {(Path(str(row["input"])).name, row["output"]): row for row in rows_of(faces)}
    assert rows.keys() == {
        ("one.jpg", "one.face.png"),
        ("two.png", "two.face.png"),
        ("two.png", "two.face-1.png"),
        ("nobody.png", None),
    }
    error = rows["nobody.png", None]["error"]
    assert isinstance(error, dict) and error["code"] == "no_eye_found"
    eye, quality = (rows["one.jpg", "one.face.png"][name] for name in ("eye", "quality"))
    assert isinstance(eye, dict) and eye["side"] == "right" and eye["person"] == 0
    assert isinstance(quality, dict) and quality["sharpness"] > 0.28
    assert pyarrow.parquet.read_table(faces / "manifest.parquet").num_rows == 4


def test_a_second_run_does_nothing_again_and_says_the_same(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(photos, "-o", tmp_path / "faces") == 1
    first, written = capsys.readouterr().err, (tmp_path / "faces" / "one.face.png").stat()
    assert run(photos, "-o", tmp_path / "faces") == 1
    second = capsys.readouterr().err
    assert "2 of 3 photos have a face" in first and "(3 were done before)" in second
    assert second.split("1 failed:")[1] == first.split("1 failed:")[1]
    assert (tmp_path / "faces" / "one.face.png").stat() == written
    assert len(rows_of(tmp_path / "faces")) == 3


def test_another_question_a_changed_photo_and_a_lost_face_are_done_again(
    photos: Path, tmp_path: Path
) -> None:
    faces = tmp_path / "faces"
    run(photos, "-o", faces)
    right = (faces / "one.face.png").read_bytes()
    run(photos / "one.jpg", "-o", faces, "--eye", "left")
    left = (faces / "one.face.png").read_bytes()
    assert left != right
    (photos / "one.jpg").write_bytes(fakes.encoded(FACE, "jpeg", quality=50))
    run(photos / "one.jpg", "-o", faces, "--eye", "left")
    changed = (faces / "one.face.png").read_bytes()
    assert changed != left
    (faces / "one.face.png").unlink()
    run(photos / "one.jpg", "-o", faces, "--eye", "left")
    assert (faces / "one.face.png").read_bytes() == changed
    assert sorted(path.name for path in faces.glob("*.png")) == ["one.face.png", "two.face.png"]


def test_faces_among_the_photos_are_not_taken_for_photos(photos: Path) -> None:
    run(photos, "-o", photos)
    before = sorted(path.name for path in photos.iterdir())
    run(photos, "-o", photos)
    assert sorted(path.name for path in photos.iterdir()) == before
    run(photos, "-o", photos, "--format", "webp")
    run(photos, "-o", photos, "--format", "webp")
    after = {"one.face.webp", "two.face.webp"}
    assert {path.name for path in photos.iterdir()} == {*before, *after}
    assert {"one.face.png", "two.face.png"} <= set(before)


def test_a_folder_of_faces_alone_is_refused(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(photos / "one.jpg", "-o", photos / "faces")
    capsys.readouterr()
    assert run(photos / "faces", "-o", photos / "faces") == 1
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and "faces drawn earlier" in told


def test_a_photo_that_comes_later_takes_no_name_from_another(photos: Path, tmp_path: Path) -> None:
    run(photos, "-o", tmp_path / "faces")
    (photos / "a").mkdir()
    (photos / "a" / "one.png").write_bytes(fakes.encoded(np.ascontiguousarray(FACE[:, ::-1])))
    before = (tmp_path / "faces" / "one.face.png").read_bytes()
    run(photos, "-o", tmp_path / "faces")
    assert (tmp_path / "faces" / "one.face.png").read_bytes() == before
    assert (tmp_path / "faces" / "one-2.face.png").is_file()


def test_a_photo_named_twice_is_drawn_once(photos: Path, tmp_path: Path) -> None:
    photo = photos / "one.jpg"
    assert run(photo, photos / "one.jpg", photo, "-o", tmp_path / "faces") == 0
    assert len(rows_of(tmp_path / "faces")) == 1


def test_a_manifest_of_somebody_else_stops_the_run(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "manifest.jsonl").write_text("mine\n")
    assert run(photos, "-o", tmp_path) == 1
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and "choose another folder" in told
    assert not list(tmp_path.glob("*.face.png"))


@pytest.mark.slow
def test_a_run_that_is_killed_leaves_whole_files_and_is_gone_on_with(tmp_path: Path) -> None:
    photos, faces = tmp_path / "photos", tmp_path / "faces"
    photos.mkdir()
    for number in range(40):
        (photos / f"{number:02}.jpg").write_bytes(fakes.encoded(FACE, "jpeg", quality=50 + number))
    command = [sys.executable, "-m", "service", "synthesize", str(photos), "-o", str(faces)]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL) as killed:
        while not _size(faces / "manifest.jsonl"):
            assert killed.poll() is None, "it ended before it could be killed"
            time.sleep(0.01)
        killed.send_signal(signal.SIGKILL)
    done = _size(faces / "manifest.jsonl")
    for face in faces.glob("*.face.png"):
        with PIL.Image.open(face) as picture:
            picture.load()
    assert len(list(faces.glob("*.face.png"))) < 40, "it was done before it was killed"
    assert run(photos, "-o", faces) == 0
    assert len(list(faces.glob("*.face.png"))) == len(rows_of(faces)) == 40
    assert (faces / "manifest.jsonl").read_bytes()[:done].count(b"\n") > 0
    assert {path.name for path in faces.iterdir() if path.suffix == ".part"} == set()


def _size(path: Path) -> int:
    return os.stat(path).st_size if path.exists() else 0


def test_without_ray_the_command_says_what_to_install(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "service.folder.ray", raising=False)
    assert run(photos, "-o", tmp_path / "faces", "--ray", "auto") == 1
    told = capsys.readouterr().err
    assert told == "eye2face: --ray needs Ray: pip install '.[ray]' in the checkout.\n"
