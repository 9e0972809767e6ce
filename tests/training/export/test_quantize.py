"""A model in 8 bits: smaller, nearly the same faces, and measured as it is."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from service.inference.synthesizer import Synthesizer
from tests.training.exported import FACTS
from training.cli import main as cli
from training.data.store import Pairs
from training.export.onnx import export
from training.export.quantize import calibration_eyes, compare, quantize
from training.synthesizer.recipes import RECIPES
from training.synthesizer.train import RunSettings, train


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, drawn_pairs: Pairs) -> Path:
    folder = tmp_path_factory.mktemp("models")
    recipe = replace(RECIPES["tiny"], num_steps=30, batch_size=8)
    train(recipe, drawn_pairs, RunSettings(folder / "run", "", accelerator="cpu"))
    export(folder / "run", folder / "tiny.onnx", FACTS, drawn_pairs.eyes[:4, 0])
    return folder / "tiny.onnx"


@pytest.fixture(scope="module")
def quantized(exported: Path, drawn_pairs: Pairs) -> Path:
    path = exported.with_name("new") / "int8.onnx"
    quantize(exported, path, calibration_eyes(drawn_pairs))
    return path


def test_the_large_weights_have_8_bits_and_the_last_convolution_keeps_its_own(quantized: Path) -> None:
    graph = onnx.load(quantized).graph
    kinds = {each.data_type for each in graph.initializer if len(each.dims) > 1 and np.prod(each.dims) > 2000}
    assert kinds == {onnx.TensorProto.INT8}
    made_by = {name: node.op_type for node in graph.node for name in node.output}
    inputs = [node.input[1] for node in graph.node if node.op_type == "Conv"]
    assert [made_by.get(name) for name in inputs] == ["DequantizeLinear"] * (len(inputs) - 1) + [None]


def test_the_service_runs_it_and_draws_nearly_the_same(
    exported: Path, quantized: Path, drawn_pairs: Pairs
) -> None:
    wide, narrow = (Synthesizer.load(path, device="cpu") for path in (exported, quantized))
    assert narrow.info == replace(wide.info, sha256=narrow.info.sha256)
    eyes = drawn_pairs.eyes[:5, 0]
    difference = np.abs(wide(eyes).astype(int) - narrow(eyes))
    assert 0 < difference.mean() < 3


def test_the_command_writes_the_model_and_what_it_costs(
    exported: Path, drawn_folder: Path, archives: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, numbers = tmp_path / "int8.onnx", tmp_path / "deep" / "int8.json"
    arguments = [str(exported), str(drawn_folder), str(out), "--split", "val", "--perceptual", archives]
    monkeypatch.setattr("sys.argv", ["training", "quantize", *arguments, "--numbers", str(numbers)])
    with pytest.raises(SystemExit, match=r"^0$"):
        cli.main()
    found = json.loads(numbers.read_text())
    assert found["split"] == "val" and found["int8"]["megabytes"] == out.stat().st_size / 1e6
    assert found["int8"]["megabytes"] < 0.75 * found["float32"]["megabytes"]
    assert found["int8"]["l2"] == pytest.approx(found["float32"]["l2"], rel=0.2)
    assert all(found[name]["ms"] > 0 and found[name]["kid"] > 0 for name in ("float32", "int8"))


def test_equal_models_cost_the_same(exported: Path, drawn_pairs: Pairs, archives: str) -> None:
    costs = compare({"one": exported, "other": exported}, drawn_pairs, "val", archives)
    assert costs["one"].l2 == costs["other"].l2 and costs["one"].kid == costs["other"].kid


def test_pairs_of_another_size_are_refused(exported: Path, small_pairs: Pairs, archives: str) -> None:
    with pytest.raises(ValueError, match="prepare them with --face-size 128"):
        compare({"it": exported}, small_pairs, "val", archives)
