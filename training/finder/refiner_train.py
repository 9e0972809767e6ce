"""Trains the refiner on close crops that were gathered once; killed at any step, it goes on exactly there.

A run's folder holds `run.json`, `crops.npy` and `labels.npy` (see `training.finder.refiner_crops`),
`checkpoint.pt` and `stats.jsonl`.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.optim import AdamW
from tqdm import tqdm

from training.finder.refiner_crops import RefinerCrops, mine_crops
from training.finder.refiner_model import RefinerNet, augment_crops, loss
from training.finder.scenes import Scenes
from training.finder.train import claim_folder
from training.loop import checkpoint as checkpoints
from training.loop.run_folder import Stats
from training.synthesizer.recipes import RefinerRecipe
from training.synthesizer.train import decay_at, learning_rate, update_average


@dataclass(frozen=True, slots=True)
class RefinerSettings:
    """Where a run goes, whose candidates it learns from, and how it is loaded."""

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
        RunConflict: the folder belongs to another recipe (its length may differ).
    """
    claim_folder(recipe, settings.folder)
    gathered = _gathered(recipe, scenes, settings)
    torch.manual_seed(recipe.seed)
    model = RefinerNet()
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = copy.deepcopy(model).requires_grad_(False).eval()
    optimizer = AdamW(model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    step = 0
    if (state := checkpoints.load(settings.folder)) is not None:
        step = state["step"]
        for name, part in (("model", model), ("average", average), ("optimizer", optimizer)):
            part.load_state_dict(state[name])
    stats = Stats(settings.folder, step, every=settings.log_every)
    for before in tqdm(range(step, recipe.num_steps), initial=step, total=recipe.num_steps, mininterval=10):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(recipe, before)
        terms = _step(model, optimizer, gathered, recipe, before)
        update_average(average, model, decay_at(recipe.ema_decay, before))
        step = before + 1
        stats.add(step, terms, last=step == recipe.num_steps)
        if step % settings.checkpoint_every == 0 or step == recipe.num_steps:
            parts: dict[str, nn.Module | AdamW] = {"model": model, "average": average, "optimizer": optimizer}
            saved = {name: part.state_dict() for name, part in parts.items()}
            checkpoints.save(settings.folder, {"step": step, **saved})
        after_step(step)
    return settings.folder


def load_refiner(folder: Path) -> RefinerNet:
    """The averaged network of a run, in evaluation mode.

    Raises:
        CheckpointError: the folder holds no run of a refiner.
    """
    state = checkpoints.load(folder)
    if state is None:
        raise checkpoints.CheckpointError(f"{folder} holds no checkpoint: train the refiner first")
    model = RefinerNet()
    model.load_state_dict(state["average"])
    return model.eval()


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
    total, terms = loss(model(close.contiguous(memory_format=torch.channels_last)), moved)
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
        np.save(crops, found.crops)
        np.save(labels, found.labels)  # last: with it the crops are whole
    return RefinerCrops(np.load(crops, mmap_mode="r"), np.load(labels))
