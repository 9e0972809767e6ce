"""Many photos through the command: from where a run was killed, with no half file, nothing done twice."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pyarrow.parquet
import pytest

from service.cli import main as cli
from service.decoding.reader import InProcessReader
from service.folder import draw
from service.folder.manifest import open_manifest
from service.pipeline import Pipeline
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
    right = fakes.pixels_of((faces / "one.face.png").read_bytes())
    run(photos / "one.jpg", "-o", faces, "--eye", "left")
    left = fakes.pixels_of((faces / "one.face.png").read_bytes())
    assert left != right
    (photos / "one.jpg").write_bytes(fakes.encoded(FACE, "jpeg", quality=50))
    run(photos / "one.jpg", "-o", faces, "--eye", "left")
    changed = fakes.pixels_of((faces / "one.face.png").read_bytes())
    assert changed != left
    (faces / "one.face.png").unlink()
    run(photos / "one.jpg", "-o", faces, "--eye", "left")
    assert fakes.pixels_of((faces / "one.face.png").read_bytes()) == changed
    assert sorted(path.name for path in faces.glob("*.png")) == ["one.face.png", "two.face.png"]


def test_guesses_have_files_beside_the_face_and_are_listed(photos: Path, tmp_path: Path) -> None:
    faces = tmp_path / "faces"
    run(photos, "-o", faces, "--person", "all", "--guesses", "3", "--seed", "7")
    rows = {str(row["output"]): row for row in rows_of(faces) if row["output"]}
    assert rows["two.face-1.png"]["guesses"] == [
        {"guess": 1, "seed": 7, "output": "two.face-1.guess-1.png"},
        {"guess": 2, "seed": 7, "output": "two.face-1.guess-2.png"},
    ]
    drawn = {
        fakes.pixels_of((faces / f"one.face{each}.png").read_bytes()) for each in ("", ".guess-1", ".guess-2")
    }
    assert len(drawn) == 3 and len(list(faces.glob("*.png"))) == 9
    one = rows["one.face.png"]
    assert 0 <= float(str(one["certainty"])) <= 1 and float(str(one["spread"])) > 0
    table = pyarrow.parquet.read_table(faces / "manifest.parquet").to_pylist()
    assert one in table


def test_another_number_seed_or_a_lost_guess_is_done_again(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo, faces = photos / "one.jpg", tmp_path / "faces"
    guess = faces / "one.face.guess-1.png"
    run(photo, "-o", faces, "--guesses", "2")
    face, first = (fakes.pixels_of(each.read_bytes()) for each in (faces / "one.face.png", guess))
    run(photo, "-o", faces, "--guesses", "2", "--seed", "1")
    assert fakes.pixels_of(guess.read_bytes()) != first
    assert fakes.pixels_of((faces / "one.face.png").read_bytes()) == face
    run(photo, "-o", faces, "--guesses", "3")
    assert fakes.pixels_of(guess.read_bytes()) == first
    guess.unlink()
    run(photo, "-o", faces, "--guesses", "3")
    assert guess.is_file() and "done before" not in capsys.readouterr().err
    run(photo, "-o", faces, "--guesses", "3")
    assert "(1 were done before)" in capsys.readouterr().err


def test_faces_among_the_photos_are_not_taken_for_photos(photos: Path) -> None:
    run(photos, "-o", photos, "--guesses", "2")
    before = sorted(path.name for path in photos.iterdir())
    run(photos, "-o", photos, "--guesses", "2")
    assert sorted(path.name for path in photos.iterdir()) == before
    run(photos, "-o", photos, "--format", "webp")
    run(photos, "-o", photos, "--format", "webp")
    after = {"one.face.webp", "two.face.webp"}
    assert {path.name for path in photos.iterdir()} == {*before, *after}
    assert {"one.face.png", "two.face.png"} <= set(before)


def test_faces_drawn_earlier_are_counted(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(photos, "-o", photos)
    assert "left out" not in capsys.readouterr().err
    run(photos, "-o", photos)
    assert "left out: 2 drawn earlier, 1 .jsonl, 1 .parquet\n" in capsys.readouterr().err


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


def test_what_a_kill_left_half_written_is_removed(tmp_path: Path) -> None:
    part, foreign = tmp_path / ".eye2face-0123456789abcdef.part", tmp_path / ".download.part"
    part.touch()
    foreign.touch()
    with open_manifest(tmp_path) as manifest:
        draw.OutputFolder(tmp_path, manifest, "run")
    assert not part.exists() and foreign.exists()


def test_the_same_name_in_many_folders_takes_no_time(tmp_path: Path) -> None:
    photos = [Path(f"/{number}/0001.jpg") for number in range(6000)]
    with open_manifest(tmp_path) as manifest:
        folder = draw.OutputFolder(tmp_path, manifest, "run")
        begin = time.thread_time()
        stems = [job.stem for job in folder.plan(photos)]
        assert time.thread_time() - begin < 1
    assert stems[:2] == ["0001", "0001-2"] and len(set(stems)) == 6000


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


NAMES = [
    "x" * 251,
    "\u4e2d" * 82,
    "two\nlines\x1b[31m",
    os.fsdecode(b"caf\xe9"),
    "\u202e\U0001f441",
    "-o",
    "a",
]


@pytest.mark.parametrize("stem", NAMES, ids=["long", "chinese", "lines", "bytes", "marks", "option", "short"])
def test_whatever_a_photo_is_called_it_gets_a_face(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], stem: str
) -> None:
    for folder in (tmp_path, tmp_path / "other"):
        folder.mkdir(exist_ok=True)
        (folder / f"{stem}.jpg").write_bytes(fakes.encoded(FACE, "jpeg"))
    (tmp_path / f"{stem[:240]}.png").write_bytes(b"no picture")
    for done in ("", " (3 were done before)"):
        assert run(tmp_path, "-o", tmp_path / "faces") == 1
        told = capsys.readouterr().err
        assert f"2 of 3 photos have a face in {tmp_path / 'faces'}{done}\n" in told
        assert "\n1 failed:\n" in told and told.count("\n") == (4 if "left out" in told else 3)
        assert "The bytes do not begin like a picture." in told
        assert "\x1b[31m" not in told
    outputs = {str(row["output"]) for row in rows_of(tmp_path / "faces") if row["output"]}
    assert {path.name for path in (tmp_path / "faces").glob("*.png")} == outputs and len(outputs) == 2


def test_what_is_no_file_of_a_photos_size_is_told_and_the_others_are_drawn(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo(photos / "a.png")
    (photos / "b.png").symlink_to("b.png")
    with (photos / "c.png").open("wb") as file:
        file.truncate(3 << 30)
    assert run(photos, "/dev/zero", "-o", tmp_path / "faces") == 1
    told = capsys.readouterr().err
    assert "2 of 7 photos have a face" in told
    for name, why in (
        ("a.png", "Not a regular file"), ("b.png", "Too many levels of symbolic links"),
        ("c.png", "Larger than 420,000,000 bytes"), ("zero", "Not a regular file"),
    ):  # fmt: skip
        assert f"{name}: {why}\n" in told
    errors = {Path(str(row["input"])).name: row["error"] for row in rows_of(tmp_path / "faces")}
    assert {each["code"] for each in errors.values() if isinstance(each, dict)} == {
        "unreadable",
        "no_eye_found",
    }


def test_whatever_a_path_leads_to_the_others_are_drawn(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(photos)
    for _ in range(1100):  # deeper than Python's stack, and longer than a path may be
        os.mkdir("deep")
        os.chdir("deep")
    (photos / "loop").symlink_to(".")
    (photos / "file.png").mkdir()
    long = tmp_path / ("x" * 300)
    status = run(photos, long, photos / "one.jpg" / "below.png", "-o", tmp_path / "faces")
    subprocess.run(["rm", "-r", photos / "deep"], check=True)  # Python's own cannot
    assert status == 1
    told = capsys.readouterr().err
    assert "2 of 6 photos have a face" in told and told.count("File name too long") == 2
    assert "below.png: Not a directory" in told


def test_a_face_that_cannot_be_written_is_told_and_tried_again(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    faces, victim = tmp_path / "faces", tmp_path / "victim"
    faces.mkdir()
    victim.write_bytes(b"mine")
    (faces / "one.face.png").symlink_to(victim)
    (faces / ".one.face.png.part").symlink_to(victim)
    (faces / "two.face-1.guess-1.png").mkdir()
    command = (photos, "-o", faces, "--person", "all", "--guesses", "2")
    assert run(*command) == 1
    told = capsys.readouterr().err
    assert "1 of 3 photos have a face" in told
    assert "one.jpg: one.face.png cannot be written: Not a regular file\n" in told
    assert "two.png: two.face-1.guess-1.png cannot be written: Not a regular file\n" in told
    assert victim.read_bytes() == b"mine"
    (faces / "one.face.png").unlink()
    (faces / "two.face-1.guess-1.png").rmdir()
    assert run(*command) == 1
    assert "2 of 3 photos have a face" in (told := capsys.readouterr().err) and "(1 were done before)" in told
    assert len(list(faces.glob("*.png"))) == 6


def test_a_full_disk_ends_the_run_with_the_files_name(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def write_on_a_full_disk(path: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(draw, "replace_file", write_on_a_full_disk)
    assert run(photos / "one.jpg", "-o", tmp_path / "faces") == 1
    told = capsys.readouterr().err.splitlines()[-1]
    assert told == f"eye2face: {tmp_path / 'faces' / 'one.face.png'}: No space left on device"


def test_a_mistake_of_ours_costs_one_photo_and_is_logged(
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    def crash(self: Pipeline, data: bytes, *given: object) -> object:
        if data.startswith(b"\xff\xd8"):
            raise ZeroDivisionError("of a crop")
        return synthesize(self, data, *given)

    synthesize: Any = Pipeline.synthesize
    monkeypatch.setattr(Pipeline, "synthesize", crash)
    assert run(photos, "-o", tmp_path / "faces") == 1
    told = capsys.readouterr().err
    assert "1 of 3 photos have a face" in told and "one.jpg: ZeroDivisionError: of a crop" in told
    assert caplog.records[0].exc_info and "one.jpg failed" in caplog.text
    monkeypatch.setattr(Pipeline, "synthesize", synthesize)
    assert run(photos, "-o", tmp_path / "faces") == 1
    assert "2 of 3 photos have a face" in capsys.readouterr().err


def test_a_photo_that_takes_too_long_is_told_and_tried_again(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as short:
        short.setattr(draw, "_MAX_PHOTO_S", 0.0)
        assert run(photos / "one.jpg", "-o", tmp_path / "faces") == 1
    assert "one.jpg: The photo was not done within" in capsys.readouterr().err
    assert run(photos / "one.jpg", "-o", tmp_path / "faces") == 0


def test_a_manifest_leads_to_no_other_folder(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    faces = tmp_path / "in" / "faces"
    assert run(photos / "one.jpg", "-o", faces) == 0
    manifest = faces / "manifest.jsonl"
    manifest.write_text(manifest.read_text().replace('"one.face.png"', '"../../pwn.face.png"'))
    capsys.readouterr()
    assert run(photos / "one.jpg", "-o", faces, "--eye", "left") == 1
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and "line 1 of" in told and "$.output" in told
    assert not (tmp_path / "pwn.face.png").exists()


def test_no_input_is_overwritten_through_links_or_in_a_later_run(photos: Path, tmp_path: Path) -> None:
    faces = tmp_path / "faces"
    faces.mkdir()
    (faces / "one.face.png").write_bytes(fakes.encoded(FACE))
    (faces / "two.face.png").write_bytes(fakes.encoded(FACE))
    (tmp_path / "link.png").symlink_to("faces/one.face.png")
    (tmp_path / "linked").symlink_to("faces")
    before = (faces / "one.face.png").read_bytes()
    assert (
        run(photos / "one.jpg", tmp_path / "link.png", tmp_path / "linked" / "two.face.png", "-o", faces) == 0
    )
    assert run(photos / "two.png", "-o", faces) == 0
    assert (faces / "one.face.png").read_bytes() == (faces / "two.face.png").read_bytes() == before


def test_two_runs_do_not_draw_into_one_folder(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    faces = tmp_path / "faces"
    faces.mkdir()
    with open_manifest(faces):
        assert run(photos, "-o", faces) == 1
        told = capsys.readouterr().err
        assert told.startswith(f"eye2face: Another run draws into {faces}") and told.count("\n") == 1
    assert run(photos / "one.jpg", "-o", faces) == 0


@pytest.mark.parametrize("num_readers", ["-1", "0"])
def test_where_a_sandbox_is_required_no_photo_is_read_outside_of_one(
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    num_readers: str,
) -> None:
    def read_here(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(InProcessReader, "__call__", read_here)
    monkeypatch.setenv("EYE2FACE_SANDBOX", "required")
    monkeypatch.setenv("EYE2FACE_NUM_READERS", num_readers)
    assert run(photos / "one.jpg", photos / "two.png", "-o", tmp_path / "faces") == int(num_readers == "0")
    told = capsys.readouterr().err
    assert ("2 of 2 photos" if num_readers == "-1" else "eye2face: EYE2FACE_SANDBOX=required") in told


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kill", "status"), [(signal.SIGKILL, -9), (signal.SIGTERM, 130), (signal.SIGINT, 130)]
)
def test_a_run_that_is_killed_leaves_whole_files_and_is_gone_on_with(
    tmp_path: Path, kill: int, status: int
) -> None:
    photos, faces = tmp_path / "photos", tmp_path / "faces"
    photos.mkdir()
    for number in range(40):
        (photos / f"{number:02}.jpg").write_bytes(fakes.encoded(FACE, "jpeg", quality=50 + number))
    command = [sys.executable, "-m", "service", "synthesize", str(photos), "-o", str(faces)]
    # A shell may have had the tests ignore Ctrl-C, which a process inherits.
    obey = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, preexec_fn=obey) as killed:
        while not _size(faces / "manifest.jsonl"):
            assert killed.poll() is None, "it ended before it could be killed"
            time.sleep(0.01)
        killed.send_signal(kill)
        _, told = killed.communicate()
    assert killed.returncode == status
    assert kill == signal.SIGKILL or not list(faces.glob(".*"))
    assert kill == signal.SIGKILL or re.fullmatch(r"\d+ of 40 done; the same command goes on\n", told)
    done = _size(faces / "manifest.jsonl")
    for face in faces.glob("*.face.png"):
        with PIL.Image.open(face) as picture:
            picture.load()
    assert len(list(faces.glob("*.face.png"))) < 40, "it was done before it was killed"
    (faces / ".eye2face-0.part").touch()
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
