"""Lower bound of the MSE at matched variance, from the correlation of the best regressor with the truth.

An estimator that correlates with the truth by r and is given full variance costs at least 2 (1 − r) σ²,
the least squared error (1 − r²) σ². Source: Blau & Michaeli 2018, "The Perception-Distortion Tradeoff".
Letters of shapes: N samples, M training faces, D numbers of a face, K components.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

NUM_COMPONENTS = 200
"""The rest of the variance, a few percent, is one block of its own."""


@dataclass(frozen=True, slots=True)
class Bound:
    """The error of full variance over that of the l2 model, at least, in three forms.

    by_component: r of each principal component of the training faces; the one that counts.
    scalar: one r for all, from the whole of the variance.
    by_pixel: r of each pixel and colour.
    """

    by_component: float
    scalar: float
    by_pixel: float


def measure_bound(pred_ND: Tensor, true_ND: Tensor, train_MD: Tensor, num_components: int) -> Bound:
    """The bound from the l2 model's faces, the true ones, and training faces that give the components."""
    count = min(num_components, *train_MD.shape, len(true_ND) - 1)
    torch.manual_seed(0)  # the decomposition is a random one
    axes_DK = torch.pca_lowrank(train_MD, q=count, niter=4)[2]
    pred, true = pred_ND - pred_ND.mean(0), true_ND - true_ND.mean(0)
    pred_K, true_K = pred @ axes_DK, true @ axes_DK
    rest_pred, rest_true = pred - pred_K @ axes_DK.T, true - true_K @ axes_DK.T
    correlations = torch.cat([_correlation(pred_K, true_K), _pooled(rest_pred, rest_true)])
    variances = torch.cat([true_K.square().mean(0), rest_true.square().mean(0).sum()[None]])
    return Bound(
        by_component=_factor(correlations, variances),
        scalar=_factor(_pooled(pred, true), torch.ones(1)),
        by_pixel=_factor(_correlation(pred, true), true.square().mean(0)),
    )


def _factor(correlations: Tensor, variances: Tensor) -> float:
    """Σ 2 (1 − r) σ² / Σ (1 − r²) σ²; an r below 0 is chance, the best regressor has none."""
    r = correlations.clamp(0, 1)
    return ((2 * (1 - r) * variances).sum() / ((1 - r.square()) * variances).sum()).item()


def _correlation(pred_NK: Tensor, true_NK: Tensor) -> Tensor:
    norms = pred_NK.square().mean(0) * true_NK.square().mean(0)
    return (pred_NK * true_NK).mean(0) / norms.sqrt().clamp_min(1e-12)


def _pooled(pred_ND: Tensor, true_ND: Tensor) -> Tensor:
    norms = pred_ND.square().mean() * true_ND.square().mean()
    return ((pred_ND * true_ND).mean() / norms.sqrt().clamp_min(1e-12))[None]
