"""Where model files are found, and by which name."""

from pathlib import Path

import pytest

from service.errors import ModelNotFound
from service.inference import model_files
from service.inference.model_files import model_path
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
