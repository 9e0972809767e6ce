"""Trains the eye finder; killed, it goes on from its last checkpoint.

A run's folder holds `run.json`, `checkpoint.pt` and `stats.jsonl` (one line per logged step).
Letters of shapes: B batch, H and W of the picture, h and w of the maps, C colors.
"""

from collections.abc import Collection, Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from training.finder.finder_model import EyeFinderNet, detection_loss, target_maps
from training.finder.labels import load_photos
from training.finder.negatives import TRAINED, from_folder, packaged, parts_without_people
from training.finder.scenes import Scenes
from training.loop.loop import train_network
from training.loop.run_folder import RunOutput
from training.loop.schedule import Schedule

FINDER = Schedule(
    num_steps=12000, batch_size=12, learning_rate=2e-3, warmup_steps=300, cooldown_part=0.5, ema_decay=0.998
)


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

    Raises:
        DataError: `data` holds no labeled photos, or `without_people` no pictures.
    """
    photos = load_photos(data, "train", licences=licences)
    more = from_folder(without_people, "train") if without_people else ()
    return Scenes(photos, [*packaged(TRAINED), *parts_without_people(photos), *more], seed=seed)


def train_finder(recipe: Schedule, scenes: Scenes, output: RunOutput) -> Path:
    """Runs the recipe to its last step, from its checkpoint if there is one, and returns the folder.

    Raises:
        RunConflict: the folder belongs to another recipe (its length may differ) or to other data.
    """
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
    return train_network(EyeFinderNet(), recipe, output, described, batches, _loss)


def _loss(model: nn.Module, pictures_BHWC: Tensor, wanted: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    # The batch is channels last already; permuting keeps it so. In float32: on the CPUs at hand the backward
    # pass of depthwise convolutions takes longer in bfloat16 (14.1 against 12.4 ms a picture).
    return detection_loss(model(pictures_BHWC.permute(0, 3, 1, 2).float()), wanted)
