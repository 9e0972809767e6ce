"""What the model sees in a step: which samples, in which order, and how their eyes are jittered.

A sample is one usable eye of one row: its crop and its face, mirrored for a left eye. Everything
random is a function of (seed, epoch, index), so that a run that was interrupted goes on as if it
had not been. Letters of shapes: S side of the eye, F side of the face.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from service.vision.eyes import Image
from training.data.splits import Split
from training.data.store import Pairs


@dataclass(frozen=True, slots=True)
class Jitter:
    """How far an eye is moved and degraded, never the face: the seed's flaws are tilted, small and dark eyes.

    `turn_deg`, `shift` (parts of the side), `zoom` and `gamma` (log2) are uniform within ± the value;
    `blur`, `noise` and `small` are the parts of the eyes that are blurred, made noisy, or shown as
    if from fewer pixels (12 at least); `motion` and `jpeg` those that are blurred along a line and
    compressed. Called as a `Change`.
    """

    turn_deg: float = 8.0
    shift: float = 0.05
    zoom: float = 0.15
    gamma: float = 0.25
    blur: float = 0.15
    noise: float = 0.25
    small: float = 0.25
    motion: float = 0.0
    jpeg: float = 0.0

    def __call__(self, wide: Image, size: int, rng: np.random.Generator) -> Image:
        """See `jitter_eye`."""
        return jitter_eye(wide, size, self, rng)


Change = Callable[[Image, int, np.random.Generator], Image]
"""A size x size x 3 eye from the wider crop around it, changed at random."""

LONGEST_MOTION_PX = 9
JPEG_QUALITIES = (15, 70)


@dataclass(frozen=True, slots=True)
class SampleKey:
    """Names one draw of one sample; the seed and the epoch decide its jitter."""

    epoch: int
    index: int


class EyeFacePairs(Dataset[tuple[Tensor, Tensor]]):
    """Pairs (eye 3 x S x S, face 3 x F x F), both uint8, of one split.

    With `num_eyes=2` the person's other eye, usable or not, follows the eye along the channels.
    Without jitter, or another change, the eyes are the bytes that the service crops. The face of a
    left eye is mirrored, like the eye.

    Raises:
        ValueError: the split is empty.
    """

    def __init__(
        self, pairs: Pairs, split: Split, *, jitter: Change | None = None, seed: int = 0, num_eyes: int = 1,
    ) -> None:  # fmt: skip
        rows = pairs.rows
        chosen = rows["split"] == split
        usable = np.stack([rows["right_ok"], rows["left_ok"]], axis=1) & chosen[:, None]
        self.samples: NDArray[np.intp] = np.argwhere(usable)
        if not len(self.samples):
            raise ValueError(f"the folder of pairs holds no row of the split {split!r}")
        self.pairs, self.jitter, self.seed, self.num_eyes = pairs, jitter, seed, num_eyes

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
        if side == 1:
            face = face[:, ::-1]
        return _channels_first(np.concatenate(eyes, axis=2)), _channels_first(face)

    def balanced_weights(self, power: float) -> NDArray[np.float64]:
        """Each sample's chance, its source's share raised to `power` (1 as they are, 0 all sources alike)."""
        sources = self.pairs.rows["source"][self.samples[:, 0]]
        _, inverse, counts = np.unique(sources, return_inverse=True, return_counts=True)
        weights = (counts.astype(np.float64) ** (power - 1))[inverse]
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


def jitter_eye(wide: Image, size: int, jitter: Jitter, rng: np.random.Generator) -> Image:
    """A size x size x 3 crop from the middle of `wide`, moved and degraded at random."""
    eye: NDArray[Any] = _move(wide, size, jitter, rng)
    if rng.random() < jitter.small:
        fewer = int(rng.uniform(12, size))
        eye = cv2.resize(cv2.resize(eye, (fewer, fewer), interpolation=cv2.INTER_AREA), (size, size))
    if rng.random() < jitter.blur:
        eye = cv2.GaussianBlur(eye, (0, 0), rng.uniform(0.4, 1.5))
    # Without a chance nothing is drawn, so that runs from before these were there see the same eyes.
    if jitter.motion and rng.random() < jitter.motion:
        eye = _blur_along_a_line(eye, rng.uniform(2, LONGEST_MOTION_PX), rng.uniform(0, math.pi))
    gamma = 2 ** rng.uniform(-jitter.gamma, jitter.gamma)
    gain = 2 ** rng.uniform(-jitter.gamma, jitter.gamma) * 255
    curve = np.clip(gain * (np.arange(256) / 255) ** gamma, 0, 255)
    eye = cv2.LUT(eye, curve.astype(np.uint8))
    if rng.random() < jitter.noise:
        noise = rng.normal(0, rng.uniform(1, 8), eye.shape)
        eye = np.clip(eye + noise, 0, 255).astype(np.uint8)
    if jitter.jpeg and rng.random() < jitter.jpeg:
        eye = _compress(eye, int(rng.integers(*JPEG_QUALITIES)))
    return np.asarray(eye, dtype=np.uint8)


def cut_turned(
    wide: Image, size: int, turn_deg: float, *, step: float = 1.0, shift: tuple[float, float] = (0.0, 0.0)
) -> Image:
    """The middle of `wide`, turned, with `step` of its pixels to one of the cut, moved by pixels."""
    turn = math.radians(turn_deg)
    shift_x, shift_y = shift
    cos, sin = math.cos(turn) * step, math.sin(turn) * step
    middle, of_wide = (size - 1) / 2, (len(wide) - 1) / 2
    crop_to_wide = np.array(
        [
            [cos, -sin, of_wide + shift_x - cos * middle + sin * middle],
            [sin, cos, of_wide + shift_y - sin * middle - cos * middle],
        ]
    )
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    moved = cv2.warpAffine(wide, crop_to_wide, (size, size), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(moved, dtype=np.uint8)


def _move(wide: Image, size: int, jitter: Jitter, rng: np.random.Generator) -> Image:
    turn_deg = rng.uniform(-jitter.turn_deg, jitter.turn_deg)
    step = 1 + rng.uniform(-jitter.zoom, jitter.zoom)
    shift_x, shift_y = rng.uniform(-jitter.shift, jitter.shift, 2) * size
    return cut_turned(wide, size, turn_deg, step=step, shift=(shift_x, shift_y))


def _blur_along_a_line(eye: NDArray[Any], length_px: float, angle: float) -> NDArray[Any]:
    middle, part = LONGEST_MOTION_PX, 16
    x, y = (round(part * length_px / 2 * way) for way in (math.cos(angle), math.sin(angle)))
    kernel = np.zeros((2 * middle + 1, 2 * middle + 1), np.float32)
    ends = (part * middle - x, part * middle - y), (part * middle + x, part * middle + y)
    cv2.line(kernel, *ends, 1, 1, shift=4)  # in parts of 16, which are four bits
    return cv2.filter2D(eye, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REPLICATE)


def _compress(eye: NDArray[Any], quality: int) -> NDArray[Any]:
    # The order of the colours does matter: JPEG keeps green better than blue.
    done, data = cv2.imencode(".jpg", eye[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert done
    read = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert read is not None
    return np.ascontiguousarray(read[..., ::-1])


def _channels_first(picture: Image) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))
