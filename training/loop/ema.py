"""Exponential moving average (EMA) of a network: its weights and its batch-norm statistics."""

import torch
from torch import nn


def decay_at(decay: float, step: int) -> float:
    """The decay of a step, smaller in the first ones so that the initial weights are forgotten."""
    return min(decay, (1 + step) / (10 + step))


@torch.no_grad()
def update_ema(ema: nn.Module, model: nn.Module, decay: float) -> None:
    """Moves the EMA towards the model: weights and batch-norm statistics; counters are copied."""
    for averaged, current in zip(ema.state_dict().values(), model.state_dict().values(), strict=True):
        if averaged.is_floating_point():
            averaged.lerp_(current, 1 - decay)
        else:
            averaged.copy_(current)
