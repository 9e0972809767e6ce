import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from service.errors import DeviceUnavailable, InferenceFailed, ModelContractUnknown, ModelNotFound
from service.inference import synthesizer
from service.inference.synthesizer import Synthesizer, model_path, read_model_info
from tests import fakes

pytestmark = pytest.mark.beside_others

ROOT = Path(__file__).parents[3]


def test_faces_come_in_the_order_of_the_eyes(tmp_path: Path) -> None:
    synthesizer = Synthesizer.load(fakes.tiny_model(tmp_path / "tiny.onnx"), device="cpu")
    eyes_BHWC = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    faces_BHWC = synthesizer(eyes_BHWC)
    assert faces_BHWC.shape == (3, 128, 128, 3) and faces_BHWC.dtype == np.uint8
    np.testing.assert_array_equal(faces_BHWC[:, ::2, ::2], eyes_BHWC)


def test_the_sizes_are_read_from_the_model(tmp_path: Path) -> None:
    synthesizer = Synthesizer.load(fakes.tiny_model(tmp_path / "tiny.onnx", eye_size=32, face_size=96))
    assert (synthesizer.info.eye_size, synthesizer.info.face_size) == (32, 96)
    assert synthesizer(np.zeros((1, 32, 32, 3), np.uint8)).shape == (1, 96, 96, 3)


def test_the_model_tells_about_itself(tmp_path: Path) -> None:
    path = fakes.tiny_model(
        tmp_path / "tiny.onnx", licence_class="research-only", metrics='{"l2": 0.04, "ssim": 1}'
    )
    info = Synthesizer.load(path).info
    assert (info.name, info.licence_class, info.contract_version) == ("tiny", "research-only", 1)
    assert info.metrics == {"l2": 0.04, "ssim": 1.0}
    assert info.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("overrides", "found", "expected"),
    [
        ({"contract_version": "2"}, "contract version 2", "expects 1"),
        ({"contract_version": None}, "contract version none", "expects 1"),
        ({"crop_version": "99"}, "crop version 99", "expects 1"),
        ({"recipe": None, "date": None}, "missing metadata date, recipe", "expects nothing"),
    ],
)
def test_a_model_of_another_contract_is_refused(
    tmp_path: Path, overrides: dict[str, str | None], found: str, expected: str
) -> None:
    path = fakes.tiny_model(tmp_path / "tiny.onnx", **overrides)  # type: ignore[arg-type]
    with pytest.raises(ModelContractUnknown, match=f"{found}.*{expected}.*Export the model again"):
        Synthesizer.load(path)


def test_a_model_of_another_part_of_the_face_is_refused(tmp_path: Path) -> None:
    path = fakes.tiny_model(tmp_path / "tiny.onnx", part="mouth")
    with pytest.raises(ModelContractUnknown, match=r"part 'mouth'; expected .* 'eye'"):
        Synthesizer.load(path)
    with pytest.raises(ModelContractUnknown, match="'mouth'"):
        read_model_info(path)
    assert Synthesizer.load(path, part="mouth").info.part == "mouth"


@pytest.mark.parametrize(
    ("claims", "found", "expected"),
    [
        ({"eye_size": "many"}, "does not parse", "whole numbers"),
        ({"metrics": "{"}, "does not parse", "JSON"),
        ({"metrics": "3"}, "does not parse", "JSON"),
        ({"metrics": '{"l2": null}'}, "does not parse", "JSON"),
        (
            {"eye_size": "48"},
            r"input eyes tensor\(uint8\) \[64, 64, 3\]",
            r"eyes tensor\(uint8\) \[48, 48, 3\]",
        ),
        ({"face_size": "96"}, r"output faces tensor\(uint8\) \[128, 128, 3\]", r"\[96, 96, 3\]"),
    ],
)
def test_a_model_that_claims_what_it_is_not_is_refused(
    tmp_path: Path, claims: dict[str, str], found: str, expected: str
) -> None:
    path = fakes.claim(fakes.tiny_model(tmp_path / "tiny.onnx"), **claims)
    with pytest.raises(ModelContractUnknown, match=f"{found}.*{expected}"):
        Synthesizer.load(path)


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(fakes.tiny_model(tmp_path / "tiny.onnx").read_bytes()[:100])
    with pytest.raises(ModelContractUnknown, match=r"broken\.onnx cannot be loaded"):
        Synthesizer.load(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"no model file .*gone\.onnx"):
        Synthesizer.load(tmp_path / "gone.onnx")


