import json
from pathlib import Path

import pytest

from tests.fakes import astronaut, encoded
from tests.service.cli.test_main import run
from tests.service.provenance.test_marking import SECRET
from tests.service.provenance.test_verification import face_file


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    (tmp_path / "secret").write_bytes(SECRET)
    monkeypatch.setenv("EYE2FACE_MARKING_SECRET_FILE", str(tmp_path / "secret"))
    contents = {
        "face.png": face_file(),
        "theirs.png": face_file(b"another"),
        "photo.png": encoded(astronaut()),
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    return [tmp_path / name for name in contents]


def test_each_file_gets_its_verdict(files: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert run("verify", *files) == 0
    face, theirs, photo = capsys.readouterr().out.splitlines()
    assert face.startswith(f"{files[0]}: bears_our_mark (watermark ")
    assert "metadata: eye2face synthesizer, 20" in face
    assert theirs.startswith(f"{files[1]}: claims_to_be_synthetic (")
    assert photo.startswith(f"{files[2]}: nothing_found (watermark ")


def test_json_has_a_line_for_each_file(files: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert run("verify", *files, "--json") == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [each["file"] for each in found] == [str(file) for file in files]
    assert [each["verdict"] for each in found] == [
        "bears_our_mark", "claims_to_be_synthetic", "nothing_found",
    ]  # fmt: skip
    assert found[0]["watermark"]["found"] is True


def test_what_cannot_be_read_is_named_and_hides_no_other_picture(
    files: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.png").write_text("no picture")
    assert run("verify", tmp_path / "text.png", tmp_path / "gone.png", files[0]) == 1
    told = capsys.readouterr()
    text, gone = told.err.splitlines()
    assert text.startswith(f"eye2face: {tmp_path / 'text.png'}: The bytes do not begin like a picture.")
    assert gone == f"eye2face: {tmp_path / 'gone.png'}: No such file or directory"
    assert told.out.startswith(f"{files[0]}: bears_our_mark (")
