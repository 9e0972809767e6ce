import io
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import typer
from typer.core import TyperGroup

from service.access.api_keys import ApiKey, KeyStore, hash_key
from service.cli import main as cli
from service.cli import synthesize as drawing
from service.cli.doctor import examine_sandbox
from service.decoding.reader import InProcessReader
from service.folder.draw import OutputFolder, PhotoWorker, draw_locally
from service.http.schemas import EyesAnswer
from service.vision.images import Image
from tests import fakes
from tests.fake_finders import seen_right, tiny_finder

ROOT = Path(__file__).parents[3]
VERDICT = "ready: tiny draws faces on cpu"
MANIFESTS = {"manifest.jsonl", "manifest.parquet"}


@pytest.fixture(autouse=True)
def _model(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    path = fakes.tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx")
    monkeypatch.setenv("EYE2FACE_MODEL", str(path))
    monkeypatch.setenv("EYE2FACE_DEVICE", "cpu")


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photos" / "astronaut.jpg"
    path.parent.mkdir()
    path.write_bytes(fakes.encoded(fakes.astronaut()[:256, 96:352], "jpeg"))
    return path


def run(*arguments: object) -> int:
    """The exit status of the command."""
    with pytest.raises(SystemExit) as ended:
        cli.main([str(each) for each in arguments])
    return int(ended.value.code or 0)


def run_alone(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "service", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | environment,
    )


def test_a_photo_becomes_a_face_in_the_folder(photo: Path, tmp_path: Path) -> None:
    assert run("synthesize", photo, "-o", tmp_path / "new" / "faces") == 0
    with PIL.Image.open(tmp_path / "new" / "faces" / "astronaut.face.png") as face:
        assert (face.format, face.size) == ("PNG", (128, 128))


def test_a_folder_goes_on_after_bad_files_and_lists_them(
    photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = photo.parent
    (folder / "a broken.png").write_bytes(fakes.encoded(fakes.astronaut())[:5000])
    (folder / "nobody.bmp").write_bytes(fakes.encoded(np.zeros((64, 64, 3), np.uint8), "bmp"))
    (folder / "notes.txt").write_text("no photo, and not taken for one")
    (folder / "deeper").mkdir()
    (folder / "deeper" / "second.JPG").write_bytes(photo.read_bytes())
    assert run("synthesize", folder, tmp_path / "gone.jpg", "-o", tmp_path / "faces") == 1
    names = {path.name for path in (tmp_path / "faces").iterdir()}
    assert names == {"astronaut.face.png", "second.face.png"} | MANIFESTS
    told = capsys.readouterr().err
    assert "2 of 5 photos have a face" in told and "3 failed:" in told
    assert re.search(r"a broken\.png: .* cut off or damaged", told)
    assert re.search(r"nobody\.bmp: No eye was found", told)
    assert re.search(r"gone\.jpg: No such file or directory\n", told)
    assert "left out: 1 .txt\n" in told


def test_no_input_is_overwritten_and_no_face_by_another(photo: Path) -> None:
    folder = photo.parent
    before = photo.read_bytes()
    tricky = folder / "astronaut.face.png"
    tricky.write_bytes(fakes.encoded(fakes.astronaut()[:256, 96:352]))
    same_stem = folder / "astronaut.png"
    same_stem.write_bytes(tricky.read_bytes())
    inputs = {path: path.read_bytes() for path in (photo, tricky, same_stem)}
    assert run("synthesize", folder, "-o", folder) == 0
    assert {path: path.read_bytes() for path in inputs} == inputs
    assert photo.read_bytes() == before
    new = {path.name for path in folder.iterdir()} - {path.name for path in inputs}
    assert new == {"astronaut-2.face.png", "astronaut-3.face.png", "astronaut.face.face.png"} | MANIFESTS


@pytest.mark.parametrize(
    ("format", "name"), [("jpeg", "astronaut.face.jpg"), ("webp", "astronaut.face.webp")]
)
def test_the_format_of_the_faces_is_chosen(photo: Path, tmp_path: Path, format: str, name: str) -> None:
    assert run("synthesize", photo, "-o", tmp_path, "--format", format) == 0
    assert (tmp_path / name).is_file()


def test_a_label_is_drawn_where_it_is_asked_for(photo: Path, tmp_path: Path) -> None:
    def draw(output: str, *label: str) -> Image:
        assert run("synthesize", photo, "-o", tmp_path / output, *label) == 0
        file = tmp_path / output
        return np.asarray(PIL.Image.open(file / "astronaut.face.png" if file.is_dir() else file))

    plain, labeled = draw("faces").astype(int), draw("faces", "--label")
    assert np.abs(labeled - plain)[-8:, -12:].max() > 60
    np.testing.assert_array_equal(draw("one.png", "--label"), labeled)


def test_every_person_gets_a_file(tmp_path: Path) -> None:
    two = tmp_path / "two.png"
    two.write_bytes(fakes.encoded(np.hstack([fakes.astronaut()[:256, 96:352]] * 2)))
    assert run("synthesize", two, "-o", tmp_path, "--person", "all") == 0
    assert {path.name for path in tmp_path.glob("*face*")} == {"two.face.png", "two.face-1.png"}


def test_a_picture_of_an_eye_needs_no_finder(tmp_path: Path) -> None:
    eye = tmp_path / "eye.png"
    eye.write_bytes(fakes.encoded(np.ascontiguousarray(fakes.astronaut()[90:112, 190:216])))
    assert run("synthesize", eye, "-o", tmp_path, "--input", "eye", "--eye", "left") == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["synthesize", "{photo}", "-o", "{photo}"], "is the photo itself"),
        (["synthesize", "{photo}", "-o", "{photo}/faces"], "Not a directory"),
        (["synthesize", "{photo}", "{photo}", "-o", "one.png"], "one face of one photo: name a folder"),
        (["synthesize", "{photo}", "-o", "-", "--person", "all"], "one face of one photo: name a folder"),
        (["synthesize", "{empty}", "-o", "one.png"], "one face of one photo: name a folder"),
        (
            ["synthesize", "{photo}", "-o", "one.webp", "--format", "png"],
            "of webp, but --format is png",
        ),
        (["synthesize", "{photo}", "-o", "{empty}/one.GIF"], r"written as \.png, \.jpg or \.webp"),
        (["synthesize", "{photo}", "-o", "-", "--json"], "both write to standard output"),
        (["eyes", "{photo}", "--overlay", "-", "--json"], "both write to standard output"),
        (["synthesize", "{photo}", "-", "-o", "{empty}"], "- is one photo"),
        (["synthesize", "{empty}", "-o", "{empty}"], "There are no photos in"),
        (["synthesize", "{photo}", "-o", "{empty}", "--person", "tall"], "--person is 'tall'"),
        (["synthesize", "{photo}", "-o", "{empty}", "--person", "9" * 5000], "--person is '9999"),
        (["eyes", "{empty}"], "Is a directory"),
        (["eyes", "{empty}/gone.jpg"], "No such file or directory"),
        (["eyes", "/dev/zero"], "/dev/zero: Not a regular file"),
        (["new-key", "--file", "/dev/zero"], "/dev/zero: Not a regular file"),
        (["eyes", "{model}"], "do not begin like a picture"),
        (["doctor", "--model", "huge"], "There is no model 'huge'"),
        (["doctor", "--device", "cuda"], r"no CUDA.*'\.\[gpu\]'"),
        (["serve", "--port", "70000"], "EYE2FACE_PORT: .* less than or equal to 65535"),
        (["serve", "--host", "0.0.0.0"], "EYE2FACE_ALLOW_ANONYMOUS"),
    ],
)
def test_what_cannot_be_done_is_told_in_one_line(
    arguments: list[str], said: str, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    places = {"photo": photo, "empty": tmp_path / "empty", "model": os.environ["EYE2FACE_MODEL"]}
    assert run(*(each.format(**places) for each in arguments)) == 1
    told = capsys.readouterr().err
    assert told.startswith("eye2face: ") and told.count("\n") == 1
    assert re.search(said, told)


@pytest.mark.parametrize(
    ("name", "kind"), [("one.png", "PNG"), ("one.JPG", "JPEG"), ("one.jpeg", "JPEG"), ("one.webp", "WEBP")]
)
def test_one_photo_becomes_one_file_in_the_format_of_its_ending(
    photo: Path, tmp_path: Path, name: str, kind: str
) -> None:
    assert run("synthesize", photo, "-o", tmp_path / name) == 0
    with PIL.Image.open(tmp_path / name) as face:
        assert (face.format, face.size) == (kind, (128, 128))
    assert {path.name for path in tmp_path.iterdir()} == {"photos", name}


def test_several_guesses_become_a_grid_in_one_file(
    photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("synthesize", photo, "--guesses", 3, "--seed", 7, "-o")
    assert run(*command, tmp_path / "grid.png", "--json") == 0
    row = json.loads(capsys.readouterr().out)
    assert row["output"] == str(tmp_path / "grid.png") and row["guesses"] == [] and row["spread"] > 0
    assert run(*command, tmp_path / "faces") == 0
    grid = np.asarray(PIL.Image.open(tmp_path / "grid.png"))
    names = ("face.png", "face.guess-1.png", "face.guess-2.png")
    faces = [np.asarray(PIL.Image.open(tmp_path / "faces" / f"astronaut.{name}")) for name in names]
    np.testing.assert_array_equal(
        grid, np.vstack([np.hstack(faces[:2]), np.hstack([faces[2], 0 * faces[2]])])
    )


@pytest.mark.parametrize(
    ("option", "value"), [("--guesses", 0), ("--guesses", 17), ("--seed", -1), ("--seed", 2**32)]
)
def test_guesses_and_seed_have_limits(
    photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, value: int
) -> None:
    assert run("synthesize", photo, "-o", tmp_path / "faces", option, value) == 2
    assert f"Invalid value for '{option}'" in capsys.readouterr().err
    assert not (tmp_path / "faces").exists()


def test_a_folder_may_have_the_name_of_a_picture(photo: Path, tmp_path: Path) -> None:
    assert run("synthesize", photo, "-o", f"{tmp_path}/new.png/") == 0
    assert run("synthesize", photo, "-o", f"{tmp_path}/new.gif/") == 0
    assert run("synthesize", photo, "-o", tmp_path / "new.png") == 0  # it exists
    assert (tmp_path / "new.png" / "astronaut.face.png").is_file()


def test_standard_input_becomes_a_face_on_standard_output(photo: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "service", "synthesize", "-", "-o", "-", "--format", "webp"]
    done = subprocess.run(command, cwd=ROOT, input=photo.read_bytes(), capture_output=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, b"")
    assert run("synthesize", photo, "-o", tmp_path / "one.webp") == 0
    assert fakes.pixels_of(done.stdout) == fakes.pixels_of((tmp_path / "one.webp").read_bytes())


def test_the_photo_on_standard_input_is_not_overwritten(photo: Path) -> None:
    before = photo.read_bytes()
    command = [sys.executable, "-m", "service", "synthesize", "-", "-o", str(photo)]
    with photo.open("rb") as standard:
        done = subprocess.run(command, cwd=ROOT, stdin=standard, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and "is the photo itself" in done.stderr
    assert photo.read_bytes() == before


def _stdin(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


def test_eyes_are_found_in_standard_input_and_drawn_to_standard_output(
    photo: Path, monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    _stdin(monkeypatch, photo.read_bytes())
    assert run("eyes", "-", "--overlay", "-") == 0
    with PIL.Image.open(io.BytesIO(capsysbinary.readouterr().out)) as seen:
        assert (seen.format, seen.size) == ("PNG", (512, 512))


def test_standard_input_has_the_limit_of_a_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EYE2FACE_MAX_PIXELS", "256")
    monkeypatch.setenv("EYE2FACE_MAX_UPLOAD_BYTES", "1000")
    _stdin(monkeypatch, bytes(1000 + 8 * 256 + 1))
    assert run("eyes", "-") == 1
    assert capsys.readouterr().err == "eye2face: standard input: Larger than 3,048 bytes\n"


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has a device that is full")
@pytest.mark.parametrize("command", [["eyes"], ["eyes", "--json"], ["synthesize", "-o", "-"]])
def test_an_output_that_is_full_is_named(command: list[str], photo: Path) -> None:
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "service", *command, photo], cwd=ROOT, stdout=full, stderr=subprocess.PIPE
        )
    assert ended.returncode == 1
    assert ended.stderr == b"eye2face: standard output: No space left on device\n"


def test_a_file_of_keys_for_which_there_is_no_room_is_named(tmp_path: Path) -> None:
    command = f"ulimit -f 0; exec {sys.executable} -m service new-key x --file {tmp_path}/keys.txt"
    ended = subprocess.run(["sh", "-c", command], cwd=ROOT, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (1, f"eye2face: {tmp_path}/keys.txt: File too large\n")


@pytest.mark.parametrize("mistaken", [lambda *_: int("no number"), lambda *_: EyesAnswer.model_validate({})])
def test_a_mistake_of_ours_is_no_sentence_but_a_traceback(
    mistaken: Callable[..., object], photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "read_input", mistaken)
    with pytest.raises(ValueError, match=r"invalid literal|EyesAnswer"):
        cli.main(["eyes", str(photo)])


@pytest.mark.slow
def test_what_codecs_write_does_not_stand_between_the_lines_of_a_folder(photo: Path, tmp_path: Path) -> None:
    damaged = bytearray(photo.read_bytes())
    damaged[len(damaged) // 2 : len(damaged) // 2 + 200] = bytes(200)
    photo.write_bytes(damaged)
    told = run_alone("synthesize", photo, "-o", tmp_path / "one.png").stderr
    assert "Corrupt JPEG data" in told  # of the only photo
    told = run_alone("synthesize", photo.parent, "-o", tmp_path / "faces").stderr
    assert "Corrupt JPEG data" not in told and " photos have a face in " in told


def test_without_a_face_no_file_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _stdin(monkeypatch, fakes.encoded(np.zeros((64, 64, 3), np.uint8)))
    assert run("synthesize", "-", "-o", tmp_path / "one.png") == 1
    assert capsys.readouterr().err.startswith("eye2face: -: No eye was found in the photo")
    assert not list(tmp_path.iterdir())


def test_nothing_is_created_before_photos_and_model_are_there(
    photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    faces = tmp_path / "faces"
    (tmp_path / "empty").mkdir()
    assert run("synthesize", tmp_path / "gone.jpg", "-o", faces) == 1
    assert capsys.readouterr().err == f"eye2face: {tmp_path / 'gone.jpg'}: No such file or directory\n"
    assert run("synthesize", tmp_path / "empty", "-o", faces) == 1
    monkeypatch.setenv("EYE2FACE_MODEL", "huge")
    assert run("synthesize", photo, "-o", faces) == 1
    assert not faces.exists()


@pytest.mark.slow
def test_a_terminal_gets_no_picture_and_is_no_photo(photo: Path) -> None:
    ours, terminal = os.openpty()
    for given, said in (
        (["eyes", "-"], "add < photo.jpg"),
        (["synthesize", photo, "-o", "-"], "add > face.png"),
    ):
        command = [sys.executable, "-m", "service", *map(str, given)]
        done = subprocess.run(
            command, cwd=ROOT, stdin=terminal, stdout=terminal, stderr=subprocess.PIPE, text=True, timeout=120
        )
        assert done.returncode == 1 and said in done.stderr
    os.close(ours)
    os.close(terminal)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("given", "said"),
    [(["eyes", "-"], "add < photo.jpg"), (["synthesize", "{photo}", "-o", "-"], "add > face.png")],
)
def test_streams_that_are_closed_are_told(given: list[str], said: str, photo: Path) -> None:
    command = shlex.join([sys.executable, "-m", "service", *(each.format(photo=photo) for each in given)])
    done = subprocess.run(
        ["sh", "-c", f"{command} <&- >&-"], cwd=ROOT, stderr=subprocess.PIPE, text=True, timeout=120
    )
    assert done.returncode == 1 and done.stderr.startswith("eye2face: ") and said in done.stderr


def test_on_a_terminal_the_progress_has_a_count_and_a_rate(photo: Path, tmp_path: Path) -> None:
    ours, terminal = os.openpty()
    command = [sys.executable, "-m", "service", "synthesize", str(photo), "-o", str(tmp_path / "faces")]
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "100"}
    done = subprocess.run(command, cwd=ROOT, stderr=terminal, timeout=120, env=environment)
    os.close(terminal)
    told = os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert done.returncode == 0
    assert "1/1" in told and re.search(r"\d\.\d/s", told)


def test_quiet_prints_errors_alone(photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("synthesize", photo, "-o", tmp_path / "faces", "--quiet") == 0
    assert capsys.readouterr() == ("", "")
    assert run("synthesize", photo, tmp_path / "gone.jpg", "-o", tmp_path / "faces", "-q") == 1
    assert capsys.readouterr() == ("", f"{tmp_path / 'gone.jpg'}: No such file or directory\n")


@pytest.mark.parametrize("jobs", [1, 3])
def test_jobs_are_the_photos_at_once(
    photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jobs: int
) -> None:
    for number in range(4):
        (photo.parent / f"{number}.jpg").write_bytes(photo.read_bytes())
    at_once: list[int] = []

    def count(worker: PhotoWorker, folder: OutputFolder, photos: list[Path], num_threads: int) -> object:
        at_once.append(num_threads)
        return draw_locally(worker, folder, photos, num_threads)

    monkeypatch.setattr(drawing, "draw_locally", count)
    assert run("synthesize", photo.parent, "-o", tmp_path, "-j", jobs) == 0
    assert at_once == [jobs]


def test_json_of_synthesize_is_the_lines_of_the_manifest(
    photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        assert run("synthesize", photo, "-o", tmp_path / "faces", "--json") == 0
        assert capsys.readouterr().out == (tmp_path / "faces" / "manifest.jsonl").read_text()
    assert run("synthesize", photo, "-o", tmp_path / "one.png", "--json") == 0
    row = json.loads(capsys.readouterr().out)
    assert (row["input"], row["output"], row["eye"]["side"]) == (
        str(photo),
        str(tmp_path / "one.png"),
        "right",
    )


def test_eyes_are_printed_as_the_service_answers_them(
    photo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("eyes", photo, "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer.keys() == {"not_for_identification", "width", "height", "eyes"}
    assert answer["not_for_identification"] is True
    assert (answer["width"], answer["height"]) == (256, 256)
    assert set(answer["eyes"][0]) == {
        "x", "y", "size_px", "roll_deg", "side", "score", "person", "quality",
    }  # fmt: skip
    assert [eye["side"] for eye in answer["eyes"]] == ["right", "left"]


def test_the_eyes_are_drawn_into_a_photo_that_is_asked_for(photo: Path, tmp_path: Path) -> None:
    assert run("eyes", photo, "--overlay", tmp_path / "seen.png") == 0
    with PIL.Image.open(tmp_path / "seen.png") as seen:
        assert (seen.format, seen.size) == ("PNG", (512, 512))


def test_the_overlay_replaces_neither_the_photo_nor_what_is_no_file(
    photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, folder = photo.read_bytes(), tmp_path / "folder"
    folder.symlink_to(photo.parent)
    (tmp_path / "soft").symlink_to(photo)
    (tmp_path / "hard").hardlink_to(photo)
    (tmp_path / "nowhere").symlink_to("nothing")
    os.mkfifo(tmp_path / "fifo")
    for same in (photo, tmp_path / "soft", tmp_path / "hard", folder / photo.name):
        assert run("eyes", photo, "--overlay", same) == run("eyes", same, "--overlay", photo) == 1
        assert "is the photo itself" in capsys.readouterr().err
    for other in ("fifo", "nowhere", "folder"):
        assert run("eyes", photo, "--overlay", tmp_path / other) == 1
        assert capsys.readouterr().err == f"eye2face: {tmp_path / other}: Not a regular file\n"
    assert photo.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 6 and len(list(photo.parent.iterdir())) == 1


def test_where_a_sandbox_is_required_the_eyes_are_found_in_one(
    photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("eyes", photo, "--json", "--overlay", tmp_path / "here.png") == 0
    here = capsys.readouterr().out
    monkeypatch.setattr(InProcessReader, "__call__", None)
    monkeypatch.setenv("EYE2FACE_SANDBOX", "required")
    assert run("eyes", photo, "--json", "--overlay", tmp_path / "there.png") == 0
    assert capsys.readouterr().out == here
    assert (tmp_path / "there.png").read_bytes() == (tmp_path / "here.png").read_bytes()
    monkeypatch.setenv("EYE2FACE_NUM_READERS", "0")
    assert run("eyes", photo) == 1
    assert "EYE2FACE_SANDBOX=required" in capsys.readouterr().err


def test_what_scored_too_low_is_printed_to_who_asks(
    photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tiny_finder(tmp_path / "eye_finder.onnx", [seen_right(100, 100, 40, logit=-1.0)])
    monkeypatch.setattr("service.inference.eye_finder.model_path", lambda name: path)
    monkeypatch.setenv("EYE2FACE_EYE_FINDER", "learned")
    assert run("eyes", photo, "--json", "--all") == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["eyes"] == []
    assert set(answer["below_threshold"][0]) == {"x", "y", "size_px", "roll_deg", "side", "score"}


def test_a_refused_eye_is_told_beside_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    two = np.hstack([fakes.astronaut(), np.asarray(fakes.astronaut() * 0.4, np.uint8)])
    (tmp_path / "two.png").write_bytes(fakes.encoded(two))
    monkeypatch.setenv("EYE2FACE_MIN_EYE_LIGHT", "0.5")
    assert run("synthesize", tmp_path / "two.png", "-o", tmp_path / "faces", "--person", "all") == 0
    assert len(list((tmp_path / "faces").glob("*.png"))) == 1
    assert re.search(r"eyes were refused.*\n.*two\.png: The brightest part", capsys.readouterr().err)


def test_eyes_are_printed_as_a_table(photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("eyes", photo) == 0
    table = capsys.readouterr().out
    assert [line.split()[:2] for line in table.splitlines()] == [
        ["person", "side"],
        ["0", "right"],
        ["0", "left"],
    ]


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["eyes", "{photo}"], ["eyes", "--help"], ["synthesize", "--help"]])
def test_a_narrow_terminal_without_unicode_shows_what_it_can(photo: Path, arguments: list[str]) -> None:
    named = [each.format(photo=photo) for each in arguments]
    done = run_alone(*named, PYTHONIOENCODING="ascii", COLUMNS="40")
    assert done.returncode == 0 and done.stdout.isascii() and not done.stderr, done.stderr


def test_a_damaged_photo_is_told_in_one_line(tmp_path: Path) -> None:
    data = bytearray(fakes.encoded(fakes.astronaut(), "avif"))
    data[10_000:10_400] = bytes(each ^ 0x5A for each in data[10_000:10_400])
    (tmp_path / "damaged.avif").write_bytes(data)
    done = run_alone("eyes", tmp_path / "damaged.avif")
    assert done.returncode == 1 and "as AVIF, but they cannot be read" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_photo_without_eyes_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "black.png").write_bytes(fakes.encoded(np.zeros((64, 64, 3), np.uint8)))
    assert run("eyes", tmp_path / "black.png") == 0
    assert "No eye was found." in capsys.readouterr().out


def test_the_doctor_tells_versions_model_device_and_speed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tiny_finder(tmp_path / "eye_finder.onnx", [seen_right(100, 100, 40)])
    monkeypatch.setattr("service.inference.eye_finder.model_path", lambda name: path)
    monkeypatch.setenv("EYE2FACE_EYE_FINDER", "learned")
    assert run("doctor") == 0
    told = capsys.readouterr().out
    facts = dict(line.split(maxsplit=1) for line in told.splitlines())
    assert re.search(r"^finder +learned: tiny_finder 0, open, ", told, flags=re.M)
    assert re.search(r"^detection +\d+\.\d ms", told, flags=re.M)
    assert {"eye2face", "python", "opencv", "onnxruntime", "cores", "licence_class", "sha256"} <= facts.keys()
    assert (facts["name"], facts["device"]) == ("tiny", "cpu")
    assert re.match(r"\d+\.\d ms a face", facts["inference"])
    assert facts["sandbox"] == "seccomp"
    assert told.splitlines()[-1] == f"verdict          {VERDICT}"
    assert run("doctor", "--json") == 0
    assert json.loads(capsys.readouterr().out)["verdict"] == VERDICT


def test_the_verdict_of_the_doctor_tells_of_licence_and_sandbox(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fakes.claim(fakes.tiny_model(tmp_path / "tiny.onnx"), licence_class="research")
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    monkeypatch.setenv("EYE2FACE_MODELS_DIR", str(tmp_path))
    monkeypatch.setenv("EYE2FACE_MODEL", "tiny")
    assert run("doctor") == 0
    verdict = "ready: tiny draws faces on cpu, for research only, and photos are not sandboxed"
    assert capsys.readouterr().out.endswith(f"{verdict}\n")


@pytest.mark.parametrize(("command", "why"), [
    ("/nowhere/python", "none: [Errno 2]"), (shutil.which("false"), "none: Command"),
])  # fmt: skip
def test_the_doctor_says_where_no_sandbox_can_be_tried(
    monkeypatch: pytest.MonkeyPatch, command: str, why: str
) -> None:
    monkeypatch.setattr(sys, "executable", command)
    assert examine_sandbox()["sandbox"].startswith(why)


def test_the_command_shows_its_version_and_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--version") == 0
    assert re.fullmatch(r"eye2face \d+\.\d+\.\d+\n", capsys.readouterr().out)
    assert run("--help") == 0
    told = capsys.readouterr().out
    assert all(command in told for command in ("serve", "synthesize", "eyes", "doctor"))
    assert "eye2face synthesize photo.jpg -o face.png" in told


def test_every_command_has_a_short_help_with_valid_examples(capsys: pytest.CaptureFixture[str]) -> None:
    group = typer.main.get_command(cli.app)
    assert isinstance(group, TyperGroup)
    for name, command in group.commands.items():
        assert run(name, "-h") == 0
        told = capsys.readouterr().out
        examples = re.findall(rf"^ (?:EYE2FACE_\w+=\S+ )*eye2face {name}(.*)$", told, flags=re.M)
        assert examples, name
        for example in examples:
            given = shlex.split(re.sub("[<>] *\\S+", "", example))
            assert command.make_context(name, given)


@pytest.mark.slow
@pytest.mark.parametrize(("typed", "offered"), [("syn", "synthesize"), ("synthesize --qu", "--quiet")])
def test_the_shell_completes_commands_and_options(typed: str, offered: str) -> None:
    words = f"eye2face {typed}"
    asked = {"_EYE2FACE_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    assert run_alone(**asked).stdout.split() == [offered]


def test_without_onnx_runtime_the_command_says_what_to_install(
    photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert run("synthesize", photo, "-o", tmp_path) == 1
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and "pip install '.[cpu]' in the checkout" in told
    monkeypatch.setenv("EYE2FACE_EYE_FINDER", "haar")  # needs no ONNX Runtime
    assert run("eyes", photo) == 0


@pytest.fixture
def server() -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "service", "serve", "--port", "0"]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.kill()


def test_serve_says_where_it_is_and_what_to_do_next(
    server: subprocess.Popen[str], photo: Path, tmp_path: Path
) -> None:
    assert server.stdout is not None
    told = ""
    while "Ctrl+C" not in told and (line := server.stdout.readline()):
        told += line
    (command,) = re.findall(r"curl .*", told)
    address = re.findall(r"http://127\.0\.0\.1:\d+", told)[0]
    assert f"{address}/synthesize" in command
    request = urllib.request.Request(
        f"{address}/synthesize", photo.read_bytes(), {"Content-Type": "image/jpeg"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert answer.read().startswith(b"\x89PNG")
    server.send_signal(signal.SIGINT)
    assert server.wait(timeout=30) == 0


def test_serve_with_a_model_that_is_not_there_ends_with_one_sentence() -> None:
    done = run_alone("serve", "--port", "0", "--model", "huge")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("eye2face: There is no model 'huge'")
    assert "Traceback" not in done.stderr


MALLOC = """
import resource
import numpy as np
from service.system.memory import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        np.ones((1080, 1920, 3), np.float64)  # 50 MB, more than glibc ever keeps by default
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

before = faults()
print(before, faults() if keep_freed_memory() else -1)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc only")
def test_freed_memory_is_kept_for_the_next_photo() -> None:
    done = subprocess.run(
        [sys.executable, "-c", MALLOC], cwd=ROOT, capture_output=True, text=True, check=True
    )
    before, after = map(int, done.stdout.split())
    if after == -1:
        pytest.skip("another C library")
    assert after < before / 5


SETTLED = """
import gc
from service.system.memory import freeze_garbage_collector

class Cycle:
    def __init__(self):
        self.itself = self

kept = [Cycle() for _ in range(1000)]
freeze_garbage_collector()
print(gc.get_freeze_count() > 1000, sum(isinstance(each, Cycle) for each in gc.get_objects()))
"""


def test_what_is_there_at_the_start_is_not_looked_through_again() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SETTLED], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["True", "0"]


def test_a_new_key_opens_what_its_line_stands_in(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "keys.txt"
    assert run("new-key", "gate camera", "--file", file) == 0
    said = capsys.readouterr()
    key = said.out.removesuffix("\n")
    assert KeyStore((), file).check(key) == ApiKey(hash_key(key), "gate camera")
    assert key not in file.read_text() + said.err


def test_without_a_file_the_line_is_printed_beside_the_key(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("new-key") == 0
    said = capsys.readouterr()
    assert said.err == hash_key(said.out.removesuffix("\n")) + "\n"
    assert run("new-key", "gate camera", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told == {"key": told["key"], "hash": hash_key(told["key"]), "name": "gate camera"}


def test_a_name_that_would_break_the_file_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("new-key", "two\nlines", "--file", tmp_path / "keys.txt") == 1
    assert "line break" in capsys.readouterr().err
    assert not (tmp_path / "keys.txt").exists()


def test_a_service_whose_file_of_keys_is_broken_does_not_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "keys.txt").write_text("a key in plain text")
    monkeypatch.setenv("EYE2FACE_API_KEYS_FILE", str(tmp_path / "keys.txt"))
    assert run("serve", "--host", "0.0.0.0") == 1
    said = capsys.readouterr().err
    assert "line 1" in said and "sha256sum" in said and "plain text" not in said
