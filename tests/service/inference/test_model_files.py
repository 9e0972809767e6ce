"""The locations and names of model files."""

import shutil
from pathlib import Path

import pytest

from service.engine.engine import Engine
from service.errors import ModelContractUnknown, ModelNotFound
from service.inference import model_files
from service.inference.eye_finder import open_eye_finder
from service.inference.model_files import list_models, model_path, read_model
from service.observability.metrics import Metrics
from service.settings import Settings
from tests import fakes


def test_a_path_is_its_own_name(tmp_path: Path) -> None:
    path = fakes.tiny_model(tmp_path / "tiny.onnx")
    assert model_path(str(path)) == path


def test_a_shipped_model_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "service"
    monkeypatch.setattr(model_files, "__file__", str(package / "inference" / "model_files.py"))
    in_repository = fakes.tiny_model(tmp_path / "models" / "tiny.onnx")
    assert model_path("tiny") == in_repository
    installed = fakes.tiny_model(package / "models" / "tiny.onnx")
    assert model_path("tiny") == installed
    with pytest.raises(ModelNotFound, match=r"no model 'huge'\. Available: tiny"):
        model_path("huge")


@pytest.mark.parametrize("name", ["gone.onnx", "somewhere/gone", "../models", ""])
def test_an_unknown_name_is_refused(name: str) -> None:
    with pytest.raises(ModelNotFound, match="Give one of these names or the path"):
        model_path(name)


def test_a_mounted_model_goes_before_a_shipped_one_of_its_name(tmp_path: Path) -> None:
    own = fakes.tiny_model(tmp_path / "synthesizer.onnx")
    assert model_path("synthesizer", tmp_path) == own
    assert model_path("synthesizer") != own
    with pytest.raises(ModelNotFound, match=r"Available: .*synthesizer"):
        model_path("none", tmp_path)


def test_a_shipped_model_that_was_changed_is_refused_and_an_own_one_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = Path(model_files.__file__).parents[2] / "models"
    folder = tmp_path / "models"
    shutil.copytree(shipped, folder)
    monkeypatch.setattr(model_files, "__file__", str(tmp_path / "service" / "inference" / "model_files.py"))
    for path, _ in list_models():
        assert read_model(path) == (shipped / path.name).read_bytes()
    changed = bytearray((folder / "eye_finder.onnx").read_bytes())
    changed[len(changed) // 2] ^= 1
    (folder / "eye_finder.onnx").write_bytes(changed)
    with pytest.raises(ModelContractUnknown, match="is not the file that was shipped"):
        open_eye_finder("learned")
    (tmp_path / "linked").symlink_to(folder)
    with pytest.raises(ModelContractUnknown, match="not the file that was shipped"):
        read_model(tmp_path / "linked" / "eye_finder.onnx")
    own = tmp_path / "eye_finder.onnx"
    own.write_bytes(changed)
    assert read_model(own) == changed
    (folder / "SHA256SUMS").unlink()
    with pytest.raises(ModelContractUnknown, match="expected none"):
        read_model(folder / "synthesizer.onnx")


def test_a_service_with_a_changed_model_does_not_start_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(Path(model_files.__file__).parents[2] / "models", tmp_path / "models")
    monkeypatch.setattr(model_files, "__file__", str(tmp_path / "service" / "inference" / "model_files.py"))
    fakes.tiny_model(tmp_path / "models" / "synthesizer.onnx")
    with pytest.raises(ModelContractUnknown, match=r"synthesizer.onnx is not the file that was shipped"):
        Engine(Settings(device="cpu"), Metrics())
