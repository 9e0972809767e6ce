"""Running moments of the true faces' features, and fixed random directions to project features on.

A batch's own mean and deviation are noisy targets; an EMA of them is steady.
Source: dos Santos et al. 2019, "Learning Implicit Generative Models by Matching Perceptual Features".
Letters of shapes: B batch, C channels, H and W height and width, K directions.
"""

import math
from functools import cache
from typing import Any

import torch
from torch import Tensor

from training.synthesizer.losses import FeatureMaps, mean_over_batch, over_processes

NUM_DIRECTIONS = 64
"""As many as a batch has faces: covariances of more would be noise."""


class RunningMoments:
    """EMA of the first and second moment of each position of the true features.

    It averages over about 1 / (1 − decay) batches.
    """

    def __init__(self, device: torch.device | str = "cpu", decay: float = 0.98) -> None:
        self.device, self.decay = device, decay
        self.weight = 0.0
        self.means: list[Tensor] = []
        self.squares: list[Tensor] = []

    @torch.no_grad()
    def update(self, features: FeatureMaps) -> None:
        """Counts a (global) batch of true faces in."""
        if not self.means:
            self.means = [torch.zeros_like(each[0], dtype=torch.float32) for each in features]
            self.squares = [torch.zeros_like(mean) for mean in self.means]
        for mean, square, each in zip(self.means, self.squares, features, strict=True):
            mean.lerp_(over_processes(mean_over_batch(each)), 1 - self.decay)
            squares = mean_over_batch(each, lambda part: part.float().square())
            square.lerp_(over_processes(squares), 1 - self.decay)
        self.weight = self.decay * self.weight + 1 - self.decay

    def mean(self) -> list[Tensor]:
        """Each layer's mean, C x H x W."""
        return [mean / self.weight for mean in self.means]

    def std(self, batch_size: int) -> list[Tensor]:
        """Each layer's deviation as a batch of that size shows it: (B − 1) / B of the whole variance."""
        part = (batch_size - 1) / batch_size
        return [
            ((square / self.weight - mean.square()).clamp_min(0) * part).sqrt()
            for square, mean in zip(self.squares, self.mean(), strict=True)
        ]

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint holds of it."""
        return {"weight": self.weight, "means": self.means, "squares": self.squares}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes back to a checkpoint."""
        self.weight = state["weight"]
        self.means = [mean.to(self.device) for mean in state["means"]]
        self.squares = [square.to(self.device) for square in state["squares"]]


def random_directions(features: FeatureMaps) -> list[Tensor]:
    """Each layer's random directions, (C·H·W) x K, the same in every run and process."""
    return list(_directions(tuple(each[0].numel() for each in features), features[0].device))


@cache
def _directions(sizes: tuple[int, ...], device: torch.device) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    return tuple(
        (torch.randn(size, NUM_DIRECTIONS, generator=generator) / math.sqrt(size)).to(device)
        for size in sizes
    )
