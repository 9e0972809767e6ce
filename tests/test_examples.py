"""The programs of docs/examples.md, each run against a service."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import PIL.Image
import pytest

from tests.fakes import astronaut, encoded
from tests.real import require
from tests.running import run_service

TEXT = (Path(__file__).parent.parent / "docs" / "examples.md").read_text()
PROGRAMS = {"js": ("node", "face.mjs"), "java": ("java", "Face.java"), "python": ("python", "face.py")}


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with run_service() as address:
        yield address


def _run(language: str, address: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    tool, file = PROGRAMS[language]
    (program,) = re.findall(rf"```{language}\n(.*?)```", TEXT, flags=re.S)
    assert "http://127.0.0.1:8000/" in program and f"`{tool} {file}`" in TEXT
    (folder / file).write_text(program.replace("http://127.0.0.1:8000", address))
    command = [sys.executable if tool == "python" else require(tool), file]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)


def test_no_program_is_left_out() -> None:
    assert set(re.findall(r"^```(\w+)$", TEXT, flags=re.M)) == set(PROGRAMS)


@pytest.mark.slow
@pytest.mark.parametrize("language", PROGRAMS)
def test_a_program_writes_a_face(language: str, address: str, tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(encoded(astronaut(), "jpeg"))
    done = _run(language, address, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    with PIL.Image.open(tmp_path / "face.png") as face:
        assert (face.format, face.size) == ("PNG", (128, 128))


@pytest.mark.slow
@pytest.mark.parametrize("language", PROGRAMS)
def test_a_program_prints_the_error_message(language: str, address: str, tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"a shopping list")
    done = _run(language, address, tmp_path)
    assert done.returncode == 1 and "do not begin like a picture" in done.stderr
    assert not (tmp_path / "face.png").exists()
