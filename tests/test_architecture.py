"""What may import what, and what the service must be able to do without."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fakes import astronaut, encoded, tiny_model

pytestmark = pytest.mark.beside_others

ROOT = Path(__file__).parent.parent

# From the ground up: a module of the service imports only what stands above its own line.
SERVICE = (
    (
        "errors",
        "settings",
        "cgroups",
        "metrics",
        "logs",
        "changes",
        "hangups",
        "heads",
        "connections",
        "accept",
        "pages",
        "candidates",
        "manifest",
        "retries",
        "sharing",
        "tracing",
    ),
    ("cores", "memory", "parcels", "sandbox"),
    ("formats", "forms", "auth", "limits", "queries", "batching", "workers", "patience", "tls", "watching"),
    ("replies", "frigate", "broker"),
    ("images", "bodies", "admission", "client", "notices", "jobs"),
    ("eyes", "bridge"),
    ("synthesizer", "overlay", "quality", "refiner"),
    ("eye_finder", "photo", "self_test", "drawer"),
    ("reading", "catalogue"),
    ("pipeline", "reader", "readers"),
    ("marking", "live"),
    ("engine",),
    ("answers", "bulk"),
    ("batch", "bulk_ray"),
    ("problems", "openapi", "direct"),
    ("app", "doctor"),
    ("server",),
    ("cli", "replica"),
    ("__main__",),
)
ALONE = {
    "errors",
    "settings",
    "cgroups",
    "changes",
    "hangups",
    "metrics",
    "logs",
    "retries",
    "sharing",
    "tracing",
}
"""These import nothing of ours at all."""

HTTP = {
    *("accept", "admission", "answers", "app", "auth", "bodies", "client", "connections", "direct"),
    *("forms", "frigate", "heads", "openapi", "pages", "patience", "problems", "queries", "replica"),
    *("replies", "retries", "server", "watching"),
}
"""The only modules of the service that may know of HTTP."""

SHARED = {"service.errors", "service.images", "service.eyes"}
"""What training may take from the service: the crops and pictures of both worlds are made by one code."""

BEYOND = {
    "training.cli": {"service.eye_finder"},
    "training.evaluate": {"service.synthesizer"},
    "training.export": {"service.synthesizer"},
    "training.float16": {"service.self_test", "service.synthesizer"},
    "training.parity": {"service.synthesizer", "service.photo"},
    "training.quantize": {"service.synthesizer"},
    "training.finder_cli": {
        "service.eye_finder",
        "service.pipeline",
        "service.reading",
        "service.synthesizer",
    },
    "training.finder_export": {"service.eye_finder", "service.refiner"},
    "training.finder_scores": {"service.eye_finder"},
    "training.finder_serving": {"service.pipeline", "service.synthesizer", "service.photo"},
    "training.refiner_crops": {"service.candidates", "service.refiner", "service.synthesizer"},
    "training.refiner_model": {"service.refiner"},
}
"""Who runs the model as the service does, to compare it with torch or to measure what serving adds."""


def _modules(package: str) -> dict[str, Path]:
    files = sorted((ROOT / package).rglob("*.py"))
    return {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in files}


def _imports(path: Path) -> set[str]:
    """Every module that the file imports, anywhere in it; of `from a import b` both a and a.b."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            names.add(str(node.module))
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def _ours(path: Path, package: str) -> set[str]:
    """The modules of our `package` that the file imports, without the package itself."""
    return {name for name in _imports(path) if name in _modules(package)}


@pytest.mark.parametrize("module", [name for name in _modules("service") if name != "service.__init__"])
def test_a_module_of_the_service_imports_only_downwards(module: str) -> None:
    name = module.removeprefix("service.")
    floors = [index for index, floor in enumerate(SERVICE) if name in floor]
    assert floors, f"{module} has no place in SERVICE above: give it one"
    below = {f"service.{each}" for floor in SERVICE[: floors[0]] for each in floor}
    imported = _ours(ROOT / f"service/{name}.py", "service")
    assert imported <= (set() if name in ALONE else below)


def test_the_order_above_names_no_module_that_is_gone() -> None:
    named = {f"service.{each}" for floor in SERVICE for each in floor}
    assert named | {"service.__init__"} == set(_modules("service"))


@pytest.mark.parametrize("module", _modules("service"))
def test_the_service_names_neither_training_nor_torch(module: str) -> None:
    tops = {name.split(".")[0] for name in _imports(_modules("service")[module])}
    assert not tops & {"training", "torch", "lightning_fabric", "onnx", "onnxscript", "tests"}


@pytest.mark.parametrize("module", _modules("service"))
def test_only_the_http_side_of_the_service_knows_of_http(module: str) -> None:
    tops = {name.split(".")[0] for name in _imports(_modules("service")[module])}
    if module.removeprefix("service.") not in HTTP:
        assert not tops & {"fastapi", "starlette", "uvicorn", "httpx", "http"}


@pytest.mark.parametrize("module", _modules("training"))
def test_training_takes_only_crops_pictures_and_errors_from_the_service(module: str) -> None:
    allowed = SHARED | BEYOND.get(module, set())
    assert _ours(_modules("training")[module], "service") <= allowed


def test_only_two_modules_know_of_ray_and_nothing_needs_them_but_the_command() -> None:
    imported = {name: _imports(path) for name, path in _modules("service").items()}
    of_ray = [name for name, each in imported.items() if "ray" in {one.split(".")[0] for one in each}]
    assert of_ray == ["service.bulk_ray", "service.replica"]
    assert [name for name, each in imported.items() if each & set(of_ray)] == ["service.cli"]


@pytest.mark.parametrize("module", _modules("service"))
def test_only_the_settings_read_the_environment(module: str) -> None:
    tree = ast.parse(_modules("service")[module].read_text())
    reads = [
        node
        for node in ast.walk(tree)
        if (
            isinstance(node, ast.Attribute)
            and node.attr in ("getenv", "get")
            and "environ" in ast.unparse(node)
        )
        or (
            isinstance(node, ast.Subscript)
            and "environ" in ast.unparse(node.value)
            and isinstance(node.ctx, ast.Load)
        )
    ]
    assert not reads, [ast.unparse(node) for node in reads]


def test_the_client_takes_nothing_of_the_service_but_its_errors() -> None:
    own = {"service.client", "service.replies", "service.retries"}
    imported = {name for each in own for name in _ours(_modules("service")[each], "service")}
    assert imported - own == {"service.errors"}


@pytest.mark.parametrize("module", _modules("service"))
def test_only_images_translates_the_errors_of_opencv(module: str) -> None:
    tree = ast.parse(_modules("service")[module].read_text())
    caught = {
        ast.unparse(node.type) for node in ast.walk(tree) if isinstance(node, ast.ExceptHandler) and node.type
    }
    assert module == "service.images" or not any("cv2.error" in each for each in caught)


@pytest.mark.parametrize("module", _modules("service"))
def test_nothing_is_measured_by_a_clock_that_may_jump(module: str) -> None:
    tree = ast.parse(_modules("service")[module].read_text())
    assert "time.time" not in {
        ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)
    }


WITHOUT_TORCH = """
import pathlib, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "training", "lightning_fabric", "onnx", "onnxscript"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
from starlette.testclient import TestClient
from service.app import create_app
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
