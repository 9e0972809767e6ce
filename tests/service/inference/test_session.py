"""Sessions of ONNX Runtime: never another device than was asked for, and errors of ours."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from service.errors import DeviceUnavailable, InferenceFailed, ModelContractUnknown, RuntimeMissing
from service.inference import session
from service.inference.session import open_cpu_session
from service.inference.synthesizer import Synthesizer
from tests import fakes

ROOT = Path(__file__).parents[3]


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(fakes.tiny_model(tmp_path / "tiny.onnx").read_bytes()[:100])
    with pytest.raises(ModelContractUnknown, match=r"broken\.onnx cannot be loaded"):
        Synthesizer.load(path)


@pytest.mark.skipif("CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="has CUDA")
def test_cuda_that_was_asked_for_is_never_replaced_by_the_cpu(tmp_path: Path) -> None:
    path = fakes.tiny_model(tmp_path / "tiny.onnx")
    with pytest.raises(DeviceUnavailable, match=r"no CUDA.*'\.\[gpu\]'.*'\.\[gpu-cuda12\]'"):
        Synthesizer.load(path, device="cuda")
    assert Synthesizer.load(path, device="auto").device == "cpu"


@pytest.mark.skipif("CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="has CUDA")
@pytest.mark.filterwarnings("ignore:Specified provider 'CUDAExecutionProvider'")
def test_by_itself_onnx_runtime_would_fall_back_to_the_cpu_with_a_mere_warning(tmp_path: Path) -> None:
    path = fakes.tiny_model(tmp_path / "tiny.onnx")
    opened = onnxruntime.InferenceSession(str(path), providers=["CUDAExecutionProvider"])
    assert opened.get_providers() == ["CPUExecutionProvider"]


class ClaimsCuda:
    """The real ONNX Runtime of the CPU, that lists CUDA as a GPU build does whose libraries do not load."""

    def __getattr__(self, name: str) -> Any:
        return getattr(onnxruntime, name)

    def get_available_providers(self) -> list[str]:
        return ["CUDAExecutionProvider", "CPUExecutionProvider"]


@pytest.mark.skipif("CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="has CUDA")
@pytest.mark.filterwarnings("ignore:Specified provider 'CUDAExecutionProvider'")
def test_a_gpu_build_whose_gpu_does_not_work_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(session, "_import_onnxruntime", ClaimsCuda)
    path = fakes.tiny_model(tmp_path / "tiny.onnx")
    with pytest.raises(DeviceUnavailable, match="fallback to CPU EP has been explicitly disabled"):
        Synthesizer.load(path, device="cuda")
    assert Synthesizer.load(path, device="auto").device == "cpu"
    assert "running on the CPU" in caplog.text


@pytest.mark.slow
@pytest.mark.skipif("CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="has CUDA")
def test_a_service_that_must_run_on_cuda_does_not_start_without(tmp_path: Path) -> None:
    path = fakes.tiny_model(tmp_path / "tiny.onnx")
    own = {"EYE2FACE_MODEL": str(path), "EYE2FACE_DEVICE": "cuda", "EYE2FACE_PORT": "0"}
    command = [sys.executable, "-m", "service", "serve"]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | own, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1
    assert "has no CUDA" in done.stderr and "Traceback" not in done.stderr
    assert "ready" not in done.stdout


def test_without_onnx_runtime_the_extra_to_install_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(RuntimeMissing, match=r"pip install '\.\[cpu\]'.*'\.\[gpu\]'"):
        open_cpu_session(Path("any.onnx"), num_threads=1)


def test_every_error_class_of_onnx_runtime_is_one_of_ours(tmp_path: Path) -> None:
    opened = open_cpu_session(fakes.tiny_model(tmp_path / "tiny.onnx"), num_threads=1)
    eyes = np.zeros((1, 64, 64, 3), np.uint8)
    for wrong in ({}, {"eyes": eyes[0]}, {"eyes": eyes.astype(np.float32)}, {"eyes": eyes, "noise": eyes}):
        with pytest.raises(InferenceFailed, match=r"failed on the cpu \(.+\)"):
            opened.run(["faces"], wrong)
    for model in (b"", b"x"):
        with pytest.raises(ModelContractUnknown, match="embedded model cannot be loaded"):
            open_cpu_session(model, num_threads=1)
