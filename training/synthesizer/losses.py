"""Losses between a batch of drawn and of true faces: pure functions, mean-reduced, unweighted.

Letters of shapes: B batch, C channels, H and W height and width, F side of the face. Faces are
B x 3 x F x F in 0…1, features a list of B x C x H x W, one per layer.
"""

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, distributed
from torch.autograd.function import FunctionCtx
from torch.nn import functional

FeatureMaps = list[Tensor]

BLOCK = 8
"""Side of the blocks whose frequencies are compared: the finest are seen, and where in the face they are."""

_SMALLEST_VARIANCE = 1e-6
"""Keeps the square root's slope finite where a unit never varies; 0.001 of a mean activation of 1."""


def l1(pred_BCHW: Tensor, true_BCHW: Tensor) -> Tensor:
    """Mean absolute difference."""
    return (pred_BCHW - true_BCHW).abs().mean(dtype=torch.float32)


def l2(pred_BCHW: Tensor, true_BCHW: Tensor) -> Tensor:
    """Mean squared difference."""
    return (pred_BCHW - true_BCHW).square().mean(dtype=torch.float32)


def over_layers(
    loss: Callable[[Tensor, Tensor], Tensor], pred: FeatureMaps, true: FeatureMaps, weights: list[float]
) -> Tensor:
    """The weighted sum of a loss of each layer; `training.synthesizer.vgg` says the weights."""
    return torch.stack([w * loss(p, t) for w, p, t in zip(weights, pred, true, strict=True)]).sum()


def std_over_batch(batch_BCHW: Tensor) -> Tensor:
    """The standard deviation of each position over the (global) batch, C x H x W, in float32."""
    std: Tensor = _StdOverBatch.apply(batch_BCHW)  # type: ignore[no-untyped-call]
    return std


def std_scalar(pred_BCHW: Tensor, true_BCHW: Tensor) -> Tensor:
    """|σ(true) − σ(pred)|, σ the mean over positions of the standard deviation over the batch.

    Source: the seed's slides, "Standard Deviation Loss".
    """
    return (std_over_batch(true_BCHW).mean() - std_over_batch(pred_BCHW).mean()).abs()


def std_map(pred_BCHW: Tensor, true_BCHW: Tensor) -> Tensor:
    """The mean over positions of |σ(true) − σ(pred)| at that position.

    Stronger than `std_scalar`, in which too much here makes up for too little there.
    """
    return (std_over_batch(pred_BCHW) - std_over_batch(true_BCHW)).abs().mean()


def dct_moments(pred_BCHW: Tensor, true_BCHW: Tensor) -> Tensor:
    """Mean and standard deviation over the batch of each frequency in each block of 8 x 8 pixels: the mean
    absolute differences of both, over that frequency's mean deviation in the true faces; the mean of a block
    is no frequency.

    Fine detail varies so little that losses of pixels hardly miss it, and what stands in its place, a grid
    for instance, they hardly see; here all frequencies weigh alike. The frequencies are those of the discrete
    cosine transform. Source: Ahmed, Natarajan & Rao 1974.
    """
    pred, true = (block_dct(each) for each in (pred_BCHW, true_BCHW))
    wanted_std = std_over_batch(true)
    difference = (std_over_batch(pred) - wanted_std).abs() + (_global_mean(pred) - _global_mean(true)).abs()
    of_frequency = wanted_std.mean((1, 2), keepdim=True)
    return (difference / of_frequency).mean()


