"""Trains the refiner on close crops that were gathered once; killed at any step, it goes on exactly there.

A run's folder holds `run.json`, `crops.npy` and `labels.npy` (see `training.finder.refiner_crops`),
`checkpoint.pt` and `stats.jsonl`.
"""

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from training.data.files import save_array
from training.finder.refiner_crops import RefinerCrops, mine_crops
from training.finder.refiner_model import RefinerNet, augment_crops, refiner_loss
from training.finder.scenes import Scenes
from training.loop.checkpoint import load_ema
from training.loop.loop import begin, run_loop
from training.loop.run_folder import claim


@dataclass(frozen=True, slots=True)
class RefinerRecipe:
    """What decides the trained refiner, beside the data and the finder whose candidates it sees."""

    num_pictures: int = 30_000
    num_steps: int = 9000
    batch_size: int = 256
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    warmup_steps: int = 200
    cooldown_part: float = 0.6
    ema_decay: float = 0.998
    seed: int = 0


@dataclass(frozen=True, slots=True)
class RefinerSettings:
    """Where a run goes, whose detections it learns from, and how it is loaded."""

    folder: Path
    finder: Path
    num_workers: int = 0
    checkpoint_every: int = 500
    log_every: int = 100


def train_refiner(
    recipe: RefinerRecipe,
    scenes: Scenes,
    settings: RefinerSettings,
    *,
    after_step: Callable[[int], None] = lambda step: None,
) -> Path:
    """Runs the recipe to its last step, from its checkpoint if there is one, and returns the folder.

    `after_step` is told the number of each step that is done.

    Raises:
        RunConflict: the folder belongs to another recipe (its length may differ), to other data or another
            finder.
    """
    finder = {"sha256": hashlib.sha256(settings.finder.read_bytes()).hexdigest()}
    claim(settings.folder, {"recipe": asdict(recipe), "data": scenes.describe(), "finder": finder})
    gathered = _gathered(recipe, scenes, settings)
    torch.manual_seed(recipe.seed)
    state = begin(
        RefinerNet(), settings, learning_rate=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    run_loop(
        recipe,
        state,
        lambda: _step(state.model, state.optimizer, gathered, recipe, state.step),
        settings,
        after_step=after_step,
    )
    return settings.folder


def load_refiner(folder: Path) -> RefinerNet:
    """The averaged network of a run, in evaluation mode.

    Raises:
        CheckpointError: the folder holds no run of a refiner.
    """
    return load_ema(folder, RefinerNet())


def _step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    gathered: RefinerCrops,
    recipe: RefinerRecipe,
    step: int,
) -> dict[str, torch.Tensor]:
    """One step; what it sees depends on the seed and its number only."""
    random = torch.Generator().manual_seed(recipe.seed * 1_000_003 + step)
    chosen = torch.randint(len(gathered), (recipe.batch_size,), generator=random).numpy()
    wide = torch.from_numpy(gathered.crops[np.sort(chosen)]).permute(0, 3, 1, 2).float()
    labels = torch.from_numpy(gathered.labels[np.sort(chosen)])
    torch.manual_seed(recipe.seed * 1_000_003 + step)  # the dropout's
    model.train()
    close, moved = augment_crops(wide, labels, random)
    total, terms = refiner_loss(model(close.contiguous(memory_format=torch.channels_last)), moved)
    optimizer.zero_grad(set_to_none=True)
    total.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return {"total": total.detach(), **terms}


def _gathered(recipe: RefinerRecipe, scenes: Scenes, settings: RefinerSettings) -> RefinerCrops:
    """The crops in the folder, gathered before if they are not there."""
    crops, labels = settings.folder / "crops.npy", settings.folder / "labels.npy"
    if not labels.exists():
        found = mine_crops(
            scenes, settings.finder, range(recipe.num_pictures), num_workers=settings.num_workers
        )
        save_array(crops, found.crops)
        save_array(labels, found.labels)  # last: with it the crops are whole
    return RefinerCrops(np.load(crops, mmap_mode="r"), np.load(labels))
