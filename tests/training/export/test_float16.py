"""A model in float16 draws the same faces, or is refused."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from service.inference.self_test import check_model
from service.inference.synthesizer import Synthesizer, model_path
from training.cli import main as cli
from training.export import float16
from training.export.onnx import ExportDiffers, widen_weights

SHIPPED = model_path("synthesizer")


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("float16") / "deep" / "narrow.onnx"
    assert float16.to_float16(SHIPPED, path) <= 1
    return path


def test_it_computes_in_float16_and_says_of_itself_what_the_other_says(narrow: Path) -> None:
    graph = onnx.load(narrow).graph
    kinds = Counter(tensor.data_type for tensor in graph.initializer if np.prod(tensor.dims) > 100)
    assert set(kinds) == {onnx.TensorProto.FLOAT16}
    kinds_of = {tensor.name: tensor.data_type for tensor in graph.initializer}
    weights = [node.input[1] for node in graph.node if node.op_type in ("Conv", "Gemm")]
    assert {kinds_of[name] for name in weights} == {onnx.TensorProto.FLOAT16}  # no Cast behind them
    wide, loaded = (Synthesizer.load(path, device="cpu") for path in (SHIPPED, narrow))
    assert loaded.info == replace(wide.info, sha256=loaded.info.sha256)


def test_the_service_runs_it_and_it_draws_the_same_faces(narrow: Path) -> None:
    wide, loaded = (Synthesizer.load(path, device="cpu") for path in (SHIPPED, narrow))
    check_model(loaded)
    eyes = np.random.default_rng(7).integers(0, 256, (3, 64, 64, 3), np.uint8)
    assert abs(loaded(eyes).astype(int) - wide(eyes)).max() <= 2


def test_a_model_that_float16_changes_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    model = onnx.load(SHIPPED)
    widen_weights(model)
    first, second = [node.input for node in model.graph.node if node.op_type == "Conv"][:2]
    factors = {first[1]: 1e5, first[2]: 1e5, second[1]: 1e-5}  # too large between the two for float16
    for tensor in model.graph.initializer:
        if tensor.name in factors:
            scaled = onnx.numpy_helper.to_array(tensor) * np.float32(factors[tensor.name])
            tensor.CopyFrom(onnx.numpy_helper.from_array(scaled, tensor.name))
    loud, out = tmp_path / "loud.onnx", tmp_path / "out.onnx"
    onnx.save(model, loud)
    check_model(Synthesizer.load(loud, device="cpu"))
    with pytest.raises(ExportDiffers, match="differ by"):
        float16.to_float16(loud, out)
    assert not out.exists()


def test_the_command_says_how_near_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "narrow.onnx"
    monkeypatch.setattr("sys.argv", ["eye2face-train", "float16", str(SHIPPED), str(out)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert said.startswith(f"{out}: at most ") and f"of 255 from {SHIPPED} on 64 drawn eyes" in said


def test_what_is_no_model_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "narrow.onnx"
    finder = model_path("eye_finder")
    monkeypatch.setattr("sys.argv", ["eye2face-train", "float16", str(finder), str(out)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    assert "this service expects" in capsys.readouterr().err
    assert not out.exists()
