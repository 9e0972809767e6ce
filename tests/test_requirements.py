"""What the code imports is what pyproject.toml says it needs, and all of it is pinned."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
OURS = {"eye2face", "service", "training", "tests", "bench"}
PARTS_OF = {"starlette": "fastapi", "pydantic-core": "pydantic"}
"""Distributions that another one is made around and that come with it."""
DISTRIBUTIONS = {**packages_distributions(), "opentelemetry": ["opentelemetry-api"]}
"""The distributions of each package; of `opentelemetry`, the one that the others need."""


def _names(requirements: list[str]) -> set[str]:
    return {_normal(re.split(r"[\[<>=!~; ]", each)[0]) for each in requirements}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _imported(package: str) -> set[str]:
    """The distributions of everything that the package's files import, ours and Python's own left out."""
    tops: set[str] = set()
    for path in (ROOT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                tops.update(alias.name.split(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                tops.add(str(node.module).split(".")[0])
    found = {_normal(DISTRIBUTIONS.get(top, [top])[0]) for top in tops - OURS - sys.stdlib_module_names}
    return {PARTS_OF.get(name, name).replace("onnxruntime-gpu", "onnxruntime") for name in found}


@pytest.mark.parametrize(
    ("package", "extras"),
    [
        ("service", ["cpu", "bulk", "mqtt", "ray"]),
        ("training", ["cpu", "training"]),
        ("tests", ["cpu", "bulk", "mqtt", "otel", "ray", "training", "dev"]),
    ],
)
def test_a_package_imports_only_what_it_states_to_need(package: str, extras: list[str]) -> None:
    stated = PROJECT["dependencies"] + [each for extra in extras for each in EXTRAS[extra]]
    assert _imported(package) <= _names(stated)


def _pinned(file: str) -> dict[str, str]:
    """The version of each package in a file of exact versions."""
    lines = re.sub(r" \\\n *--hash=\S+", "", (ROOT / file).read_text()).splitlines()
    assert all(re.fullmatch(r"[a-z\d-]+==[\w.]+( ; .+)?", line) for line in lines), "one version each"
    return dict(line.split(" ;")[0].split("==") for line in lines)


def test_every_requirement_is_pinned() -> None:
    stated = PROJECT["dependencies"] + [each for requirements in EXTRAS.values() for each in requirements]
    assert _names(stated) <= _pinned("constraints.txt").keys()


@pytest.mark.parametrize("build", ["cpu", "gpu", "gpu-cuda12"])
def test_what_is_served_is_pinned_with_hashes_to_the_same_versions(build: str) -> None:
    pinned = _pinned(f"requirements/{build}.txt")
    stated = PROJECT["dependencies"] + EXTRAS[build] + EXTRAS["mqtt"] + EXTRAS["otel"]
    assert _names(stated) <= pinned.keys()
    apart = {name for name in pinned if build == "gpu-cuda12" and name.startswith(("onnxruntime", "nvidia"))}
    assert {pair for pair in pinned.items() if pair[0] not in apart} <= _pinned("constraints.txt").items()
    text = (ROOT / f"requirements/{build}.txt").read_text()
    packages = re.findall(r"^(\S+)==\S+.*\n    --hash=sha256:[\da-f]{64}", text, flags=re.M)
    assert set(packages) == pinned.keys()


def test_each_build_for_a_gpu_has_the_cuda_of_its_name() -> None:
    assert {"onnxruntime-gpu", "nvidia-cudnn-cu13"} <= _pinned("requirements/gpu.txt").keys()
    assert {"onnxruntime-gpu", "nvidia-cudnn-cu12"} <= _pinned("requirements/gpu-cuda12.txt").keys()


def test_the_wheel_is_built_with_a_pinned_version() -> None:
    (builder,) = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    assert builder == f"hatchling=={_pinned('constraints.txt')['hatchling']}"


def test_an_action_is_pinned_to_a_commit_and_says_its_version() -> None:
    for path in (ROOT / ".github" / "workflows").glob("*.yml"):
        for line in re.findall(r"uses: (.*)", path.read_text()):
            assert re.fullmatch(r"\S+@[\da-f]{40} # v\d+\.\d+\.\d+", line), f"{path.name}: {line}"


def test_the_peers_of_the_bench_do_the_job_with_the_same_versions() -> None:
    lines = (ROOT / "bench" / "requirements.txt").read_text().splitlines()
    shared = [line for line in lines if line and not line.startswith(("#", "litserve", "mosec", "bentoml"))]
    assert len(shared) > 5
    assert dict(line.split("==") for line in shared).items() <= _pinned("constraints.txt").items()
