"""Trains the eye finder; killed at any step, it goes on exactly there.

A run's folder holds `run.json`, `checkpoint.pt` and `stats.jsonl` (one line per logged step).
Letters of shapes: B batch, H and W of the picture, h and w of the maps, C colors.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from training.finder.detector import EyeFinderNet, detection_loss, target_maps
from training.finder.labels import load_photos
from training.finder.negatives import TRAINED, from_folder, packaged, parts_without_people
from training.finder.scenes import Scenes
from training.loop.checkpoint import load_ema
from training.loop.loop import begin, run_loop
from training.loop.run_folder import claim


@dataclass(frozen=True, slots=True)
class FinderRecipe:
    """What decides the trained finder, beside the data."""

    num_steps: int = 6000
    batch_size: int = 24
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    warmup_steps: int = 200
    cooldown_part: float = 0.5
    ema_decay: float = 0.998
    seed: int = 0


@dataclass(frozen=True, slots=True)
class FinderSettings:
    """Where a run goes and how it is loaded; none of it changes the result."""

    folder: Path
    num_workers: int = 0
    checkpoint_every: int = 100
    log_every: int = 50


class SceneDataset(Dataset[tuple[Tensor, Tensor]]):
    """Scene i as uint8 H x W x C and its target maps."""

    def __init__(self, scenes: Scenes, num_scenes: int) -> None:
        self.scenes, self.num_scenes = scenes, num_scenes

    def __len__(self) -> int:
        return self.num_scenes

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        picture, eyes = self.scenes.draw(index)
        return torch.from_numpy(np.ascontiguousarray(picture)), torch.from_numpy(target_maps(eyes))


def load_scenes(data: Path, seed: int, nobody: Path | None = None) -> Scenes:
    """Scenes of the `train` part of the labelled photos, and of pictures without people.

    Raises:
        DataError: `data` holds no labelled photos, or `nobody` no pictures.
    """
    photos = load_photos(data, "train")
    more = from_folder(nobody, "train") if nobody else ()
    return Scenes(photos, [*packaged(TRAINED), *parts_without_people(photos), *more], seed=seed)


def train_finder(recipe: FinderRecipe, scenes: Scenes, settings: FinderSettings) -> Path:
    """Runs the recipe to its last step, from its checkpoint if there is one, and returns the folder.

    Raises:
        RunConflict: the folder belongs to another recipe (its length may differ) or to other data.
    """
    cv2.setNumThreads(1)
    claim(settings.folder, {"recipe": asdict(recipe), "data": scenes.describe()})
    torch.manual_seed(recipe.seed)
    state = begin(
        EyeFinderNet(), settings, learning_rate=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    batches = _batches(recipe, scenes, settings, state.step)
    run_loop(recipe, state, lambda: _step(state.model, state.optimizer, next(batches)), settings)
    return settings.folder


def load_finder(folder: Path) -> EyeFinderNet:
    """The averaged network of a run, in evaluation mode.

    Raises:
        CheckpointError: the folder holds no run of a finder.
    """
    return load_ema(folder, EyeFinderNet())


def _step(
    model: nn.Module, optimizer: torch.optim.Optimizer, batch: tuple[Tensor, Tensor]
) -> dict[str, Tensor]:
    pictures_BHWC, wanted = batch
    model.train()
    # The batch is channels last already; permuting keeps it so. In float32: on the CPUs at hand the backward
    # pass of depthwise convolutions takes longer in bfloat16 (14.1 against 12.4 ms a picture).
    total, terms = detection_loss(model(pictures_BHWC.permute(0, 3, 1, 2).float()), wanted)
    optimizer.zero_grad(set_to_none=True)
    total.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(model.parameters(), 5.0)
    optimizer.step()
    return {"total": total.detach(), **terms}


def _batches(
    recipe: FinderRecipe, scenes: Scenes, settings: FinderSettings, step: int
) -> Iterator[tuple[Tensor, Tensor]]:
    num_scenes = recipe.num_steps * recipe.batch_size
    loader = DataLoader(
        SceneDataset(scenes, num_scenes), batch_size=recipe.batch_size,
        sampler=range(step * recipe.batch_size, num_scenes), num_workers=settings.num_workers,
    )  # fmt: skip
    yield from loader
