"""A run goes on from an exported file as it was exported, and other files are refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor

from service.inference.synthesizer import Synthesizer, model_path
from training.data.store import Pairs
from training.export.importing import NotExported, read_exported, read_facts
from training.export.polyphase import phases_of, weights_of_phases
from training.loop.previews import draw_faces
from training.loop.run_folder import load_average, read_description
from training.synthesizer.autoencoder import ModelConfig
from training.synthesizer.recipes import RECIPES
from training.synthesizer.train import RunSettings, train

SHIPPED = model_path("synthesizer")


def test_the_weights_come_back_from_their_phases() -> None:
    weights = np.random.default_rng(0).normal(size=(7, 5, 3, 3)).astype(np.float32)
    assert weights_of_phases(phases_of(weights)) == pytest.approx(weights, abs=1e-5)


def test_the_model_that_comes_back_draws_what_was_exported(
    run: Path, exported: Path, eyes: Tensor, drawn_pairs: Pairs
) -> None:
    config = load_average(run).config
    read = read_exported(exported, config, eyes)
    drawn = draw_faces(read, drawn_pairs.eyes[:, 1]).astype(int)
    assert np.abs(drawn - draw_faces(load_average(run), drawn_pairs.eyes[:, 1])).max() <= 1
    assert drawn.std(axis=0).max() > 5, "faces of different eyes differ, or the comparison says little"


def test_in_training_it_is_the_same_model_for_the_eyes_it_was_measured_on(
    run: Path, exported: Path, eyes: Tensor
) -> None:
    read = read_exported(exported, load_average(run).config, eyes)
    with torch.no_grad():
        expected = read(eyes)
        # The running variance is the unbiased one, the batch's is not.
        assert torch.allclose(read.train()(eyes), expected, atol=0.02)


def test_the_shipped_model_comes_back(drawn_pairs: Pairs, eyes: Tensor) -> None:
    config = RECIPES["std-128-slim"].model
    drawn = draw_faces(read_exported(SHIPPED, config, eyes), drawn_pairs.eyes[:, 0]).astype(int)
    shipped = Synthesizer.load(SHIPPED, device="cpu", num_threads=1)(drawn_pairs.eyes[:, 0])
    assert np.abs(drawn - shipped).max() <= 1


def test_a_run_begins_with_an_exported_file_and_says_so(
    exported: Path, drawn_pairs: Pairs, tmp_path: Path
) -> None:
    # Without steps that move anything the run is its start.
    recipe = replace(RECIPES["tiny"], num_steps=1, batch_size=8, learning_rate=0.0, ema_decay=1.0)
    settings = RunSettings(tmp_path / "run", "", start_from=exported, accelerator="cpu")
    average = load_average(train(recipe, drawn_pairs, settings))
    drawn = draw_faces(average, drawn_pairs.eyes[:, 0]).astype(int)
    start = Synthesizer.load(exported, device="cpu", num_threads=1)(drawn_pairs.eyes[:, 0])
    assert np.abs(drawn - start).mean() < 3
    begun = read_description(tmp_path / "run")["start_from"]
    assert begun["eye2face.name"] == "tiny" and len(begun["sha256"]) == 64
    assert begun["eye2face.version"] == read_facts(exported)["eye2face.version"] == "7"


def test_a_model_of_other_sizes_is_refused(exported: Path, eyes: Tensor) -> None:
    with pytest.raises(NotExported, match=r"weights of .* expected"):
        read_exported(exported, ModelConfig(), eyes)


def test_a_model_of_somebody_else_is_refused(eyes: Tensor) -> None:
    with pytest.raises(NotExported, match=r"eye_finder\.onnx was not exported"):
        read_exported(SHIPPED.with_name("eye_finder.onnx"), ModelConfig(), eyes)


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rubbish.onnx"
    path.write_bytes(b"rubbish" * 100)
    with pytest.raises(NotExported, match="cannot be read as an ONNX model"):
        read_facts(path)
    with pytest.raises(NotExported, match="cannot be read as an ONNX model"):
        read_facts(tmp_path / "nothing.onnx")


def test_a_run_that_cannot_begin_leaves_no_folder(drawn_pairs: Pairs, tmp_path: Path) -> None:
    settings = RunSettings(tmp_path / "run", "", start_from=tmp_path / "nothing.onnx", accelerator="cpu")
    with pytest.raises(NotExported, match=r"nothing\.onnx cannot be read"):
        train(RECIPES["tiny"], drawn_pairs, settings)
    assert not (tmp_path / "run").exists()


def test_what_the_file_says_of_itself_is_read(exported: Path) -> None:
    assert {each.key for each in onnx.load(exported).metadata_props} == set(read_facts(exported))
