"""A release as far as it can be tried without publishing: its files are made, its workflow is read."""

import hashlib
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from service import __version__
from tests.write_docs import openapi

ROOT = Path(__file__).parent.parent
WORKFLOW = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text())
JOBS = WORKFLOW["jobs"]
BUILDS = {path.stem for path in (ROOT / "requirements").glob("*.txt")}


def _release(folder: Path, **environ: str) -> "subprocess.CompletedProcess[str]":
    told = {name: value for name, value in os.environ.items() if not name.startswith("GITHUB_")} | environ
    return subprocess.run(
        [ROOT / ".ci" / "release", folder], env=told, capture_output=True, text=True, timeout=300
    )


@pytest.mark.slow
def test_a_release_holds_wheel_api_sboms_and_their_checksums(tmp_path: Path) -> None:
    done = _release(tmp_path / "dist", GITHUB_REF_TYPE="tag", GITHUB_REF_NAME=f"v{__version__}")
    assert done.returncode == 0, done.stderr
    files = {path.name: path.read_bytes() for path in (tmp_path / "dist").iterdir()}
    sums = dict(line.split("  ")[::-1] for line in files.pop("SHA256SUMS").decode().splitlines())
    assert sums == {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    sboms = {build: json.loads(files.pop(f"sbom-{build}.cdx.json")) for build in BUILDS}
    assert json.loads(files.pop("openapi.json")) == openapi()
    assert files.keys() == {f"eye2face-{__version__}-py3-none-any.whl"}
    for build, sbom in sboms.items():
        pinned = re.findall(
            r"^([\w.-]+)==([\w.]+)", (ROOT / f"requirements/{build}.txt").read_text(), flags=re.M
        )
        assert sbom["metadata"]["component"]["name"] == "eye2face"
        assert {(each["name"], each["version"]) for each in sbom["components"]} == set(pinned)


def test_a_release_mixes_with_nothing_and_has_the_version_of_its_tag(tmp_path: Path) -> None:
    wrong = _release(tmp_path, GITHUB_REF_TYPE="tag", GITHUB_REF_NAME="v9.9.9")
    assert wrong.returncode == 1 and f"The tag is v9.9.9 and the version {__version__}" in wrong.stderr
    (tmp_path / "other").touch()
    assert _release(tmp_path).returncode == 1


def _scripts(job: str) -> list[str]:
    return [step["run"] for step in JOBS[job]["steps"] if "run" in step]


def test_the_workflow_runs_every_test_before_it_makes_a_draft() -> None:
    assert WORKFLOW[True] == {"push": {"tags": ["v*"]}}, "YAML reads `on` as true"
    run, make, draft = _scripts("files")
    assert (run, make) == (".ci/run", ".ci/release dist") and "--draft" in draft
    assert JOBS["image"]["needs"] == "files" and JOBS["publish"]["needs"] == "image"
    assert "--draft=false" in _scripts("publish")[-1]


def test_every_script_of_the_workflow_is_one() -> None:
    for script in (script for job in JOBS for script in _scripts(job)):
        plain = re.sub(r"\$\{\{.*?\}\}", "x", script)
        subprocess.run(["bash", "-n"], input=plain, text=True, check=True)


def test_the_images_are_those_that_kubernetes_asks_for() -> None:
    built: list[dict[str, Any]] = JOBS["image"]["strategy"]["matrix"]["include"]
    pushed = {(each["target"], each["suffix"], each["arch"]) for each in built}
    assert pushed == {("cpu", "", "amd64"), ("cpu", "", "arm64"), ("gpu", "-cuda13", "amd64")}
    joined = _scripts("publish")[1]
    assert all(f'"$tag{suffix}-{arch}"' in joined for _, suffix, arch in pushed)
    files = [ROOT / "deploy" / "kubernetes" / flavour / "deployment.yaml" for flavour in ("base", "gpu")]
    asked = {re.findall(r"image: eye2face:(.*)", file.read_text())[0] for file in files}
    assert asked == {f"{__version__}{suffix}" for _, suffix, _ in pushed}
