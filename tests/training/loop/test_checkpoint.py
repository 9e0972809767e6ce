"""Checkpoints: whole or not at all, with the random state."""

from pathlib import Path

import pytest
import torch

from training.errors import CheckpointError
from training.loop import checkpoint as checkpoints


def test_a_state_comes_back_with_its_random_state(tmp_path: Path) -> None:
    torch.manual_seed(3)
    checkpoints.save(tmp_path, {"step": 7})
    expected = torch.rand(1).item()
    state = checkpoints.load(tmp_path)
    assert state is not None and state["step"] == 7
    checkpoints.restore_random(state)
    assert torch.rand(1).item() == expected


def test_no_checkpoint_is_no_state(tmp_path: Path) -> None:
    assert checkpoints.load(tmp_path) is None


def test_a_half_written_checkpoint_leaves_the_one_before(tmp_path: Path) -> None:
    checkpoints.save(tmp_path, {"step": 1})
    (tmp_path / (checkpoints.FILE + ".new")).write_bytes(b"killed in the mid")
    state = checkpoints.load(tmp_path)
    assert state is not None and state["step"] == 1


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    (tmp_path / checkpoints.FILE).write_bytes(b"rubbish")
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt cannot be read"):
        checkpoints.load(tmp_path)
