"""Trains the refiner on close crops that are gathered once; killed, it goes on from its last checkpoint.

A run's folder holds `run.json`, `crops.npy` and `labels.npy` (see `training.finder.refiner_crops`),
`checkpoint.pt` and `stats.jsonl`.
"""

import hashlib
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from training.data.files import save_array
from training.finder.refiner_crops import RefinerCrops, mine_crops
from training.finder.refiner_model import RefinerNet, augment_crops, refiner_loss
from training.finder.scenes import Scenes
from training.loop.loop import train_network
from training.loop.run_folder import RunOutput
from training.loop.schedule import Schedule

REFINER = Schedule(
    num_steps=9000, batch_size=256, learning_rate=2e-3, weight_decay=0.02, warmup_steps=200, cooldown_part=0.6
)

NUM_SCENES = 30_000
"""So many scenes are searched for crops."""


def train_refiner(
    recipe: Schedule, scenes: Scenes, finder: Path, output: RunOutput, *, num_scenes: int = NUM_SCENES
) -> Path:
    """Runs the recipe to its last step, from its checkpoint if there is one, and returns the folder.

    `finder` is the file whose detections in the scenes are learned from.

    Raises:
        RunConflict: the folder belongs to another recipe (its length may differ), to other data or another
            finder.
    """
    torch.manual_seed(scenes.seed)
    described = {
        "seed": scenes.seed, "num_scenes": num_scenes, "data": scenes.describe(),
        "finder": {"sha256": hashlib.sha256(finder.read_bytes()).hexdigest()},
    }  # fmt: skip

    def batches(first_step: int) -> Iterator[tuple[Tensor, Tensor]]:
        gathered = _gathered(scenes, finder, output, num_scenes)
        return (_batch(gathered, recipe.batch_size, scenes.seed, step) for step in count(first_step))

    return train_network(RefinerNet(), recipe, output, described, batches, _loss)


def _loss(model: nn.Module, close_BCHW: Tensor, labels_B6: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    return refiner_loss(model(close_BCHW.contiguous(memory_format=torch.channels_last)), labels_B6)


def _batch(gathered: RefinerCrops, batch_size: int, seed: int, step: int) -> tuple[Tensor, Tensor]:
    """Crops and labels of a step, which depend on the seed and its number only."""
    random = torch.Generator().manual_seed(seed * 1_000_003 + step)
    chosen = np.sort(torch.randint(len(gathered), (batch_size,), generator=random).numpy())
    wide = torch.from_numpy(gathered.crops[chosen]).permute(0, 3, 1, 2).float()
    return augment_crops(wide, torch.from_numpy(gathered.labels[chosen]), random)


def _gathered(scenes: Scenes, finder: Path, output: RunOutput, num_scenes: int) -> RefinerCrops:
    """The crops in the folder, gathered before if they are not there."""
    crops, labels = output.folder / "crops.npy", output.folder / "labels.npy"
    if not labels.exists():
        found = mine_crops(scenes, finder, range(num_scenes), num_workers=output.num_workers)
        save_array(crops, found.crops)
        save_array(labels, found.labels)  # last: with it the crops are whole
    return RefinerCrops(np.load(crops, mmap_mode="r"), np.load(labels))
