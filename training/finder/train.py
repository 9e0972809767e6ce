"""Trains the eye finder, and its refiner on crops that are gathered once; killed, each goes on.

A run's folder holds `run.json`, `checkpoint.pt` and `stats.jsonl` (one line per logged step), and a refiner's
`crops.npy` and `labels.npy`, see `training.finder.refiner_crops`.
Letters of shapes: B batch, H and W of the picture, h and w of the maps, C colors.
"""

import hashlib
from collections.abc import Collection, Iterator
from functools import partial
from itertools import count
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from training.data.files import write_atomically
from training.errors import RunError
from training.finder.finder_model import EyeFinderNet, detection_loss, target_maps
from training.finder.labels import load_photos
from training.finder.negatives import TRAINED, from_folder, packaged, parts_without_people
from training.finder.refiner_crops import Crops, Labels, mine_crops
from training.finder.refiner_model import RefinerNet, augment_crops, refiner_loss
from training.finder.scenes import Scenes
from training.loop.loop import train_network
from training.loop.run_folder import RunOutput
from training.loop.schedule import Schedule

FINDER = Schedule(
    num_steps=12000, batch_size=12, learning_rate=2e-3, warmup_steps=300, cooldown_part=0.5, ema_decay=0.998
)

REFINER = Schedule(
    num_steps=9000, batch_size=256, learning_rate=2e-3, weight_decay=0.02, warmup_steps=200, cooldown_part=0.6
)

NUM_SCENES = 30_000
"""So many scenes are searched for crops."""


class SceneDataset(Dataset[tuple[Tensor, Tensor]]):
    """Scene i as uint8 H x W x C and its target maps."""

    def __init__(self, scenes: Scenes, num_scenes: int) -> None:
        self.scenes, self.num_scenes = scenes, num_scenes

    def __len__(self) -> int:
        return self.num_scenes

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        picture, eyes = self.scenes.draw(index)
        return torch.from_numpy(np.ascontiguousarray(picture)), torch.from_numpy(target_maps(eyes))


def load_scenes(
    data: Path, seed: int, without_people: Path | None = None, *, licences: Collection[str] = ()
) -> Scenes:
    """Scenes of the `train` part of the labeled photos, and of pictures without people.

    With `licences` only photos under one of them are learned from.
    """
    photos = load_photos(data, "train", licences=licences)
    more = from_folder(without_people, "train") if without_people else ()
    return Scenes(photos, [*packaged(TRAINED), *parts_without_people(photos), *more], seed=seed)


def train_finder(recipe: Schedule, scenes: Scenes, output: RunOutput) -> Path:
    """Runs the recipe to its last step, from its checkpoint if there is one, and returns the folder."""
    cv2.setNumThreads(1)
    torch.manual_seed(scenes.seed)

    def batches(step: int) -> Iterator[tuple[Tensor, Tensor]]:
        num_scenes = recipe.num_steps * recipe.batch_size
        loader = DataLoader(
            SceneDataset(scenes, num_scenes), batch_size=recipe.batch_size,
            sampler=range(step * recipe.batch_size, num_scenes), num_workers=output.num_workers,
        )  # fmt: skip
        return iter(loader)

    described = {"seed": scenes.seed, "data": scenes.describe()}
    return train_network(EyeFinderNet(), recipe, output, described, batches, _finder_loss)


def _finder_loss(model: nn.Module, pictures_BHWC: Tensor, wanted: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    # The batch is channels last already; permuting keeps it so. In float32: on the CPUs at hand the backward
    # pass of depthwise convolutions takes longer in bfloat16 (14.1 against 12.4 ms a picture).
    return detection_loss(model(pictures_BHWC.permute(0, 3, 1, 2).float()), wanted)


def train_refiner(
    recipe: Schedule, scenes: Scenes, finder: Path, output: RunOutput, *, num_scenes: int = NUM_SCENES
) -> Path:
    """Runs the recipe to its last step, from its checkpoint if there is one, and returns the folder.

    `finder` is the file whose detections in the scenes are learned from.

    Raises:
        RunConflict: the folder belongs to another run.
        RunError: the crops in the folder are damaged.
    """
    torch.manual_seed(scenes.seed)
    described = {
        "seed": scenes.seed, "num_scenes": num_scenes, "data": scenes.describe(),
        "finder": {"sha256": hashlib.sha256(finder.read_bytes()).hexdigest()},
    }  # fmt: skip

    def batches(first_step: int) -> Iterator[tuple[Tensor, Tensor]]:
        crops, labels = _gathered(scenes, finder, output, num_scenes)

        def draw(step: int) -> tuple[Tensor, Tensor]:  # depends on the seed and the step's number only
            random = torch.Generator().manual_seed(scenes.seed * 1_000_003 + step)
            chosen = np.sort(torch.randint(len(labels), (recipe.batch_size,), generator=random).numpy())
            wide = torch.from_numpy(crops[chosen]).permute(0, 3, 1, 2).float()
            return augment_crops(wide, torch.from_numpy(labels[chosen]), random)

        return map(draw, count(first_step))

    return train_network(RefinerNet(), recipe, output, described, batches, _refiner_loss)


def _refiner_loss(model: nn.Module, close_BCHW: Tensor, wanted: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    return refiner_loss(model(close_BCHW.contiguous(memory_format=torch.channels_last)), wanted)


def _gathered(scenes: Scenes, finder: Path, output: RunOutput, num_scenes: int) -> tuple[Crops, Labels]:
    """The crops and labels in the folder, gathered before if they are not there."""
    crops, labels = output.folder / "crops.npy", output.folder / "labels.npy"
    if not labels.exists():
        found = mine_crops(scenes, finder, range(num_scenes), num_workers=output.num_workers)
        write_atomically(crops, partial(np.save, arr=found[0]))
        write_atomically(labels, partial(np.save, arr=found[1]))  # last: with it the crops are whole
    try:
        gathered = np.load(crops, mmap_mode="r"), np.load(labels)
        if len(gathered[0]) != len(gathered[1]):
            raise ValueError("crops and labels of different numbers")
    except (OSError, ValueError, EOFError) as error:
        raise RunError(f"{output.folder} holds damaged crops ({error}): remove it to begin anew") from error
    return gathered
