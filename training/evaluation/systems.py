"""Systems to evaluate: functions from eyes to faces, of a run, of an exported file or without training.

Letters of shapes: B batch, S side of the eye, F side of the face, N samples of a split, M training samples.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from service.inference.synthesizer import Synthesizer
from service.vision.images import Image
from training.data.dataset import EyeFacePairs
from training.data.face_alignment import FACE_FRAME_VERSION
from training.data.store import Pairs, Part
from training.errors import DataError
from training.evaluation.metrics import std_ratio
from training.loop.previews import draw_faces
from training.synthesizer.weights import load_weights

System = Callable[[Image], Image]
"""Faces B x F x F x 3 from eyes B x S x S x 3, both uint8; a person's other eye may follow the first along
the last axis, for the systems that look at both."""

MEAN_FACE, NEAREST_EYE = "mean face", "nearest training eye"
"""Baselines that need no run, as results name them."""

EYE_SIDE = 32
"""Eyes are compared at this size: their photos rarely hold more."""

NUM_CORRECTIONS = 8


def draw_split(system: System, dataset: EyeFacePairs, batch_size: int = 64) -> Image:
    """A system's faces N x F x F x 3 for all eyes of a split, in its order."""
    drawn = []
    for start in range(0, len(dataset), batch_size):
        eyes = [dataset[i][0] for i in range(start, min(start + batch_size, len(dataset)))]
        drawn.append(system(np.ascontiguousarray(torch.stack(eyes).permute(0, 2, 3, 1).numpy())))
    return np.concatenate(drawn)


def true_faces(dataset: EyeFacePairs, chosen: NDArray[np.intp] | None = None) -> Image:
    """The faces of a split's samples, or of the chosen ones, N x F x F x 3, those of left eyes mirrored."""
    samples = dataset.samples if chosen is None else dataset.samples[chosen]
    faces: Image = dataset.pairs.faces[samples[:, 0]]
    left = samples[:, 1] == 1
    faces[left] = faces[left][:, :, ::-1]
    return faces


def load_system(path: Path) -> System:
    """The system of a run's folder or a safetensors file: the averaged weights."""
    model = load_weights(path)
    return lambda eyes: draw_faces(model, eyes[..., : 3 * model.config.num_eyes])


def load_synthesizer(path: Path, part: Part = "eye") -> Synthesizer:
    """An exported `.onnx` file as the service runs it.

    Raises:
        ModelError: the file is no model of the service's contract, or one that sees another part.
        DataError: its faces lie elsewhere in their frame than those of today's pairs.
    """
    synthesizer = Synthesizer.load(path, device="cpu", num_threads=torch.get_num_threads(), part=part)
    if (version := synthesizer.info.face_frame_version) != FACE_FRAME_VERSION:
        raise DataError(f"{path} draws faces in frame {version}, pairs hold them in {FACE_FRAME_VERSION}")
    return synthesizer


def default_faces(synthesizer: Synthesizer) -> System:
    """The system that draws the default face of each eye."""
    return lambda eyes: synthesizer(eyes[..., :3])


def random_guess(synthesizer: Synthesizer) -> System:
    """The system that draws one random guess of each eye instead of the default face."""
    random = np.random.default_rng(0)

    def draw(eyes: Image) -> Image:
        noise_BD = random.standard_normal((len(eyes), synthesizer.info.noise_size), np.float32)
        return synthesizer.draw(eyes[..., :3], noise_BD)[0]

    return draw


def resized(system: System, side: int) -> System:
    """The system with its faces resized to that side, if they have another."""

    def draw(eyes: Image) -> Image:
        faces = system(eyes)
        if faces.shape[1] == side:
            return faces
        how = cv2.INTER_CUBIC if faces.shape[1] < side else cv2.INTER_AREA
        return np.stack([cv2.resize(face, (side, side), interpolation=how) for face in faces])

    return draw


def mean_face(pairs: Pairs) -> System:
    """The system that answers every eye with the mean of the `train` faces."""
    train = EyeFacePairs(pairs, "train")
    total = np.zeros(pairs.faces.shape[1:], dtype=np.float64)
    for row, side in train.samples:
        face = pairs.faces[row]
        total += face[:, ::-1] if side == 1 else face
    mean = np.round(total / len(train)).astype(np.uint8)
    return lambda eyes: np.repeat(mean[None], len(eyes), axis=0)


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

    It satisfies the scalar std loss on pixels without knowing anything more, so ours must beat it. `dataset`
    is the development split, never `val`.
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
