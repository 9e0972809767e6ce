import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from service.access.api_keys import ApiKey, KeyStore, hash_key
from service.cli import main as cli
from service.cli.doctor import examine_sandbox
from service.decoding.reader import InProcessReader
from tests import fakes
from tests.fake_finders import seen_right, tiny_finder

ROOT = Path(__file__).parents[3]
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
    assert "notes.txt" not in told


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
        (["synthesize", "{photo}", "-o", "{photo}"], "File exists"),
        (["synthesize", "{empty}", "-o", "{empty}"], "There are no photos in"),
        (["synthesize", "{photo}", "-o", "{empty}", "--person", "tall"], "--person is 'tall'"),
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


@pytest.mark.parametrize("arguments", [["eyes", "{photo}"], ["eyes", "--help"], ["synthesize", "--help"]])
def test_a_narrow_terminal_without_unicode_shows_what_it_can(photo: Path, arguments: list[str]) -> None:
    named = [each.format(photo=photo) for each in arguments]
    done = run_alone(*named, PYTHONIOENCODING="ascii", COLUMNS="40")
    assert done.returncode == 0 and done.stdout.isascii() and not done.stderr, done.stderr


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
    assert KeyStore((), file).ring().check(key) == ApiKey(hash_key(key), "gate camera")
    assert key not in file.read_text() + said.err


def test_without_a_file_the_line_is_printed_beside_the_key(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("new-key") == 0
    said = capsys.readouterr()
    assert said.err == hash_key(said.out.removesuffix("\n")) + "\n"


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
