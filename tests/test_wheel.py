"""The wheel, installed where nothing of the checkout is: new environment, other folder, empty home."""

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from service import __version__
from tests.fakes import astronaut, encoded

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    folder = tmp_path_factory.mktemp("dist")
    _run([sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)], ROOT)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def elsewhere(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a photo and, in `.venv`, the wheel without any extra."""
    folder = tmp_path_factory.mktemp("elsewhere")
    (folder / "home").mkdir()
    (folder / "photo.jpg").write_bytes(encoded(astronaut(), "jpeg"))
    venv.create(folder / ".venv")
    _install(folder, str(wheel))
    return folder


def test_the_wheel_holds_what_the_checkout_holds(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as packed:
        names = set(packed.namelist())
    served = (path for path in (ROOT / "models").iterdir() if path.suffix != ".safetensors")
    models = {f"service/models/{path.name}" for path in served}
    assert {"service/models/synthesizer.onnx", "service/models/MODEL_CARD.md"} <= models
    web = {
        path.relative_to(ROOT).as_posix() for path in (ROOT / "service/http/web").rglob("*") if path.is_file()
    }
    assert models | web <= names and not any(name.endswith(".safetensors") for name in names)
    assert {"eye2face/__init__.py", "eye2face/py.typed", "service/py.typed"} <= names
    strange = {name.split("/")[0] for name in names} - {
        "eye2face",
        "service",
        "training",
        f"eye2face-{__version__}.dist-info",
    }
    assert not strange


CALLER = """
from eye2face import Client

face: int = Client().synthesize("photo.jpg")
"""


def test_a_type_checker_sees_the_types_of_the_installed_client(elsewhere: Path) -> None:
    (elsewhere / "caller.py").write_text(CALLER)
    mypy = [sys.executable, "-m", "mypy", "--python-executable", _python(elsewhere), "caller.py"]
    told = _run(mypy, elsewhere, check=False).stdout
    assert 'expression has type "bytes", variable has type "int"' in told
    assert "Found 1 error" in told


def test_without_a_runtime_the_command_says_which_extra_to_install(elsewhere: Path) -> None:
    refused = _eye2face(elsewhere, "synthesize", "photo.jpg", "-o", "none", check=False)
    assert refused.returncode != 0
    said = " ".join((refused.stdout + refused.stderr).split())
    assert "'.[cpu]' in the checkout" in said and "[gpu]" in said
    assert "Traceback" not in said


def test_with_the_cpu_runtime_it_draws_a_face_and_leaves_nothing_behind(wheel: Path, elsewhere: Path) -> None:
    _install(elsewhere, f"{wheel}[cpu]")
    installed = _pip(elsewhere, "list", "--format=freeze")
    assert "torch" not in installed and "onnxruntime==" in installed
    _eye2face(elsewhere, "synthesize", "photo.jpg", "-o", "faces")
    (face,) = (elsewhere / "faces").glob("*.png")
    png = face.read_bytes()
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    assert (int.from_bytes(png[16:20]), int.from_bytes(png[20:24])) == (192, 192)
    # ONNX Runtime writes a device identifier there and reports to its maker unless it is told not to.
    assert not list((elsewhere / "home").rglob("*"))


def _install(folder: Path, what: str) -> None:
    constraints = str(ROOT / "constraints.txt")
    _pip(folder, "install", "--quiet", "--no-compile", "--constraint", constraints, what)


def _pip(folder: Path, *arguments: str) -> str:
    """The environment has no pip of its own, which would take longer to install than all the rest."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", _python(folder)]
    return _run([*pip, *arguments], folder).stdout


def _python(folder: Path) -> str:
    return str(folder / ".venv/bin/python")


def _eye2face(folder: Path, *arguments: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "XDG_", "ORT_"))
    }
    command = [str(folder / ".venv/bin/eye2face"), *arguments]
    return _run(command, folder, clean | {"HOME": str(folder / "home")}, check=check)


def _run(
    command: list[str], folder: Path, environ: dict[str, str] | None = None, *, check: bool = True
) -> "subprocess.CompletedProcess[str]":
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 or not check, f"{command}\n{done.stdout}\n{done.stderr}"
    return done
