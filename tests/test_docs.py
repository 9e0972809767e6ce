"""What the documents say is so: commands, targets, routes, settings, codes and files; the examples run."""

import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import PIL.Image
import pytest
import typer
import typer.main
from fastapi.testclient import TestClient
from typer.core import TyperGroup

import service.cli.main
import training.cli.main
from service import errors
from service.client.models import Synthesis
from service.errors import Eye2FaceError
from service.http.app import create_app
from service.settings import BridgeSettings, Settings
from tests.fakes import astronaut, encoded, tiny_model
from tests.real import REQUIRE_REAL
from tests.running import run_service
from tests.write_docs import find_between_marks, list_answered, list_variables, render_tables

pytestmark = pytest.mark.beside_others

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
DOCUMENTS = sorted(
    path for each in ("*", "docs/*", "deploy/*/*", "models/*") for path in ROOT.glob(f"{each}.md")
)
TEXT = "\n".join(path.read_text() for path in DOCUMENTS)


def test_the_generated_tables_are_up_to_date() -> None:
    stale = [
        mark
        for (document, mark), text in render_tables().items()
        if find_between_marks(document, mark) != text
    ]
    assert not stale, "write them anew: python -m tests.write_docs"


def test_the_drawing_of_the_tree_of_errors_is_the_tree() -> None:
    drawn = re.findall(r"[├└]── (\w+) +(\d{3}) (\w+)$", str(errors.__doc__), flags=re.M)
    kinds = [kind for kind in list_answered() if kind is not Eye2FaceError]
    assert drawn == [(kind.__name__, str(kind.status), kind.code) for kind in kinds]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_setting_that_a_document_names_exists(document: Path) -> None:
    named = set(re.findall(r"EYE2FACE_[A-Z_]+", document.read_text()))
    assert named - {REQUIRE_REAL} <= {*list_variables(Settings), *list_variables(BridgeSettings)}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_make_target_that_a_document_names_exists(document: Path) -> None:
    named = set(re.findall(r"(?:^|`)make ([a-z-]+)\b", document.read_text(), flags=re.M))
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.M))
    assert named <= targets


def test_every_make_target_is_explained() -> None:
    (phony,) = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), flags=re.M)
    # Under `make test` this make would tell which folder it enters.
    make = ["make", "--no-print-directory", "help"]
    said = subprocess.run(make, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert {line.split()[1] for line in said.splitlines()} == set(phony.split())


def test_every_route_that_the_documents_name_is_served_and_none_is_left_out() -> None:
    app = create_app(Settings())
    shown = set(re.findall(r"`(GET|POST) (/[a-z/]*)`", TEXT))
    client = TestClient(app)  # not started: what is there answers 503, what is not 404
    missing = {pair for pair in shown if client.request(*pair).status_code in (404, 405)}
    described = {(method.upper(), path) for path, item in app.openapi()["paths"].items() for method in item}
    assert not missing
    assert described <= shown


@pytest.mark.parametrize(
    ("prefix", "app"),
    [(".venv/bin/eye2face ", service.cli.main.app), (".venv/bin/python -m training ", training.cli.main.app)],
)
def test_the_documents_commands_exist_and_take_their_arguments_and_none_is_left_out(
    prefix: str, app: typer.Typer
) -> None:
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    lines = [line.removeprefix(prefix) for line in TEXT.splitlines() if line.startswith(prefix)]
    for line in lines:
        name, *arguments = shlex.split(line, comments=True)
        group.commands[name].make_context(name, arguments)
    started_by_make = {"serve"}
    assert {line.split()[0] for line in lines} | started_by_make >= set(group.commands)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_within_the_repository_leads_somewhere(document: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)[^)]*\)", document.read_text())
    assert not [link for link in links if not (document.parent / link).exists()]


def test_the_tree_in_contributing_shows_every_folder_and_nothing_that_is_not_there() -> None:
    block = (ROOT / "CONTRIBUTING.md").read_text().split("## Where things are\n\n```\n")[1].split("```")[0]
    top = ""
    shown: set[str] = set()
    for line in block.splitlines():
        name = line.split()[0]
        top = top if line.startswith("  ") else name
        shown.add(top + name if line.startswith("  ") else name)
    assert not [path for path in shown if not (ROOT / path).exists()]
    folders = {
        f"{path.parent.relative_to(ROOT).as_posix()}/"
        for package in ("service", "training")
        for path in (ROOT / package).rglob("__init__.py")
    }
    assert not folders - shown


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[str]:
    """The address of a service that runs as `make serve` starts it, with a small model of its own."""
    with run_service(model=tiny_model(tmp_path / "tiny.onnx")) as address:
        yield address


def test_the_readmes_curl_examples_each_write_a_face(serving: str, tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    blocks = [block for block in re.findall(r"```sh\n(.*?)```", README, flags=re.S) if "curl" in block]
    examples = [each for block in blocks for each in re.split(r"^# .*\n", block, flags=re.M) if each.strip()]
    assert len(examples) == 3
    (tmp_path / "photo.jpg").write_bytes(encoded(astronaut(), "jpeg"))
    for example in examples:
        (tmp_path / "face.png").unlink(missing_ok=True)
        told = example.replace("http://127.0.0.1:8000", serving)
        subprocess.run(["sh", "-ec", told], cwd=tmp_path, check=True, capture_output=True, timeout=30)
        with PIL.Image.open(tmp_path / "face.png") as face:
            assert face.size == (128, 128), example


def test_the_python_example_draws_a_face(serving: str, tmp_path: Path) -> None:
    (example,) = [
        block for block in re.findall(r"```python\n(.*?)```", TEXT, flags=re.S) if "Client" in block
    ]
    (tmp_path / "photo.jpg").write_bytes(encoded(astronaut(), "jpeg"))
    told = example.replace("http://127.0.0.1:8000", serving).replace("photo.jpg", str(tmp_path / "photo.jpg"))
    made: dict[str, object] = {}
    exec(told, made)
    everybody = made["everybody"]
    assert isinstance(everybody, Synthesis)
    assert [face.format for face in everybody.faces] == ["jpeg"]
    assert str(made["face"]).startswith("b'\\x89PNG")
