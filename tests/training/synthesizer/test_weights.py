"""Weights on disk: a run's average, and the file beside an exported model."""

import json
from pathlib import Path

import pytest
import torch

from training.errors import CheckpointError, RunNotFound
from training.synthesizer.weights import describe_weights, load_weights, save_weights


def test_a_file_holds_the_averaged_weights_and_the_run_that_made_them(run: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_weights(path, load_weights(run), describe_weights(run))
    model = load_weights(path)
    assert not model.training and describe_weights(path) == json.loads((run / "run.json").read_text())
    expected = torch.load(run / "checkpoint.pt", weights_only=True)["average"]
    assert set(model.state_dict()) == set(expected)
    assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())


def test_what_is_no_run_and_no_file_of_weights_is_named(run: Path, tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(b"rubbish" * 10)
    for path in (tmp_path, tmp_path / "x.safetensors", tmp_path / "none.safetensors"):
        with pytest.raises(RunNotFound, match="holds no"):
            load_weights(path)
    (tmp_path / "run.json").write_bytes((run / "run.json").read_bytes())
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        load_weights(tmp_path)
