"""What the code imports is what pyproject.toml says it needs, and constraints.txt pins all of it."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

pytestmark = pytest.mark.beside_others

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
OURS = {"eye2face", "service", "training", "tests", "bench"}
PARTS_OF = {"starlette": "fastapi", "pydantic-core": "pydantic"}
"""Distributions that another one is made around and that come with it."""
SHARED_BY = {"opentelemetry": ["opentelemetry-api"]}
"""Packages of several distributions, and the one that the others need."""


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
    known = {**packages_distributions(), **SHARED_BY}
    found = {_normal(known.get(top, [top])[0]) for top in tops - OURS - sys.stdlib_module_names}
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


def test_every_requirement_is_pinned() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in pinned), "one version each, no local build"
    stated = PROJECT["dependencies"] + [each for requirements in EXTRAS.values() for each in requirements]
    assert _names(stated) <= _names(pinned)


def test_the_peers_of_the_bench_do_the_job_with_the_same_versions() -> None:
    lines = (ROOT / "bench" / "requirements.txt").read_text().splitlines()
    constraints = (ROOT / "constraints.txt").read_text().splitlines()
    shared = [line for line in lines if line and not line.startswith(("#", "litserve", "mosec", "bentoml"))]
    assert len(shared) > 5
    assert set(shared) <= set(constraints)
