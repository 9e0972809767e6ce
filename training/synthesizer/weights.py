"""Weights of a finished autoencoder: the EMA of a run, or the safetensors file beside an exported model."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from training.errors import RunNotFound
from training.loop.checkpoint import load_ema
from training.loop.run_folder import read_description
from training.synthesizer.autoencoder import Autoencoder, ModelConfig

SUFFIX = ".safetensors"
RUN = "run"
"""The file's metadata hold the content of the run's `run.json` under this key."""


def load_weights(path: Path) -> Autoencoder:
    """The averaged model of a run's folder or of a safetensors file, in evaluation mode.

    Raises:
        RunNotFound: the path is neither.
        CheckpointError: the run has no checkpoint yet.
    """
    model = Autoencoder(config_of(path))
    if path.suffix != SUFFIX:
        return load_ema(path, model)
    with safe_open(path, "pt") as file:
        model.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118  no dict
    return model.eval()


def config_of(path: Path) -> ModelConfig:
    """The sizes of the model whose weights these are.

    Raises:
        RunNotFound: the path is neither the folder of a run nor a file that `save_weights` wrote.
    """
    described: Mapping[str, Any] = describe_weights(path)["recipe"]["model"]
    sizes: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in described.items()}
    return ModelConfig(**sizes)


def describe_weights(path: Path) -> dict[str, Any]:
    """The run that made the weights, as its `run.json` says it.

    Raises:
        RunNotFound: the path is neither the folder of a run nor a file that `save_weights` wrote.
    """
    if path.suffix != SUFFIX:
        return read_description(path)
    try:
        with safe_open(path, "pt") as file:
            return dict(json.loads(file.metadata()[RUN]))
    except (OSError, SafetensorError, KeyError, TypeError) as error:
        raise RunNotFound(f"{path} holds no weights of a run: {error!r}") from error


def save_weights(path: Path, model: Autoencoder, run: Mapping[str, Any]) -> None:
    """Writes the model's weights and the description of the run that made them."""
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(state, path, metadata={RUN: json.dumps(run)})
