"""Metrics on whole splits, one function each: KID, diversity, sharpness, rank, memorisation, skin color.

For the rest see `training.evaluation.scores`.

Letters of shapes: N faces of a split, M training faces, B batch, C channels, H and W height and width,
E numbers of an embedding. Faces are in 0…1; embeddings are of `training.evaluation.embeddings`.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from skimage.color import rgb2lab
from torch import Tensor
from torch.nn import functional
from torchmetrics.image.kid import maximum_mean_discrepancy, poly_kernel

Metrics = dict[str, float]
"""Numbers by the name of what they measure."""

NUM_SUBSETS = 100
NUM_RESAMPLES = 1000

CHEEKS_AT, CHEEK_SIZE = ((0.27, 0.60), (0.73, 0.60)), 0.10
"""Squares on both cheeks, in parts of the face's side: below the eyes and beside the nose."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with what it may be off: a standard deviation, or half of a 95 % interval."""

    value: float
    error: float


def std_ratio(pred_NHWC: NDArray[np.uint8], true_NHWC: NDArray[np.uint8]) -> float:
    """Mean over pixels of the deviation over the split, drawn over true; 1 is full variance."""
    drawn, real = (each.std(0, dtype=np.float32).mean() for each in (pred_NHWC, true_NHWC))
    return float(drawn / real)


def perceptual_distances(pred: list[Tensor], true: list[Tensor]) -> Tensor:
    """B squared differences of features whose channels are scaled to length 1 at each place, layers alike.

    Source: Zhang et al. 2018 (LPIPS), without its learned weights of channels.
    """
    per_layer = [
        (functional.normalize(p, dim=1) - functional.normalize(t, dim=1)).square().sum(1).mean((1, 2))
        for p, t in zip(pred, true, strict=True)
    ]
    return torch.stack(per_layer).mean(0)


def rank_correlation(a_N: NDArray[np.floating], b_N: NDArray[np.floating]) -> float:
    """Spearman's correlation of numbers without ties."""
    return float(np.corrcoef(a_N.argsort().argsort(), b_N.argsort().argsort())[0, 1])


def kid(pred_NE: Tensor, true_NE: Tensor) -> Estimate:
    """Kernel distance of two sets of embeddings: the mean over subsets, and their standard deviation.

    Source: Bińkowski et al. 2018: unbiased MMD², kernel (x·y / E + 1)³. Subsets are half of the split.
    """
    rng = np.random.default_rng(0)
    size = max(2, len(true_NE) // 2)
    of_true, of_pred, between = (
        poly_kernel(a, b) for a, b in ((true_NE, true_NE), (pred_NE, pred_NE), (true_NE, pred_NE))
    )
    values = []
    for _ in range(NUM_SUBSETS):
        true, pred = (torch.from_numpy(rng.permutation(len(each))[:size]) for each in (true_NE, pred_NE))
        kernels = of_true[true][:, true], between[true][:, pred], of_pred[pred][:, pred]
        values.append(maximum_mean_discrepancy(*kernels).item())
    return Estimate(float(np.mean(values)), float(np.std(values)))


def diversity_ratio(pred_NCHW: Tensor, true_NCHW: Tensor) -> float:
    """Mean distance between two drawn faces over that between two true ones; 0 where all are alike."""
    return (torch.pdist(pred_NCHW.flatten(1)).mean() / torch.pdist(true_NCHW.flatten(1)).mean()).item()


def sharpness_ratio(pred_NCHW: Tensor, true_NCHW: Tensor) -> float:
    """Mean square of the Laplacian of the luma, drawn over true; below 1 is blurred."""
    return (_laplacian_energy(pred_NCHW) / _laplacian_energy(true_NCHW)).item()


def ranks_of_true_face(pred_NE: Tensor, true_NE: Tensor, persons: NDArray[np.str_]) -> NDArray[np.float64]:
    """For each drawn face, the part of other persons' faces that are nearer to it than the true one.

    0 is best, chance 0.5; ties count half. The same person's other photos are left out.
    """
    distances = torch.cdist(pred_NE, true_NE).double().numpy()
    own = distances.diagonal()[:, None]
    others = persons[:, None] != persons[None, :]
    nearer = (distances < own) + 0.5 * (distances == own)
    return np.asarray((nearer * others).sum(1) / others.sum(1).clip(1), dtype=np.float64)


def mean_over_persons(values: NDArray[np.float64], persons: NDArray[np.str_]) -> Estimate:
    """The mean of samples, and half of its 95 % interval from drawing persons anew, samples and all."""
    _, owner = np.unique(persons, return_inverse=True)
    sums, counts = np.bincount(owner, values), np.bincount(owner)
    rng = np.random.default_rng(0)
    drawn = rng.integers(len(counts), size=(NUM_RESAMPLES, len(counts)))
    means = sums[drawn].sum(1) / counts[drawn].sum(1)
    low, high = np.quantile(means, (0.025, 0.975))
    return Estimate(float(values.mean()), float(high - low) / 2)


def memorisation_ratio(pred_NE: Tensor, true_NE: Tensor, train_ME: Tensor) -> float:
    """Mean distance to the nearest training face, drawn over true; well below 1, faces are recited."""
    return (_nearest(pred_NE, train_ME).mean() / _nearest(true_NE, train_ME).mean()).item()


def cheek_color_differences(
    pred_NHWC: NDArray[np.uint8], true_NHWC: NDArray[np.uint8]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of each face ΔE of the cheeks' mean colors, mean of both, and how much lighter they are drawn, in L*.

    Source: CIE 1976, L*a*b* of sRGB under D65; ΔE is the Euclidean distance.
    """
    apart_NPC = _cheek_colors(pred_NHWC) - _cheek_colors(true_NHWC)
    return np.linalg.norm(apart_NPC, axis=2).mean(1), apart_NPC[..., 0].mean(1)


def _cheek_colors(faces_NHWC: NDArray[np.uint8]) -> NDArray[np.float64]:
    """N x 2 cheeks x L*a*b*."""
    side = faces_NHWC.shape[1]
    means = []
    for x, y in CHEEKS_AT:
        left, right, top, bottom = (
            round((at + half) * side) for at in (x, y) for half in (-CHEEK_SIZE / 2, CHEEK_SIZE / 2)
        )
        means.append(faces_NHWC[:, top:bottom, left:right].mean((1, 2)) / 255)
    return np.asarray(rgb2lab(np.stack(means, axis=1)), dtype=np.float64)


def _nearest(faces_NE: Tensor, train_ME: Tensor) -> Tensor:
    return torch.cat([torch.cdist(part, train_ME).min(1).values for part in torch.split(faces_NE, 64)])


def _laplacian_energy(faces_NCHW: Tensor) -> Tensor:
    # Source of the luma: ITU-R BT.601.
    luma = (faces_NCHW * torch.tensor([0.299, 0.587, 0.114]).reshape(3, 1, 1)).sum(1, keepdim=True)
    kernel = torch.tensor([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]]).reshape(1, 1, 3, 3)
    return functional.conv2d(luma, kernel).square().mean()
