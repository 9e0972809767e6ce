"""Checkpoints: the state of a run on disk, written atomically, with all that an exact resume needs."""

from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from training.data.files import write_atomically
from training.errors import CheckpointError

FILE = "checkpoint.pt"

State = dict[str, Any]

Module = TypeVar("Module", bound=nn.Module)


def save(folder: Path, state: State) -> None:
    """Replaces the checkpoint of `folder`; killed at any moment, the old one stays.

    Torch's random states are added; training uses no other global ones.
    """
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    whole = {**state, "random": {"torch": torch.get_rng_state(), "cuda": cuda}}
    write_atomically(folder / FILE, lambda file: torch.save(whole, file))


def load(folder: Path) -> State | None:
    """The state that `save` wrote, its tensors on the CPU; None without a checkpoint.

    Raises:
        CheckpointError: the file is damaged.
    """
    path = folder / FILE
    if not path.exists():
        return None
    try:
        return dict(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # a damaged file can fail in any way; all mean the same
        raise CheckpointError(f"{path} cannot be read ({error}): remove it to begin anew") from error


def load_ema(folder: Path, model: Module) -> Module:
    """The model with the averaged weights of a run's checkpoint, in evaluation mode.

    Raises:
        CheckpointError: there is no checkpoint yet, or it is damaged.
    """
    state = load(folder)
    if state is None:
        raise CheckpointError(f"{folder} holds no checkpoint: train it first")
    model.load_state_dict(state["average"])
    return model.eval()


def restore_random(state: State) -> None:
    """Sets the random states to those of the checkpoint."""
    states = state["random"]
    torch.set_rng_state(states["torch"])
    if states["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(states["cuda"])
