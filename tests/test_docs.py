"""Documents: generated tables are up to date, what is named exists, examples run, texts stay short."""

import importlib.util
import json
import re
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import httpx
import jsonschema_rs
import PIL.Image
import pytest
import typer
import typer.main
import yaml
from fastapi.testclient import TestClient
from typer.core import TyperGroup

import service.cli.main
import training.cli.main
from service import __version__
from service.client.models import Synthesis
from service.http.app import create_app
from service.settings import BridgeSettings, Settings
from tests.fakes import astronaut, encoded, tiny_model
from tests.real import REQUIRE_REAL
from tests.running import run_service
from tests.write_docs import find_between_marks, list_answered, list_variables, openapi, render_tables
from training.synthesizer.recipes import RECIPES

ROOT = Path(__file__).parent.parent
DOCUMENTS = {
    path.relative_to(ROOT).as_posix(): path.read_text("utf-8")
    for folder in ("*", "docs/*", "deploy/*/*", "models/*")
    for path in sorted(ROOT.glob(f"{folder}.md"))
}
README = DOCUMENTS["README.md"]
HTTP_API = DOCUMENTS["docs/http-api.md"]
TEXT = "\n".join(DOCUMENTS.values())


def test_the_generated_tables_are_up_to_date() -> None:
    tables = render_tables().items()
    stale = [mark for (document, mark), text in tables if find_between_marks(document, mark) != text]
    assert not stale, "write them anew: python -m tests.write_docs"


def test_every_setting_that_is_named_exists() -> None:
    named = set(re.findall(r"EYE2FACE_[A-Z0-9_]*[A-Z]", TEXT)) - {"EYE2FACE_BRIDGE"}
    assert named <= {*list_variables(Settings), *list_variables(BridgeSettings), REQUIRE_REAL}


def test_every_make_target_that_is_named_exists() -> None:
    named = set(re.findall(r"(?:^|`| )make ([a-z-]+)\b(?=`|$| [A-Z]+=| +#)", TEXT, flags=re.M))
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), flags=re.M))
    assert {"serve", "develop", "test"} <= named <= targets