def block_dct(batch_BCHW: Tensor) -> Tensor:
    """The cosines of blocks of 8 x 8 pixels but their means, B x (C · 63) x H/8 x W/8, in float32."""
    batch, channels, height, width = batch_BCHW.shape
    blocks = functional.unfold(batch_BCHW.float(), BLOCK, stride=BLOCK)
    cosines = _block_cosines()[1:].to(blocks.device) @ blocks.reshape(batch, channels, BLOCK * BLOCK, -1)
    return cosines.reshape(batch, -1, height // BLOCK, width // BLOCK)


def mean_to(pred: FeatureMaps, target_means: list[Tensor], weights: list[float]) -> Tensor:
    """|μ(target) − μ(pred)| at each position, averaged; weighted and summed over layers."""
    return over_layers(l1, [_global_mean(p.float()) for p in pred], target_means, weights)


def std_to(pred: FeatureMaps, target_stds: list[Tensor], weights: list[float]) -> Tensor:
    """`std_map` of each layer against deviations that are known and not the batch's."""
    return over_layers(l1, [std_over_batch(p) for p in pred], target_stds, weights)


def covariance(pred: FeatureMaps, true: FeatureMaps, directions: list[Tensor]) -> Tensor:
    """The mean over layers of ‖C(pred) − C(true)‖ / ‖C(true)‖, Frobenius norms of covariances over the batch
    along fixed directions.

    Source: Sun & Saenko 2016 (CORAL), whose full covariances would be too large here; divided by
    the true one's norm, so that layers weigh alike.
    """
    distances = []
    for p, t, direction in zip(pred, true, directions, strict=True):
        with torch.no_grad():
            wanted = _covariance(t, direction)
        distances.append((_covariance(p, direction) - wanted).norm() / wanted.norm())
    return torch.stack(distances).mean()


def total_variation(pred_BCHW: Tensor) -> Tensor:
    """Mean absolute difference of neighbors, across and down. Source: Rudin, Osher & Fatemi 1992."""
    across = (pred_BCHW[..., 1:] - pred_BCHW[..., :-1]).abs().mean()
    return across + (pred_BCHW[..., 1:, :] - pred_BCHW[..., :-1, :]).abs().mean()


def adversarial(pred_scores: Tensor) -> Tensor:
    """The generator's: minus the mean score of drawn faces. Source: Lim & Ye 2017, "Geometric GAN"."""
    return -pred_scores.mean()


def hinge(pred_scores: Tensor, true_scores: Tensor) -> Tensor:
    """The discriminator's: true faces below 1, drawn ones above −1. Source: Lim & Ye 2017."""
    return torch.relu(1 - true_scores).mean() + torch.relu(1 + pred_scores).mean()


def over_processes(mean_CHW: Tensor) -> Tensor:
    """The mean over the global batch from that of each process's equal part."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.all_reduce(mean_CHW)
        mean_CHW /= distributed.get_world_size()
    return mean_CHW


class _StdOverBatch(torch.autograd.Function):
    """Two passes over memory forward and one backward; `torch.std(0)` strides through large feature
    maps and is many times slower on a CPU.

    In a data-parallel run the statistic is that of the global batch, of which each process holds an
    equal part. Its gradient is then multiplied by the number of processes, because gradients are
    averaged over them while every process computes the same loss.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, batch_BCHW: Tensor) -> Tensor:
        mean = over_processes(mean_over_batch(batch_BCHW))
        variance = over_processes(mean_over_batch(batch_BCHW, lambda part: (part - mean).square_()))
        std = variance.clamp_min_(_SMALLEST_VARIANCE).sqrt_()
        ctx.save_for_backward(batch_BCHW, mean, std)
        return std

    @staticmethod
    def backward(ctx: Any, grad_CHW: Tensor) -> Tensor:
        batch_BCHW, mean, std = ctx.saved_tensors
        # Over the number of the global batch, times the number of processes: that of our own part.
        slope = grad_CHW / (len(batch_BCHW) * std)
        grad_BCHW = torch.empty_like(batch_BCHW)
        for part, grad in zip(_parts(batch_BCHW), _parts(grad_BCHW), strict=True):
            grad.copy_((part - mean).mul_(slope))
        return grad_BCHW


def mean_over_batch(batch_BCHW: Tensor, of: Callable[[Tensor], Tensor] | None = None) -> Tensor:
    """The mean over this process's part of a batch, or of what `of` makes of each face; C x H x W, float32.

    `of` is given a face or several.
    """
    if batch_BCHW.device.type != "cpu":
        return (batch_BCHW if of is None else of(batch_BCHW)).mean(0, dtype=torch.float32)
    total = torch.zeros_like(batch_BCHW[0], dtype=torch.float32)
    for face in _parts(batch_BCHW):
        total.add_(face if of is None else of(face))
    return total.div_(len(batch_BCHW))


def _parts(batch_BCHW: Tensor) -> tuple[Tensor, ...]:
    """The batch at once or, on a CPU, face by face: what is summed up then stays in its cache, which for
    large feature maps takes a seventh of the time."""
    return batch_BCHW.unbind(0) if batch_BCHW.device.type == "cpu" else (batch_BCHW,)


@cache
def _block_cosines() -> Tensor:
    """A row for each frequency and a column for each pixel of a block; orthonormal."""
    places, frequencies = (torch.arange(BLOCK, dtype=torch.float64) for _ in range(2))
    cosines = torch.cos(math.pi / BLOCK * torch.outer(frequencies, places + 0.5))
    cosines[0] *= math.sqrt(0.5)
    cosines *= math.sqrt(2 / BLOCK)
    return torch.kron(cosines, cosines).float()


def _covariance(batch_BCHW: Tensor, directions: Tensor) -> Tensor:
    """K x K, over the global batch, of the batch seen along K directions, in float32."""
    projected_BK = batch_BCHW.flatten(1).float() @ directions
    # The slope through the mean is nought over the global batch, but not over one process's part.
    centerd = projected_BK - _global_mean(projected_BK).detach()
    products = centerd.T @ centerd / len(centerd)
    return _global(products)


def _global_mean(batch: Tensor) -> Tensor:
    """The mean over the global batch, with this process's slope."""
    return _global(batch.mean(0))


def _global(mean: Tensor) -> Tensor:
    """A process's mean, moved to that of all; its slope stays, as gradients are averaged afterwards."""
    if distributed.is_available() and distributed.is_initialized():
        return mean + (over_processes(mean.detach().clone()) - mean.detach())
    return mean
