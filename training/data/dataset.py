"""Samples of eye and face for training, and a sampler that resumes at any step.

A sample is one usable eye of one row: its crop and its face, mirrored for a left eye. Everything
random is a function of (seed, epoch, index), so that a run that was interrupted goes on as if it
had not been. Letters of shapes: S side of the eye, F side of the face.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from service.vision.images import Image
from training.data.augmentation import EyeTransform
from training.data.face_alignment import EYE_DISTANCE
from training.data.splits import Split
from training.data.store import Pairs
from training.errors import DataError


@dataclass(frozen=True, slots=True)
class SampleKey:
    """Names one draw of one sample; the seed and the epoch decide its jitter."""

    epoch: int
    index: int


class EyeFacePairs(Dataset[tuple[Tensor, Tensor]]):
    """Pairs (eye 3 x S x S, face 3 x F x F), both uint8, of one split.

    With `num_eyes=2` the person's other eye, usable or not, follows the eye along the channels.
    Without jitter, or another transform, the eyes are the bytes that the service crops. The face of a
    left eye is mirrored, like the eye. Faces narrower than `min_face_px` in their photo are left out;
    `face_size` shrinks the rest.

    Raises:
        DataError: the split is empty.
    """

    def __init__(  # noqa: PLR0913  each is a choice of its own
        self, pairs: Pairs, split: Split, *, jitter: EyeTransform | None = None, seed: int = 0,
        num_eyes: int = 1, min_face_px: float = 0.0, face_size: int | None = None,
    ) -> None:  # fmt: skip
        rows = pairs.rows
        chosen = (rows["split"] == split) & (rows["eye_distance_px"] >= min_face_px * EYE_DISTANCE)
        usable = np.stack([rows["right_ok"], rows["left_ok"]], axis=1) & chosen[:, None]
        self.samples: NDArray[np.intp] = np.argwhere(usable)
        if not len(self.samples):
            wide = f" with a face of {min_face_px:g} px or wider" if min_face_px else ""
            raise DataError(f"the folder of pairs holds no row of the split {split!r}{wide}")
        self.pairs, self.jitter, self.seed, self.num_eyes = pairs, jitter, seed, num_eyes
        self.face_size = face_size or pairs.faces.shape[1]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: SampleKey | int) -> tuple[Tensor, Tensor]:
        epoch, index = (key.epoch, key.index) if isinstance(key, SampleKey) else (0, key)
        row, side = self.samples[index]
        sides = (side, 1 - side)[: self.num_eyes]
        if self.jitter is None:
            eyes = [self.pairs.eyes[row, each] for each in sides]
        else:
            rng, size = np.random.default_rng((self.seed, epoch, index)), self.pairs.eyes.shape[2]
            eyes = [self.jitter(self.pairs.eyes_wide[row, each], size, rng) for each in sides]
        face = self.pairs.faces[row]
        if len(face) != self.face_size:
            small_size = (self.face_size, self.face_size)
            face = np.asarray(cv2.resize(face, small_size, interpolation=cv2.INTER_AREA), np.uint8)
        if side == 1:
            face = face[:, ::-1]
        return _channels_first(np.concatenate(eyes, axis=2)), _channels_first(face)

    def balanced_weights(
        self, power: float, *, monochrome: float = 1.0, ai_made: float = 1.0
    ) -> NDArray[np.float64]:
        """Each sample's chance, its source's share raised to `power` (1 as they are, 0 all sources alike).

        Monochrome photos, and those that a model made, have `monochrome` and `ai_made` times that chance.
        """
        rows = self.pairs.rows[self.samples[:, 0]]
        _, inverse, counts = np.unique(rows["source"], return_inverse=True, return_counts=True)
        weights = (counts.astype(np.float64) ** (power - 1))[inverse]
        weights *= np.where(rows["monochrome"], monochrome, 1) * np.where(rows["ai_made"], ai_made, 1)
        return np.asarray(weights / weights.sum(), dtype=np.float64)


class ResumableSampler(Sampler[list[SampleKey]]):
    """Batches of keys without end, beginning at `first_step`; epoch e draws from (seed, e).

    An epoch has as many draws as there are samples, weighted, with replacement. Each process of a
    data-parallel run takes its own part of every batch.
    """

    def __init__(
        self, weights: NDArray[np.float64], batch_size: int, *, seed: int, first_step: int = 0,
        rank: int = 0, world_size: int = 1,
    ) -> None:  # fmt: skip
        self.weights, self.batch_size, self.seed, self.first_step = weights, batch_size, seed, first_step
        self.part = slice(rank, None, world_size)
        self.steps_per_epoch = max(1, len(weights) // batch_size)

    def __iter__(self) -> Iterator[list[SampleKey]]:
        epoch, skipped = divmod(self.first_step, self.steps_per_epoch)
        while True:
            rng = np.random.default_rng((self.seed, epoch))
            num_draws = self.steps_per_epoch * self.batch_size
            order = rng.choice(len(self.weights), num_draws, replace=True, p=self.weights)
            for batch in order.reshape(self.steps_per_epoch, self.batch_size)[skipped:]:
                yield [SampleKey(epoch, int(index)) for index in batch[self.part]]
            epoch, skipped = epoch + 1, 0


def _channels_first(picture: Image) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))
