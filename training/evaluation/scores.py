"""Scores of drawn faces on a split: distance to the true faces, and variance over the split beside theirs.

Letters of shapes: N faces of the split, B batch, C channels, H and W height and width.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure
from tqdm import tqdm

from service.vision.images import Image
from training.evaluation.metrics import Metrics, perceptual_distances
from training.synthesizer import losses
from training.synthesizer.vgg import VGGFeatures

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
        distance = losses.over_layers(losses.l1, pred_features, true_features, self.weights)
        self.sums["feature_loss"] += distance.item() * num
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
def score_faces(drawn: Mapping[str, Image], true_NHWC: Image, features: VGGFeatures) -> dict[str, Metrics]:
    """The scores of each system's faces N x H x W x 3, by name; features are those of the report.

    l2: mean squared error over RGB in 0…1.
    feature_loss: mean over layers of mean |f(pred) − f(true)|, each over its scale.
    std_features: `losses.std_scalar` of layers over the whole split, not a batch: the seed's third column.
    std_map_features: the same, position by position.
    sigma_ratio: mean over pixels of the standard deviation over the split, drawn over true; 1 is full.
    perceptual: mean of `metrics.perceptual_distances`.
    ssim: structural similarity. Source: Wang et al. 2004; torchmetrics.
    frequency_error: mean over the `losses.block_dct` of blocks, of |log2| of their root mean square, drawn
        over true; 0 where each is as strong as in true faces, 1 where it is half or twice as strong.
    """
    totals = {name: Totals(features.weights) for name in drawn}
    real = Totals(features.weights)
    for start in tqdm(range(0, len(true_NHWC), BATCH_SIZE), desc="score"):
        part = slice(start, start + BATCH_SIZE)
        true = to_unit(true_NHWC[part])
        true_features = features(true)
        real.add(true, true, true_features, true_features)
        for name, faces in drawn.items():
            pred = to_unit(faces[part])
            totals[name].add(pred, true, features(pred), true_features)
    return {name: total.numbers(real) for name, total in totals.items()}


def to_unit(faces_BHWC: Image) -> Tensor:
    """Float32 B x 3 x H x W in 0…1 from uint8 B x H x W x 3."""
    return torch.from_numpy(np.ascontiguousarray(faces_BHWC)).permute(0, 3, 1, 2).float() / 255
