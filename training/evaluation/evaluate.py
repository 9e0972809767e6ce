"""Numbers of a system on a split: distance to the true faces, and variance over the split beside theirs.

Every system is a function from eyes to faces, so a shipped file, a run's checkpoint and a mean face
are measured alike. Letters of shapes: B batch, C channels, H and W height and width.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure
from tqdm import tqdm

from service.inference.synthesizer import Synthesizer
from service.vision.images import Image
from training.data.dataset import EyeFacePairs
from training.data.face_alignment import FACE_FRAME_VERSION
from training.data.store import Pairs, Part
from training.errors import DataError
from training.evaluation.metrics import perceptual_distances
from training.loop.previews import draw_faces
from training.synthesizer import losses
from training.synthesizer.vgg import VGGFeatures
from training.synthesizer.weights import load_weights

Metrics = dict[str, float]

System = Callable[[Image], Image]
"""Faces B x F x F x 3 from eyes B x S x S x 3, both uint8; a person's other eye may follow the first along
the last axis, for the systems that look at both."""

NUM_CALIBRATION_FACES = 256
BATCH_SIZE = 16

_LEAST_POWER = 1e-9
"""Of a frequency that is not there at all, so that its logarithm is finite."""


class Moments:
    """First and second moments of each position over a split, added up in float64."""

    def __init__(self) -> None:
        self.count = 0
        self.sum = self.sum_of_squares = torch.zeros(1, dtype=torch.float64)

    def add(self, batch_BCHW: Tensor) -> None:
        """Counts a batch in."""
        batch = batch_BCHW.double()
        self.count += len(batch)
        self.sum = self.sum + batch.sum(0)
        self.sum_of_squares = self.sum_of_squares + batch.square().sum(0)

    def std(self) -> Tensor:
        """The standard deviation of each position."""
        mean = self.sum / self.count
        return (self.sum_of_squares / self.count - mean.square()).clamp_min(0).sqrt()


class Totals:
    """Adds up one system's numbers batch by batch: the features of a whole split take gigabytes."""

    def __init__(self, layer_weights: list[float]) -> None:
        self.weights = layer_weights
        self.sums = {"l2": 0.0, "feature_loss": 0.0, "ssim": 0.0, "perceptual": 0.0}
        self.pixels = Moments()
        self.features = [Moments() for _ in layer_weights]
        self.power = torch.zeros(1, dtype=torch.float64)

    def add(
        self, pred: Tensor, true: Tensor, pred_features: list[Tensor], true_features: list[Tensor]
    ) -> None:
        """Counts a batch of drawn and true faces in."""
        num = len(pred)
        self.sums["l2"] += losses.l2(pred, true).item() * num
        self.sums["feature_loss"] += losses.feature(pred_features, true_features, self.weights).item() * num
        ssim = structural_similarity_index_measure(pred, true, data_range=1.0)
        assert isinstance(ssim, Tensor)
        self.sums["ssim"] += ssim.item() * num
        self.sums["perceptual"] += perceptual_distances(pred_features, true_features).sum().item()
        self.pixels.add(pred)
        self.power = self.power + losses.block_dct(pred).double().square().sum((0, 2, 3))
        for moments, activations in zip(self.features, pred_features, strict=True):
            moments.add(activations)

    def numbers(self, true: "Totals") -> Metrics:
        """The numbers, given the totals of the true faces against themselves."""
        num_samples = self.pixels.count
        stds = [(mine.std(), real.std()) for mine, real in zip(self.features, true.features, strict=True)]
        scalar = [(mine.mean() - real.mean()).abs().item() for mine, real in stds]
        by_position = [(mine - real).abs().mean().item() for mine, real in stds]
        powers = self.power.clamp_min(_LEAST_POWER) / true.power.clamp_min(_LEAST_POWER)
        return {name: total / num_samples for name, total in self.sums.items()} | {
            "std_features": sum(w * each for w, each in zip(self.weights, scalar, strict=True)),
            "std_map_features": sum(w * each for w, each in zip(self.weights, by_position, strict=True)),
            "sigma_ratio": (self.pixels.std().mean() / true.pixels.std().mean()).item(),
            "frequency_error": (powers.log2() / 2).abs().mean().item(),
            "num_samples": num_samples,
        }