def test_every_make_target_is_explained() -> None:
    phony = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text("utf-8"), flags=re.M)
    # Under `make test` this make would tell which folder it enters.
    make = ["make", "--no-print-directory", "help"]
    said = subprocess.run(make, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    explained = {line.split()[1] for line in said.splitlines()}
    assert explained == set(" ".join(phony).split())


def test_every_route_that_is_named_is_served_and_none_is_left_out() -> None:
    named = set(re.findall(r"`(GET|POST) (/[a-z0-9/{}]*)`", HTTP_API))
    client = TestClient(create_app(Settings()))  # not started: what is there answers 503, what is not 404
    missing = {pair for pair in named if client.request(*pair).status_code in (404, 405)}
    described = {(method.upper(), path) for path, item in openapi()["paths"].items() for method in item}
    assert not missing
    assert described <= named


COMMANDS = {"eye2face": service.cli.main.app, "python -m training": training.cli.main.app}


def _group(app: typer.Typer) -> TyperGroup:
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    return group


def _lines(prefix: str) -> list[str]:
    """The command lines in code blocks, without the prefix and variables before it."""
    blocks = re.findall(r"```sh\n(.*?)```", TEXT, flags=re.S)
    found = re.findall(rf"^(?:\w+=\S+ )*(?:\.venv/bin/)?{prefix} (.*)$", "\n".join(blocks), flags=re.M)
    return [str(line) for line in found]


def test_every_command_line_is_valid_and_no_command_is_left_out() -> None:
    for prefix, app in COMMANDS.items():
        group = _group(app)
        for line in _lines(prefix):
            name, *arguments = shlex.split(line, comments=True)
            group.commands[name].make_context(name, arguments)
        assert {line.split()[0] for line in _lines(prefix)} | {"doctor"} >= set(group.commands)


def test_every_recipe_that_is_named_exists() -> None:
    assert set(re.findall(r"--recipe ([\w-]+)", TEXT)) <= set(RECIPES)


def test_every_option_of_a_command_named_in_a_sentence_exists() -> None:
    for app in COMMANDS.values():
        for name, command in _group(app).commands.items():
            options = {
                option for parameter in command.params for option in parameter.opts + parameter.secondary_opts
            }
            spans = re.findall(rf"`(?:eye2face |python -m training )?{name}( [^`]*)`", TEXT)
            named = {option for span in spans for option in re.findall(r"--[a-z-]+", span)}
            assert named <= options, name


def test_every_module_that_is_run_exists_and_has_the_options_shown() -> None:
    for name, rest in re.findall(r"python -m ((?:bench|tests)\.[\w.]+)([^`\n]*)", TEXT):
        found = importlib.util.find_spec(name)
        assert found is not None and found.origin is not None, name
        source = Path(found.origin).read_text("utf-8")
        missing = [option for option in re.findall(r"--[a-z-]+", rest) if f'"{option}"' not in source]
        assert not missing, name


def test_every_option_of_make_bench_exists() -> None:
    source = (ROOT / "bench" / "run.py").read_text("utf-8")
    named = {
        option for given in re.findall(r"BENCH='([^']*)'", TEXT) for option in re.findall(r"--[a-z-]+", given)
    }
    assert named and all(f'"{option}"' in source for option in named)


def test_every_path_that_is_named_exists() -> None:
    folders = "service|training|tests|bench|deploy|docs|examples|models"
    path = rf"(?:{folders})/[\w./-]*\w/?"
    blocks = re.findall(r"```sh\n(.*?)```", TEXT, flags=re.S)
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", TEXT, flags=re.S))
    words = {word for code in blocks + spans for word in code.split()}
    assert not [word for word in words if re.fullmatch(path, word) and not (ROOT / word).exists()]


def test_every_topic_of_the_bridge_that_is_named_is_published() -> None:
    source = "".join(path.read_text("utf-8") for path in (ROOT / "service" / "bridge").glob("*.py"))
    named = re.findall(r"`eye2face(?:/<camera>)?/(\w+)`", DOCUMENTS["docs/bridge.md"])
    assert named and all(f'}}/{topic}"' in source for topic in named)


def test_every_error_that_is_named_with_a_status_has_it() -> None:
    named = {(int(status), code) for status, code in re.findall(r"\b([45]\d\d)\s`([a-z_]+)`", TEXT)}
    assert named and named <= {(kind.status, kind.code) for kind in list_answered()}


def test_every_header_of_ours_that_is_named_exists() -> None:
    source = "".join(path.read_text("utf-8") for path in (ROOT / "service").rglob("*.py"))
    named = set(re.findall(r"\bX-[A-Z][A-Za-z-]+", TEXT))
    assert named and not [header for header in named if header not in source]


def test_every_extra_that_is_named_exists() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    named = {extra for given in re.findall(r"'\.\[([\w,-]+)\]'", TEXT) for extra in given.split(",")}
    assert named and named <= set(project["optional-dependencies"])


def test_every_profile_of_compose_that_is_named_exists() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))["services"].values()
    named = set(re.findall(r"--profile ([\w-]+)", TEXT))
    assert named and named <= {profile for each in services for profile in each.get("profiles", ())}


def test_every_system_that_the_results_explain_was_measured() -> None:
    table = DOCUMENTS["docs/results.md"].split("| system | objective |\n|---|---|\n")[1].split("\n\n")[0]
    named = {name for row in table.splitlines() for name in re.findall(r"`([^`]+)`", row.split("|")[1])}
    rows = find_between_marks(ROOT / "docs" / "results.md", "EXPERIMENT").split("\n\n")[0].splitlines()[2:]
    measured = {row.split("|")[1].strip().split(",")[0].removesuffix("-64") for row in rows}
    assert {name.removesuffix("-64") for name in named} == measured


def _slugs(document: str) -> set[str]:
    """The anchors that GitHub gives to the headings of a document."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", DOCUMENTS[document], flags=re.S), flags=re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_link_leads_to_a_file_and_an_anchor() -> None:
    for name, text in DOCUMENTS.items():
        for link in re.findall(r"\]\((?!https?:)([^)]+)\)", text):
            path, _, anchor = link.partition("#")
            target = ((ROOT / name).parent / path).resolve() if path else ROOT / name
            assert target.exists(), f"{name}: {link}"
            if anchor:
                assert anchor in _slugs(target.relative_to(ROOT).as_posix()), f"{name}: {link}"


def test_every_document_is_linked_from_the_readme_and_the_index() -> None:
    for path in (ROOT / "docs").glob("*.md"):
        if path.name != "index.md":
            assert f"(docs/{path.name}" in README
            assert f"({path.name}" in DOCUMENTS["docs/index.md"]


def test_texts_stay_short() -> None:
    lines = README.splitlines()
    assert len(lines) <= 150 and len(README.encode()) <= 9_000
    assert any("Apache License 2.0" in line for line in lines[:25]), "the license belongs on the first screen"
    assert "<!-- JSON -->" in lines[:60], "the JSON belongs on the second screen"
    first = re.split(r"^## ", DOCUMENTS["CHANGELOG.md"], flags=re.M)[1]
    assert len(first.rstrip().splitlines()) <= 30
    assert first.split()[0] == __version__
    for entry in re.split(r"^## ", DOCUMENTS["DECISIONS.md"], flags=re.M)[1:]:
        title, *body = entry.strip().splitlines()
        assert len(body) <= 6, title


def test_the_tree_in_contributing_shows_every_folder_and_nothing_that_is_not_there() -> None:
    block = DOCUMENTS["CONTRIBUTING.md"].split("## Where things are\n\n```\n")[1].split("```")[0]
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


def _schema(operation: str, *, shortened: bool) -> dict[str, Any]:
    """The JSON schema of an operation's answer, without further properties; a shortened one may lack some."""
    method, path = operation.split()
    components = deepcopy(openapi()["components"])
    for shape in components["schemas"].values():
        shape["additionalProperties"] = False
        if shortened:
            shape.pop("required", None)
    answer = openapi()["paths"][path][method.lower()]["responses"]["200"]["content"]["application/json"]
    return {**answer["schema"], "components": components}


