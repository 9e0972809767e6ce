"""One command measures a model on a device, or says why the model does not run there."""

import json
import subprocess
import sys

import numpy as np
import onnxruntime
import pytest

from bench.device import SIZES, compare, describe, take_eyes
from bench.servers import ROOT
from service.inference.model_files import model_path

pytestmark = pytest.mark.slow

has_cuda = "CUDAExecutionProvider" in onnxruntime.get_available_providers()


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "bench.device", *arguments],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def test_it_tells_what_calls_take() -> None:
    done = run("--device", "cpu", "--rounds", "1", "--calls", "2", "--model", "synthesizer")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    model = told["models"]["synthesizer"]
    assert [row["eyes"] for row in model["calls"]] == list(SIZES)
    assert model["device"] == "cpu" and model["levels_off_the_cpu"] == 0
    assert all(0 < row["median_ms"] <= row["p99_ms"] for row in model["calls"])
    assert model["calls"][-1]["median_ms"] > 4 * model["calls"][0]["median_ms"]  # 32 eyes for one
    assert told["memory_mb"] > 50


@pytest.mark.skipif(has_cuda, reason="this build of ONNX Runtime has CUDA")
def test_a_gpu_that_is_not_there_is_no_cpu() -> None:
    done = run("--device", "cuda")
    assert done.returncode == 1
    assert "no CUDA" in done.stderr and "Traceback" not in done.stderr
    assert not done.stdout


def test_a_model_that_is_not_there_is_told() -> None:
    done = run("--model", "nobody")
    assert done.returncode == 1
    assert "There is no model 'nobody'" in done.stderr and "Traceback" not in done.stderr


def test_models_stand_beside_each_other() -> None:
    told = compare(["synthesizer", str(model_path("synthesizer"))], "cpu", num_rounds=1, num_calls=1)
    assert list(told) == ["synthesizer", str(model_path("synthesizer"))]


def test_the_eyes_of_a_call_differ() -> None:
    eyes_BSS3 = take_eyes(4, 32)
    assert eyes_BSS3.shape == (4, 32, 32, 3) and eyes_BSS3.dtype == np.uint8
    lights = eyes_BSS3.mean((1, 2, 3))
    assert (np.diff(lights) > 5).all()


def test_a_row_is_of_its_calls() -> None:
    row = describe([1.0, 2.0, 9.0], num_eyes=8)
    assert row["eyes"] == 8 and row["median_ms"] == 2 and row["faces_per_s"] == 4000
    assert 8 < row["p99_ms"] <= 9
