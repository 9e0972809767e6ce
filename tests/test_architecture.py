"""The dependency rules of both packages: which folder may import which, and what a module must not know."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes import astronaut, encoded, tiny_model

ROOT = Path(__file__).parent.parent

SERVICE = (
    ("errors",),
    ("settings", "observability"),
    ("system", "vision", "client"),
    ("inference",),
    ("decoding",),
    ("selection",),
    ("pipeline",),
    ("access",),
    ("provenance",),
    ("engine",),
    ("http", "folder"),
    ("bridge",),
    ("cli",),
    ("__main__",),
)
"""Folders and top modules of `service`, from the ground up: each imports only what stands in a line above."""

TRAINING = (
    ("errors",),
    ("markdown",),
    ("data",),
    ("loop",),
    ("synthesizer",),
    ("export",),
    ("finder",),
    ("evaluation",),
    ("cli",),
    ("__main__",),
)
"""The same of `training`."""

FROM_SERVICE = {
    "data": {"errors", "system", "vision", "inference"},
    "loop": {"errors", "system", "vision"},
    "synthesizer": {"errors", "vision"},
    "export": {"errors", "vision", "inference"},
    "finder": {"errors", "vision", "inference", "pipeline", "selection"},
    "evaluation": {"errors", "system", "vision", "inference"},
    "cli": {"errors", "vision", "inference", "pipeline", "decoding"},
}
"""What each folder of `training` may take from the service: both make crops and run models by one code."""

HTTP = {"access", "bridge", "client", "http"}
"""The folders of the service that may know of HTTP."""


def _modules(package: str) -> dict[str, Path]:
    files = sorted((ROOT / package).rglob("*.py"))
    return {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in files}


def _trees(package: str) -> Iterator[tuple[str, ast.Module]]:
    for name, path in _modules(package).items():
        yield name, ast.parse(path.read_text())


def _imports(tree: ast.Module) -> set[str]:
    """Every module that is imported, anywhere in it; of `from a import b` both a and a.b."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import"
            names.add(str(node.module))
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def _tops(tree: ast.Module) -> set[str]:
    """The top packages that are imported."""
    return {name.split(".")[0] for name in _imports(tree)}


def _room(module: str) -> str:
    """The folder or top module of a dotted name; empty for the package itself."""
    return [*module.split("."), ""][1]


def _rooms(tree: ast.Module, package: str) -> set[str]:
    """The folders and top modules of the package that are imported."""
    known = {_room(name) for name in _modules(package)}
    ours = {_room(name) for name in _imports(tree) if name.split(".")[0] == package}
    return ours & known - {"__init__", ""}


@pytest.mark.parametrize(("package", "floors"), [("service", SERVICE), ("training", TRAINING)])
def test_a_folder_imports_only_what_lies_below_it(package: str, floors: tuple[tuple[str, ...], ...]) -> None:
    level = {room: number for number, rooms in enumerate(floors) for room in rooms}
    assert set(level) == {_room(name) for name in _modules(package)} - {"__init__"}
    upwards = {
        (_room(name), room)
        for name, tree in _trees(package)
        for room in _rooms(tree, package) - {_room(name)}
        if level[room] >= level[_room(name)]
    }
    assert upwards == set()


def test_a_folder_holds_at_most_sixteen_modules() -> None:
    paths = [path for package in ("service", "training") for path in _modules(package).values()]
    folders = [path.parent.relative_to(ROOT).as_posix() for path in paths if path.name != "__init__.py"]
    too_many = {folder: folders.count(folder) for folder in folders if folders.count(folder) > 16}
    assert too_many == {}


def test_training_takes_from_the_service_only_what_both_must_do_alike() -> None:
    for name, tree in _trees("training"):
        taken = _rooms(tree, "service")
        assert taken <= FROM_SERVICE.get(_room(name), set()), name


def test_the_service_names_neither_training_nor_torch() -> None:
    for name, tree in _trees("service"):
        assert not _tops(tree) & {"training", "torch", "lightning_fabric", "onnx", "onnxscript", "tests"}, (
            name
        )


def test_only_the_http_side_of_the_service_knows_of_http() -> None:
    for name, tree in _trees("service"):
        if _room(name) not in HTTP:
            assert not _tops(tree) & {"fastapi", "starlette", "uvicorn", "httpx", "http"}, name


def test_only_two_modules_know_of_ray_and_nothing_needs_them_but_the_command() -> None:
    trees = dict(_trees("service"))
    of_ray = [name for name, tree in trees.items() if "ray" in _tops(tree)]
    assert of_ray == ["service.folder.ray", "service.http.ray_serve"]
    assert [name for name, tree in trees.items() if _imports(tree) & set(of_ray)] == [
        "service.cli.synthesize"
    ]


def test_only_the_settings_read_the_environment() -> None:
    for name, tree in _trees("service"):
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute):
                reads = node.attr in ("getenv", "get") and "environ" in ast.unparse(node)
            elif isinstance(node, ast.Subscript):
                reads = isinstance(node.ctx, ast.Load) and "environ" in ast.unparse(node.value)
            else:
                continue
            assert not reads, f"{name}: {ast.unparse(node)}"


def test_the_client_takes_nothing_of_the_service_but_its_errors() -> None:
    for name, tree in _trees("service"):
        if _room(name) == "client":
            assert _rooms(tree, "service") <= {"client", "errors"}, name


def test_the_public_name_takes_the_client_and_the_errors_alone_and_nothing_of_ours_needs_it() -> None:
    (tree,) = dict(_trees("eye2face")).values()
    assert _tops(tree) == {"service"}
    assert _rooms(tree, "service") == {"client", "errors"}
    for name, other in [*_trees("service"), *_trees("training")]:
        assert "eye2face" not in _tops(other), name


def test_only_images_translates_the_errors_of_opencv() -> None:
    for name, tree in _trees("service"):
        caught = [node.type for node in ast.walk(tree) if isinstance(node, ast.ExceptHandler) and node.type]
        if name != "service.vision.images":
            assert not any("cv2.error" in ast.unparse(each) for each in caught), name


def test_nothing_is_measured_by_a_clock_that_may_jump() -> None:
    for name, tree in _trees("service"):
        attributes = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        assert "time.time" not in attributes, name


WITHOUT_TORCH = """
import pathlib, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "training", "lightning_fabric", "onnx", "onnxscript"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
from starlette.testclient import TestClient
from service.http.app import create_app
from service.settings import Settings

model, photo = sys.argv[1:]
with TestClient(create_app(Settings(model=model, device="cpu"))) as client:
    assert client.get("/readyz").status_code == 200
    form = {"Content-Type": "image/png"}
    face = client.post("/synthesize?input=eye", content=pathlib.Path(photo).read_bytes(), headers=form)
    assert face.status_code == 200, face.text
    assert face.headers["content-type"] == "image/png"
assert "torch" not in sys.modules
"""


def test_the_service_starts_and_answers_where_torch_cannot_be_imported(tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "tiny.onnx")
    photo = tmp_path / "photo.png"
    photo.write_bytes(encoded(astronaut()))
    command = [sys.executable, "-W", "error", "-c", WITHOUT_TORCH, str(model), str(photo)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