def test_every_json_example_is_valid() -> None:
    examples = dict(re.findall(r"<!-- ([^>]*) -->\n```json\n(.*?)```", HTTP_API, flags=re.S))
    problem = json.loads(examples.pop("PROBLEM"))
    for operation, example in examples.items():
        shortened = operation == "POST /synthesize/batch"
        jsonschema_rs.validate(_schema(operation, shortened=shortened), json.loads(example))
    assert len(examples) + 1 == HTTP_API.count("```json")
    schema = _schema("POST /synthesize", shortened=False) | {"$ref": "#/components/schemas/Problem"}
    jsonschema_rs.validate(schema, problem)
    (example,) = re.findall(r"```json\n(.*?)```", README, flags=re.S)
    jsonschema_rs.validate(_schema("POST /synthesize", shortened=True), json.loads(example))


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a service with a small model."""
    with run_service(model=tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx")) as address:
        yield address


def _run(example: str, folder: Path, address: str) -> "subprocess.CompletedProcess[bytes]":
    told = example.replace("http://127.0.0.1:8000", address)
    return subprocess.run(["sh", "-ec", told], cwd=folder, capture_output=True, timeout=30)


def _curls(text: str) -> list[str]:
    blocks = [block for block in re.findall(r"```sh\n(.*?)```", text, flags=re.S) if "curl" in block]
    return [each for block in blocks for each in re.split(r"^# .*\n", block, flags=re.M) if each.strip()]


@pytest.mark.slow
def test_every_curl_example_writes_a_face(address: str, tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    for name in ("photo.jpg", "a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(encoded(astronaut(), "jpeg"))
    examples = _curls(README) + _curls(HTTP_API)
    assert len(examples) == 6
    for example in examples:
        done = _run(example, tmp_path, address)
        assert done.returncode == 0, done.stderr
        if "faces.zip" in example:
            assert (tmp_path / "faces.zip").read_bytes().startswith(b"PK")
            continue
        name, side = ("faces.png", 3 * 128) if "layout=grid" in example else ("face.png", 128)
        with PIL.Image.open(tmp_path / name) as face:
            assert face.size == (side, side), example
        (tmp_path / name).unlink()


def test_the_readmes_curl_example_writes_no_error_into_the_picture(address: str, tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    (tmp_path / "photo.jpg").write_bytes(b"not a photo")
    (example,) = _curls(README)
    assert _run(example, tmp_path, address).returncode == 22
    assert not (tmp_path / "face.png").exists()
    told = _run(example.replace("curl -f", "curl").replace("-o face.png", ""), tmp_path, address).stdout
    assert json.loads(told)["code"] == "not_an_image"


def test_the_clients_example_draws_faces(address: str, tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(encoded(astronaut(), "jpeg"))
    (example,) = re.findall(r"```python\n(.*?)```", DOCUMENTS["docs/client.md"], flags=re.S)
    told = example.replace("http://127.0.0.1:8000", address).replace("photo.jpg", str(tmp_path / "photo.jpg"))
    made: dict[str, object] = {}
    exec(told, made)
    synthesis = made["synthesis"]
    assert isinstance(synthesis, Synthesis)
    assert [face.format for face in synthesis.faces] == ["jpeg"]
    assert str(made["face"]).startswith("b'\\x89PNG")


def test_every_metric_is_documented_and_exists(address: str) -> None:
    told = httpx.get(f"{address}/metrics").text
    names = set(re.findall(r"^# HELP (eye2face_\w+)", told, flags=re.M))
    served = {name for name in names if not name.endswith("_created")}
    assert set(re.findall(r"^\| `(eye2face_\w+)`", DOCUMENTS["docs/operations.md"], flags=re.M)) == served
