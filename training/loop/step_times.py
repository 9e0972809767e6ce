"""What a step of training spends its time on: loading, the model, the features, the rest of the objective.

The parts are differences between steps with less and less in them, taken in turns, so that a busy machine
slows all alike: L1 alone, the feature loss with it, the whole objective.
"""

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric

from training.data.dataset import EyeFacePairs
from training.data.store import Pairs
from training.loop.precision import usable_precision
from training.synthesizer.objectives import OBJECTIVES
from training.synthesizer.recipes import Recipe
from training.synthesizer.step import make_step
from training.synthesizer.train import (
    RunSettings,
    begin_run,
    check_sizes,
    keep_freed_memory,
    make_loader,
    update_average,
)
from training.synthesizer.vgg import load_features, training_layers

SMALLER = "l1", "feature"
"""Objectives that look at pixels alone, and at features without any statistic of them."""


@dataclass(frozen=True, slots=True)
class StepTimes:
    """Medians in milliseconds of what a step of `batch_size` samples does, in its order.

    `model` is the autoencoder's forward and backward pass with L1, its optimizer and its average;
    `features` what VGG19 adds with the feature loss; `statistics` what the rest of the objective adds, a
    critic included.
    """

    batch_size: int
    loading: float
    model: float
    features: float
    statistics: float

    @property
    def samples_per_second(self) -> float:
        """Of a whole step, one thing after the other."""
        return 1000 * self.batch_size / (self.loading + self.model + self.features + self.statistics)

    def describe(self) -> str:
        """One line; the parts in the order of their size."""
        parts = {name: getattr(self, name) for name in ("loading", "model", "features", "statistics")}
        whole = sum(parts.values())
        largest_first = sorted(parts.items(), key=lambda each: -each[1])
        shares = ", ".join(f"{name} {part / whole:.0%}" for name, part in largest_first)
        return f"{self.samples_per_second:.0f} samples a second; of a step's {whole:.0f} ms {shares}"


def time_steps(
    recipe: Recipe, pairs: Pairs, perceptual: str, *, accelerator: str = "auto", rounds: int = 5
) -> StepTimes:
    """Times some steps of a run that begins here, and leaves nothing behind.

    Raises:
        FeaturesUnavailable: the objective needs features and there are none.
        DataError: the pairs have no crops of the recipe's part.
        ValueError: they have other sizes than the recipe's model.
    """
    pairs = pairs.of_part(recipe.part)
    check_sizes(recipe, pairs)
    keep_freed_memory()
    precision = usable_precision(recipe.precision, accelerator)
    fabric = Fabric(accelerator=accelerator, devices=1, precision=precision)
    fabric.seed_everything(0, verbose=False)
    whole = OBJECTIVES[recipe.objective]
    layers = training_layers(perceptual, recipe.convs)
    features = load_features(perceptual, layers) if whole.needs_features else None
    dataset = EyeFacePairs(pairs, "train", jitter=recipe.jitter, num_eyes=recipe.model.num_eyes)
    with tempfile.TemporaryDirectory() as folder:
        settings = RunSettings(Path(folder) / "none", perceptual, accelerator=accelerator)
        run = begin_run(fabric, recipe, dataset, settings, features)
    loader = fabric.setup_dataloaders(
        make_loader(fabric, dataset, recipe, settings, 0), use_distributed_sampler=False
    )
    assert not isinstance(loader, list)
    batches = iter(loader)
    adversary, statistics = run.adversary, run.statistics

    def take(name: str) -> float:
        begin = time.perf_counter()
        smaller = name in SMALLER
        run.features = None if name == "l1" else features
        run.adversary, run.statistics = (None, None) if smaller else (adversary, statistics)
        make_step(fabric, run, OBJECTIVES[name] if smaller else whole, batch)
        update_average(run.average, run.model, recipe.ema_decay)
        if fabric.device.type == "cuda":
            torch.cuda.synchronize()
        return (time.perf_counter() - begin) * 1000

    names = [*(SMALLER if features is not None else SMALLER[:1]), "whole"]
    taken: list[list[float]] = []
    for _ in range(rounds + 1):
        begin = time.perf_counter()
        batch = next(batches)
        loading = (time.perf_counter() - begin) * 1000
        taken.append([loading, *map(take, names)])
    loading, *parts = (float(each) for each in np.median(taken[1:], axis=0))  # the first one warms up
    added = [max(0.0, each) for each in np.diff([0.0, *parts])]
    if features is None:
        added.insert(1, 0.0)
    return StepTimes(recipe.batch_size, loading, added[0], added[1], added[2])