@pytest.mark.skipif("CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="has CUDA")
def test_cuda_that_was_asked_for_is_never_replaced_by_the_cpu(tmp_path: Path) -> None:
    path = fakes.tiny_model(tmp_path / "tiny.onnx")
    with pytest.raises(DeviceUnavailable, match=r"no CUDA.*eye2face\[gpu\]"):
        Synthesizer.load(path, device="cuda")
    assert Synthesizer.load(path, device="auto").device == "cpu"


@pytest.mark.skipif("CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="has CUDA")
@pytest.mark.filterwarnings("ignore:Specified provider 'CUDAExecutionProvider'")
def test_by_itself_onnx_runtime_would_fall_back_to_the_cpu_with_a_mere_warning(tmp_path: Path) -> None:
    path = fakes.tiny_model(tmp_path / "tiny.onnx")
    session = onnxruntime.InferenceSession(str(path), providers=["CUDAExecutionProvider"])
    assert session.get_providers() == ["CPUExecutionProvider"]


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
    monkeypatch.setattr(synthesizer, "_import_onnxruntime", ClaimsCuda)
    path = fakes.tiny_model(tmp_path / "tiny.onnx")
    with pytest.raises(DeviceUnavailable, match="fallback to CPU EP has been explicitly disabled"):
        Synthesizer.load(path, device="cuda")
    assert Synthesizer.load(path, device="auto").device == "cpu"
    assert "running on the CPU" in caplog.text


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


def test_a_run_that_fails_is_told_and_remembered(tmp_path: Path) -> None:
    synthesizer = Synthesizer.load(fakes.failing_model(tmp_path / "failing.onnx"))
    assert synthesizer.last_run.error is None
    white = np.full((1, 64, 64, 3), 255, np.uint8)
    with pytest.raises(InferenceFailed, match="failed on the cpu"):
        synthesizer(white)
    assert synthesizer.last_run.error is not None and "indices" in synthesizer.last_run.error
    synthesizer(white // 2)
    assert synthesizer.last_run.error is None and synthesizer.last_run.ms > 0


def test_a_path_is_its_own_name(tmp_path: Path) -> None:
    path = fakes.tiny_model(tmp_path / "tiny.onnx")
    assert model_path(str(path)) == path


def test_a_shipped_model_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "service"
    monkeypatch.setattr(synthesizer, "__file__", str(package / "inference" / "synthesizer.py"))
    in_repository = fakes.tiny_model(tmp_path / "models" / "tiny.onnx")
    assert model_path("tiny") == in_repository
    installed = fakes.tiny_model(package / "models" / "tiny.onnx")
    assert model_path("tiny") == installed
    with pytest.raises(ModelNotFound, match=r"no model 'huge'\. Found here: tiny"):
        model_path("huge")


@pytest.mark.parametrize("name", ["gone.onnx", "somewhere/gone", "../models", ""])
def test_an_unknown_name_is_refused(name: str) -> None:
    with pytest.raises(ModelNotFound, match="Give one of these names or the path"):
        model_path(name)


WITHOUT_ONNXRUNTIME = """
import sys
sys.modules["onnxruntime"] = None
from pathlib import Path
from service.errors import RuntimeMissing
from service.inference.synthesizer import Synthesizer
try:
    Synthesizer.load(Path("any.onnx"))
except RuntimeMissing as error:
    print(error)
"""


def test_without_onnx_runtime_the_extra_to_install_is_named() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_ONNXRUNTIME],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=dict(os.environ),
    )
    assert "pip install 'eye2face[cpu]'" in done.stdout and "eye2face[gpu]" in done.stdout, done.stderr
