"""An exported file as the autoencoder it came from, so that training goes on from a shipped model.

The export folds each batch norm into its convolution and writes those behind an upsampling in phases
(`training.export.polyphase`); both are undone here. Weights come back as the file stores them, rounded to
float16.
Letters of shapes: B batch, S side of the eye.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from training.export.polyphase import PHASES, Weights, weights_of_phases
from training.synthesizer.autoencoder import Autoencoder, ModelConfig

PREFIX, HALVED = "autoencoder.", ".float16"


class NotExported(Exception):
    """A file that is no ONNX model, or not one that `export` wrote of a model of the expected sizes."""


def read_facts(path: Path) -> dict[str, str]:
    """What the file says of itself.

    Raises:
        NotExported: there is no such file, or it is no ONNX model.
    """
    return {each.key: each.value for each in _read(path).metadata_props}


def read_exported(path: Path, config: ModelConfig, eyes_BCHW: Tensor) -> Autoencoder:
    """The autoencoder that draws what the file draws, in evaluation mode.

    `eyes_BCHW` (B x 3 x S x S in 0…1) decide the moments of its batch norms: in training these take their
    batch's moments instead, and only if both are about the same the first step sees the model of the file.

    Raises:
        NotExported: there is no such file, or it is no model of these sizes.
    """
    model = Autoencoder(config).eval()
    weights = _weights_of(path)
    try:
        for name, layer in model.named_modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                _copy(layer.weight, _whole(weights, f"{name}.weight"))
                if layer.bias is not None:
                    _copy(layer.bias, weights[f"{name}.bias"])
            elif isinstance(layer, nn.BatchNorm2d):
                convolution = name.removesuffix("1") + "0"
                _copy(layer.bias, weights[f"{convolution}.weight_bias"])
    except (KeyError, ValueError) as error:
        raise NotExported(f"{path} was not exported from a model of {config}: {error}") from error
    _measure_norms(model, eyes_BCHW)
    return model


@torch.no_grad()
def _measure_norms(model: Autoencoder, eyes_BCHW: Tensor) -> None:
    """Turns batch norms that only add their bias into such as know the moments of what they see."""

    def measure(norm: nn.BatchNorm2d, inputs: tuple[Tensor]) -> None:
        assert norm.running_mean is not None and norm.running_var is not None
        variance, mean = torch.var_mean(inputs[0], (0, 2, 3))
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)
        norm.weight.copy_((variance + norm.eps).sqrt())
        norm.bias.add_(mean)

    hooks = [
        layer.register_forward_pre_hook(measure)
        for layer in model.modules()
        if isinstance(layer, nn.BatchNorm2d)
    ]
    model(eyes_BCHW)
    for hook in hooks:
        hook.remove()


def _copy(parameter: Tensor, value: Weights) -> None:
    if parameter.shape != value.shape:
        raise ValueError(f"weights of {value.shape}, expected {tuple(parameter.shape)}")
    parameter.data.copy_(torch.from_numpy(value))


def _whole(weights: Mapping[str, Weights], name: str) -> Weights:
    if name in weights:
        return weights[name]
    return weights_of_phases([weights[f"{name}.{row}{column}"] for row, column in PHASES])


def _weights_of(path: Path) -> dict[str, Weights]:
    return {
        each.name.removeprefix(PREFIX).removesuffix(HALVED): numpy_helper.to_array(each).astype(np.float32)
        for each in _read(path).graph.initializer
    }


def _read(path: Path) -> onnx.ModelProto:
    try:
        return onnx.load(path)
    except Exception as error:  # protobuf and onnx raise what they like
        raise NotExported(f"{path} cannot be read as an ONNX model: {error}") from error
