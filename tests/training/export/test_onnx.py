"""The exported file: the contract, the facts, and equality with torch."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor

from service.inference.synthesizer import Synthesizer
from tests.training.tiny import TINY
from training.data.store import Pairs
from training.errors import ExportError
from training.export import onnx as exporting
from training.export.onnx import ServedAutoencoder, difference_to_torch, export
from training.loop.previews import draw_faces
from training.synthesizer.guesses import fit_guesses
from training.synthesizer.train import RunSettings, train
from training.synthesizer.weights import load_weights

pytestmark = pytest.mark.slow


def test_onnx_runtime_draws_what_torch_draws(run: Path, exported: Path, tiny_pairs: Pairs) -> None:
    eyes, average = tiny_pairs.eyes[:, 1], load_weights(run)
    assert (
        difference_to_torch(exported, ServedAutoencoder(average, fit_guesses(average, tiny_pairs)), eyes) <= 1
    )


def test_without_noise_it_draws_what_the_run_draws_and_with_noise_something_else(
    run: Path, exported: Path, tiny_pairs: Pairs
) -> None:
    eyes, synthesizer = tiny_pairs.eyes[:4, 0], Synthesizer.load(exported, device="cpu")
    wanted = draw_faces(load_weights(run), eyes).astype(int)
    assert np.abs(synthesizer(eyes) - wanted).max() <= 1
    noise = np.random.default_rng(0).standard_normal((4, synthesizer.info.noise_size), np.float32)
    faces, certainty = synthesizer.draw(eyes, noise)
    assert np.abs(faces - wanted).max() > 1
    assert certainty.shape == (4,) and certainty.min() >= 0 and certainty.max() <= 1


def test_the_service_reads_the_facts_back(exported: Path) -> None:
    info = Synthesizer.load(exported, device="cpu").info
    assert (info.name, info.version, info.part, info.licence_class) == ("tiny", "7", "eye", "open")
    assert (info.eye_size, info.face_size, info.metrics) == (32, 32, {"l2": 0.25})


def test_any_number_of_eyes_is_one_call(exported: Path, tiny_pairs: Pairs) -> None:
    synthesizer = Synthesizer.load(exported, device="cpu")
    together = synthesizer(tiny_pairs.eyes[:5, 0])
    alone = np.concatenate([synthesizer(tiny_pairs.eyes[i : i + 1, 0]) for i in range(5)])
    assert np.abs(together.astype(int) - alone).max() <= 1


def test_large_weights_are_stored_as_float16_and_no_batch_norm_is_left(exported: Path) -> None:
    graph = onnx.load(exported).graph
    large = [tensor for tensor in graph.initializer if np.prod(tensor.dims) >= exporting.SMALLEST_HALVED]
    assert large and all(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in large)
    assert "BatchNormalization" not in {node.op_type for node in graph.node}


def test_convolutions_behind_an_upsampling_work_on_the_small_picture(exported: Path) -> None:
    kinds = [node.op_type for node in onnx.load(exported).graph.node]
    assert "Resize" not in kinds and "Concat" in kinds


def test_an_export_that_differs_is_refused_and_writes_nothing(
    run: Path, tiny_pairs: Pairs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def darker(model: ServedAutoencoder, eyes: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        faces, certainty = drawn(model, eyes, noise)
        return (faces.int() - 2).clamp(0, 255).to(torch.uint8), certainty

    drawn = ServedAutoencoder.forward
    export_graph = exporting.to_onnx

    def graph(*args: Any, **kwargs: Any) -> onnx.ModelProto:
        model = export_graph(*args, **kwargs)
        monkeypatch.setattr(ServedAutoencoder, "forward", darker)
        return model

    monkeypatch.setattr(exporting, "to_onnx", graph)
    with pytest.raises(ExportError, match=r"differ by [23] of 255"):
        export(run, tmp_path / "never.onnx", tiny_pairs, licence_class="open")
    assert list(tmp_path.iterdir()) == []


def test_the_metadata_names_the_contract(exported: Path) -> None:
    properties = {entry.key: entry.value for entry in onnx.load(exported).metadata_props}
    assert properties["eye2face.contract_version"] == "2"
    assert json.loads(properties["eye2face.metrics"]) == {"l2": 0.25}


def test_a_model_of_two_eyes_is_not_exported(tiny_pairs: Pairs, tmp_path: Path) -> None:
    recipe = replace(TINY, num_steps=1, model=replace(TINY.model, num_eyes=2))
    run = train(recipe, tiny_pairs, RunSettings(tmp_path / "run", "", accelerator="cpu", preview_every=0))
    with pytest.raises(ExportError, match="draws from 2 eyes"):
        export(run, tmp_path / "never.onnx", tiny_pairs, licence_class="open")


def test_beside_the_model_lie_its_weights_for_another_run(run: Path, exported: Path) -> None:
    weights = load_weights(exported.with_suffix(".safetensors")).state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in load_weights(run).state_dict().items())
