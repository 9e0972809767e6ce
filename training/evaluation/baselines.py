"""Baselines without training: the nearest training eye, and an amplified regressor.

Letters of shapes: B batch, S side of the eye, F side of the face, M training samples.
"""

from collections.abc import Iterable

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from service.vision.images import Image
from training.data.dataset import EyeFacePairs
from training.data.store import Pairs
from training.evaluation.benchmark import draw_split, true_faces
from training.evaluation.evaluate import System, mean_face
from training.evaluation.metrics import std_ratio

EYE_SIDE = 32
"""Eyes are compared at this size: their photos rarely hold more."""

NUM_CORRECTIONS = 8


def nearest_eye(pairs: Pairs) -> System:
    """The system that answers with the face of the training eye most similar to the eye."""
    train = EyeFacePairs(pairs, "train")
    known_MP = _normalized(pairs.eyes[row, side] for row, side in train.samples)

    def draw(eyes_BHWC: Image) -> Image:
        likeness = _normalized(eyes_BHWC[..., :3]) @ known_MP.T
        return true_faces(train, likeness.argmax(1).numpy())

    return draw


def amplified(regressor: System, pairs: Pairs, dataset: EyeFacePairs) -> System:
    """A regressor whose deviation from the mean face is scaled until σ over `dataset` is the true one's.

    It satisfies the scalar std loss on pixels without knowing
    anything more, so ours must beat it. `dataset` is the development split, never `val`.
    """
    mean = mean_face(pairs)
    drawn, true = draw_split(regressor, dataset), true_faces(dataset)
    middle = mean(drawn[:1])[0].astype(np.float32)
    factor = 1.0
    for _ in range(NUM_CORRECTIONS):  # more than one, as pixels are cut off at black and white
        ratio = std_ratio(_scaled(drawn, middle, factor), true)
        if ratio == 0:  # hardly trained, it draws one face for all: there is nothing to amplify
            break
        factor /= ratio
    return lambda eyes: _scaled(regressor(eyes), middle, factor)


def _scaled(faces_BHWC: Image, middle_HWC: NDArray[np.float32], factor: float) -> Image:
    scaled = middle_HWC + factor * (faces_BHWC.astype(np.float32) - middle_HWC)
    return np.asarray(np.clip(np.round(scaled), 0, 255), dtype=np.uint8)


def _normalized(eyes: Iterable[Image]) -> Tensor:
    """Small eyes as vectors of mean 0 and length 1, so that a product is a correlation."""
    small = [cv2.resize(eye, (EYE_SIDE, EYE_SIDE), interpolation=cv2.INTER_AREA) for eye in eyes]
    flat = torch.from_numpy(np.stack(small)).float().flatten(1)
    return torch.nn.functional.normalize(flat - flat.mean(1, keepdim=True), dim=1)
