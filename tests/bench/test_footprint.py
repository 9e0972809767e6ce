"""The start-up time of the service, beside the time of its imports."""

import json
import os
import subprocess
import sys

import pytest

from bench.footprint import PACKAGES
from bench.servers import ROOT

pytestmark = pytest.mark.slow

IMPORTED = """
import json, sys
import onnxruntime, uvloop
import service.cli.main, service.http.server, service.engine.engine
files = {name: getattr(module, "__file__", None) or "" for name, module in sys.modules.items()}
print(json.dumps(sorted({name.partition(".")[0] for name, file in files.items() if "site-packages" in file})))
"""

NEEDED_BY_OTHERS = {
    "_distutils_hack", "_virtualenv", "annotated_doc", "annotated_types", "anyio", "click", "dotenv", "idna",
    "markdown_it", "mdurl", "opentelemetry", "pydantic_core", "pygments", "shellingham", "sniffio",
    "starlette", "typing_extensions", "typing_inspection",
}  # fmt: skip


def test_the_packages_are_those_that_a_service_imports() -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPORTED], cwd=ROOT, capture_output=True, text=True, check=True,
        env=os.environ | {"ORT_DISABLE_TELEMETRY": "1"},
    )  # fmt: skip
    named = {package.partition(".")[0] for package in PACKAGES}
    assert set(json.loads(done.stdout)) - NEEDED_BY_OTHERS == named


def test_it_tells_start_faults_and_memory() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench.footprint", "--rounds", "1", "--requests", "20", "--photo", "250px"],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["num_bad"] == 0 and told["num_requests"] == 20
    assert told["start_s"] > told["imports_s"] * 0.5 > 0
    assert told["memory_mb_after"] > 20 and told["faults_per_request"] >= 0
