"""Trains the synthesizer, from one eye to a face; read this first.

One step, in the order of the code (B batch, C channels, H and W height and width; lists: a tensor a layer):

| stage    | code                        | gives                                                      |
|----------|-----------------------------|------------------------------------------------------------|
| batch    | `data.dataset.EyeFacePairs` | eyes B x 3 x S x S and faces B x 3 x F x F, uint8          |
| draw     | `autoencoder.Autoencoder`   | drawn faces, float32 B x 3 x F x F in 0…1                  |
| features | `vgg.VGGFeatures`           | of drawn and true faces, lists of B x C x H x W            |
| moments  | `moments.RunningMoments`    | EMA of the true features' mean and std, lists of C x H x W |
| losses   | `objectives.Objective`      | scalars by name, and their weighted sum                    |
| step     | `step.train_step`           | weights moved by AdamW                                     |
| EMA      | `loop.ema.update_ema`       | the averaged model, which is exported                      |

A run's folder holds `run.json`, `checkpoint.pt`, `stats.jsonl`, `curves.png` and `grid.png` (real faces).
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from training.data.dataset import EyeFacePairs, ResumableSampler
from training.data.splits import Split
from training.data.store import Pairs
from training.errors import RecipeError
from training.loop.loop import run_loop
from training.loop.precision import usable_precision
from training.loop.previews import draw_curves, draw_faces, draw_grid
from training.loop.run_folder import RunOutput, claim
from training.synthesizer.objectives import OBJECTIVES, describe_objective
from training.synthesizer.recipes import Recipe, describe
from training.synthesizer.state import begin, check_fits
from training.synthesizer.step import train_step
from training.synthesizer.vgg import VGGFeatures, load_features, training_layers
from training.synthesizer.weights import describe_weights


@dataclass(frozen=True, slots=True)
class RunSettings(RunOutput):
    """Where and how a recipe runs; of it only the seed and the start change the result on one machine.

    start_from: a finished run's folder, or a safetensors file of `export`, to begin with its weights.
    preview_every: steps between two drawings of curves and faces; 0 for none.
    """

    perceptual: str
    seed: int = 0
    start_from: Path | None = None
    accelerator: str = "auto"
    devices: int = 1
    preview_every: int = 1000


def train(recipe: Recipe, pairs: Pairs, settings: RunSettings) -> Path:
    """Runs the recipe to its last step, from its checkpoint if there is one, and returns the folder.

    A recipe's first stage is trained before, in a folder of its name inside.

    Raises:
        RunConflict: the folder belongs to another run.
        FeaturesUnavailable: the objective needs features and there are none.
        RecipeError: pairs or start have sizes that do not lead to the recipe's model, or the devices cannot
            have equal parts of its batches.
    """
    if recipe.batch_size % settings.devices:  # each process counts alike in statistics over the batch
        raise RecipeError(
            f"{settings.devices} devices cannot share the batches of {recipe.name!r}, of {recipe.batch_size} "
            "pairs, equally: choose another number of devices"
        )
    if recipe.first is not None and settings.start_from is None:
        # Another seed, so that it does not see the same eyes in the same order again.
        stage = replace(settings, folder=settings.folder / recipe.first.name, seed=settings.seed + 1)
        settings = replace(settings, start_from=train(recipe.first, pairs, stage))
    check_fits(recipe, pairs, settings.start_from)
    precision = usable_precision(recipe.precision, settings.accelerator)
    fabric = Fabric(
        accelerator=settings.accelerator, devices=settings.devices, precision=precision,
        strategy="ddp" if settings.devices > 1 else "auto",
    )  # fmt: skip
    fabric.launch()
    fabric.seed_everything(settings.seed, verbose=False)
    objective, model = OBJECTIVES[recipe.objective], recipe.model
    layers = training_layers(settings.perceptual, recipe.convs)
    features = load_features(settings.perceptual, layers) if objective.needs_features else None
    if fabric.is_global_zero:
        if precision != recipe.precision:
            tqdm.write(f"bfloat16 would be emulated here: {recipe.name} computes in float32", file=sys.stderr)
        claim(settings.folder, _describe(recipe, pairs, settings, features), precision=precision)
    fabric.barrier()
    dataset = EyeFacePairs(
        pairs, "train", jitter=recipe.jitter, seed=settings.seed, num_eyes=model.num_eyes,
        min_face_px=recipe.min_face_px, face_size=model.face_size,
    )  # fmt: skip
    state = begin(fabric, recipe, dataset, features, settings.folder, settings.start_from)
    batches = _batches(fabric, dataset, recipe, settings, state.step)

    def after_step(step: int) -> None:
        due = settings.preview_every and (step == recipe.num_steps or step % settings.preview_every == 0)
        if due and fabric.is_global_zero:
            draw_curves(settings.folder)
            split: Split = "dev" if "dev" in pairs.rows["split"] else "train"  # tiny data may have no dev
            faces = EyeFacePairs(pairs, split, num_eyes=model.num_eyes, face_size=model.face_size)
            draw_grid(settings.folder / "grid.png", faces, [partial(draw_faces, state.ema)])

    run_loop(
        recipe, state, lambda: train_step(fabric, state, objective, next(batches)), settings,
        writes=fabric.is_global_zero, after_step=after_step,
    )  # fmt: skip
    fabric.barrier()
    return settings.folder


def _describe(
    recipe: Recipe, pairs: Pairs, settings: RunSettings, features: VGGFeatures | None
) -> dict[str, Any]:
    start, manifest = settings.start_from, pairs.manifest
    return {
        "recipe": describe(recipe),
        **describe_objective(OBJECTIVES[recipe.objective]),
        "layers": [layer.name for layer in features.layers] if features else [],
        "seed": settings.seed,
        "start_from": None if start is None else describe_weights(start),
        "data": {key: manifest[key] for key in ("settings", "rows_sha256", "rows_by_licence")},
    }


def _batches(
    fabric: Fabric, dataset: EyeFacePairs, recipe: Recipe, settings: RunSettings, first_step: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Eyes and faces from the step on, without end; this process's part of each batch."""
    weights = dataset.balanced_weights(
        recipe.source_power, monochrome=recipe.monochrome, ai_made=recipe.ai_made
    )
    sampler = ResumableSampler(
        weights, recipe.batch_size, seed=settings.seed, first_step=first_step, rank=fabric.global_rank,
        world_size=fabric.world_size,
    )  # fmt: skip
    # A generator of its own: making an iterator draws from it, which a run that resumes does again.
    loader = DataLoader(
        dataset, batch_sampler=sampler, num_workers=settings.num_workers, generator=torch.Generator(),
        persistent_workers=settings.num_workers > 0, pin_memory=fabric.device.type == "cuda",
    )  # fmt: skip
    on_device = fabric.setup_dataloaders(loader, use_distributed_sampler=False)
    assert not isinstance(on_device, list)
    return iter(on_device)