@torch.no_grad()
def evaluate(drawn: Mapping[str, Image], true_NHWC: Image, features: VGGFeatures) -> dict[str, Metrics]:
    """The numbers of each system's faces N x F x F x 3, by name; features are those of the report.

    l2: mean squared error over RGB in 0…1.
    feature_loss: `losses.feature`: mean over layers of mean |f(pred) − f(true)|, each over its scale.
    std_features: `losses.std_scalar_features` over the whole split, not a batch: the seed's third column.
    std_map_features: the same, position by position.
    sigma_ratio: mean over pixels of the standard deviation over the split, drawn over true; 1 is full.
    perceptual: mean of `metrics.perceptual_distances`.
    ssim: structural similarity. Source: Wang et al. 2004; torchmetrics.
    frequency_error: mean over the `losses.block_dct` of blocks, of |log2| of their root mean square, drawn
        over true; 0 where each is as strong as in true faces, 1 where it is half or twice as strong.
    """
    totals = {name: Totals(features.weights) for name in drawn}
    real = Totals(features.weights)
    for start in tqdm(range(0, len(true_NHWC), BATCH_SIZE), desc="evaluate"):
        part = slice(start, start + BATCH_SIZE)
        true = to_unit(true_NHWC[part])
        true_features = features(true)
        real.add(true, true, true_features, true_features)
        for name, faces in drawn.items():
            pred = to_unit(faces[part])
            totals[name].add(pred, true, features(pred), true_features)
    return {name: total.numbers(real) for name, total in totals.items()}


def calibrate(features: VGGFeatures, pairs: Pairs) -> None:
    """Sets the layers' scales on faces spread over the `train` split: the same for every system and split."""
    train = EyeFacePairs(pairs, "train")
    chosen = np.linspace(0, len(train) - 1, min(NUM_CALIBRATION_FACES, len(train))).astype(int)
    features.calibrate(torch.stack([train[int(i)][1] for i in chosen]).float() / 255)


def mean_face(pairs: Pairs) -> System:
    """The system that answers every eye with the mean of the `train` faces."""
    train = EyeFacePairs(pairs, "train")
    total = np.zeros(pairs.faces.shape[1:], dtype=np.float64)
    for row, side in train.samples:
        face = pairs.faces[row]
        total += face[:, ::-1] if side == 1 else face
    mean = np.round(total / len(train)).astype(np.uint8)
    return lambda eyes: np.repeat(mean[None], len(eyes), axis=0)


def load_system(path: Path) -> System:
    """The system of a run's folder or a safetensors file: the averaged weights.

    Raises:
        RunNotFound: the path is neither.
    """
    model = load_weights(path)
    return lambda eyes: draw_faces(model, eyes[..., : 3 * model.config.num_eyes])


def default_faces(synthesizer: Synthesizer) -> System:
    """The system that draws the default face of each eye."""
    return lambda eyes: synthesizer(eyes[..., :3])


def load_synthesizer(path: Path, part: Part = "eye") -> Synthesizer:
    """An exported `.onnx` file as the service runs it.

    Raises:
        ModelError: the file is no model of the service's contract, or one that sees another part.
        DataError: its faces lie elsewhere in their frame than those of today's pairs.
    """
    synthesizer = Synthesizer.load(path, device="cpu", num_threads=torch.get_num_threads(), part=part)
    if (version := synthesizer.info.face_frame_version) != FACE_FRAME_VERSION:
        raise DataError(
            f"{path} draws faces in frame {version}, pairs hold them in frame {FACE_FRAME_VERSION}: they "
            "cannot be compared"
        )
    return synthesizer


def enlarged(system: System, side: int) -> System:
    """The system with its faces enlarged to that side, where they are smaller; cubic."""

    def draw(eyes: Image) -> Image:
        faces = system(eyes)
        if faces.shape[1] >= side:
            return faces
        return np.stack([cv2.resize(face, (side, side), interpolation=cv2.INTER_CUBIC) for face in faces])

    return draw


def to_unit(faces_BHWC: Image) -> Tensor:
    """Float32 B x 3 x H x W in 0…1 from uint8 B x H x W x 3."""
    return torch.from_numpy(np.ascontiguousarray(faces_BHWC)).permute(0, 3, 1, 2).float() / 255


def describe(features: VGGFeatures) -> str:
    """Which layers were used and their scales, for the head of a report."""
    scales: NDArray[np.float32] = features.scales.numpy()
    return ", ".join(
        f"{layer.name} / {scale:.4g}" for layer, scale in zip(features.layers, scales, strict=True)
    )
