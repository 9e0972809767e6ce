"""The eye finder's network, its target maps and its loss: center-point detection at a quarter resolution.

Letters of shapes: B batch, C channels, H and W of the picture, h and w of the maps (H / 4, W / 4).
Source: centers as peaks of a heat map with offsets, Zhou et al. 2019, "Objects as points"; depthwise
separable convolutions, Howard et al. 2017, "MobileNets"; top-down path, Lin et al. 2017.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from training.finder.scenes import SIDE, EyeLabel

STRIDE = 4
DISTANCE_UNIT_PX = 32.0
"""The size map holds the logarithm of the eye distance over this."""

MAPS = ("heat", "offset x", "offset y", "size", "left", "roll cos", "roll sin", "partner x", "partner y")
"""Channels: logits of `heat` and `left`; the offset in cells; cosine and sine of the roll; the partner eye's
place relative to this eye, in eye distances."""

NUM_TARGETS = len(MAPS) + 2
"""The targets have two more: how much the regressions count in a cell, and whether its heat is learned."""


def separable(c_in: int, c_out: int, *, stride: int = 1, kernel: int = 3) -> nn.Sequential:
    """A depthwise and a pointwise convolution, then normalized, with a ReLU.

    Nothing is between the two: another normalization there takes a fifth of a training step.
    """
    return nn.Sequential(
        nn.Conv2d(c_in, c_in, kernel, stride, kernel // 2, groups=c_in, bias=False),
        nn.Conv2d(c_in, c_out, 1, bias=False),
        nn.BatchNorm2d(c_out),
        nn.ReLU(inplace=True),
    )


class Residual(nn.Module):
    """A separable convolution added to what came in."""

    def __init__(self, channels: int, kernel: int = 3) -> None:
        super().__init__()
        self.inner = separable(channels, channels, kernel=kernel)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """The same shape."""
        out: Tensor = x_BCHW + self.inner(x_BCHW)
        return out


class EyeFinderNet(nn.Module):
    """Maps B x 9 x h x w (see MAPS) from pictures B x 3 x H x W in 0…255; H and W are multiples of 32."""

    def __init__(self, widths: Sequence[int] = (32, 64, 128, 160)) -> None:
        super().__init__()
        b, c, d, e = widths
        # Straight to a quarter of the side: at half of it a few channels take as long as all that follows.
        self.stem = nn.Sequential(
            nn.Conv2d(3, b, 5, STRIDE, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU(inplace=True)
        )
        self.at_8 = nn.Sequential(separable(b, c, stride=2), Residual(c), Residual(c))
        self.at_16 = nn.Sequential(separable(c, d, stride=2), Residual(d), Residual(d), Residual(d, 5))
        self.at_32 = nn.Sequential(separable(d, e, stride=2), Residual(e, 5), Residual(e, 5))
        self.from_32, self.from_16, self.from_8 = (nn.Conv2d(i, o, 1) for i, o in ((e, d), (d, c), (c, b)))
        self.mix_16, self.mix_8, self.mix_4 = (separable(width, width) for width in (d, c, b))
        self.head = nn.Conv2d(b, len(MAPS), 1)
        assert self.head.bias is not None
        nn.init.constant_(self.head.bias[:1], -math.log(99))  # rare at first

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        """The maps; the picture's own mean and spread are taken out first, so that a dark one is no other."""
        some = pixels_BCHW[:, :, 2::4, 2::4]  # a sixteenth tells them as well, in a tenth of the time
        mean = some.mean((1, 2, 3), keepdim=True)
        spread = (some - mean).square().mean((1, 2, 3), keepdim=True).sqrt()
        x_4 = self.stem((pixels_BCHW - mean) * (1 / (spread + 4)))
        x_8 = self.at_8(x_4)
        x_16 = self.at_16(x_8)
        x_32 = self.at_32(x_16)
        y_16 = self.mix_16(x_16 + _upsample(self.from_32(x_32)))
        y_8 = self.mix_8(x_8 + _upsample(self.from_16(y_16)))
        maps: Tensor = self.head(self.mix_4(x_4 + _upsample(self.from_8(y_8))))
        return maps


def _upsample(x_BCHW: Tensor) -> Tensor:
    return F.interpolate(x_BCHW, scale_factor=2.0, mode="nearest")


def target_maps(eyes: Sequence[EyeLabel], side: int = SIDE) -> NDArray[np.float32]:
    """What the maps of one picture should be, NUM_TARGETS x h x w.

    The heat is a Gaussian around each eye, wider for larger eyes (a twentieth of the eye distance, 0.7
    cells at least); near it the other maps count.
    """
    cells = side // STRIDE
    maps = np.zeros((NUM_TARGETS, cells, cells), np.float32)
    maps[-1] = 1.0
    v, u = np.mgrid[0:cells, 0:cells].astype(np.float32)
    for eye in eyes:
        # The center of cell (0, 0) is at pixel 1.5.
        x, y, distance = (eye.x - 1.5) / STRIDE, (eye.y - 1.5) / STRIDE, eye.distance / STRIDE
        if not eye.sure:
            maps[-1][np.hypot(u - x, v - y) < max(1.5, 0.4 * distance)] = 0
            continue
        sigma = max(0.7, 0.05 * distance)
        heat = np.exp(-((u - x) ** 2 + (v - y) ** 2) / (2 * sigma**2))
        column, row = min(max(round(x), 0), cells - 1), min(max(round(y), 0), cells - 1)
        heat[row, column] = 1.0
        here = (heat > 0.3) & (heat > maps[0])
        maps[0] = np.maximum(maps[0], heat)
        sign = -1.0 if eye.left else 1.0
        cos, sin = math.cos(eye.roll), math.sin(eye.roll)
        values = (math.log(eye.distance / DISTANCE_UNIT_PX), eye.left, cos, sin, sign * cos, sign * sin)
        maps[1][here], maps[2][here] = (x - u)[here], (y - v)[here]
        maps[3:9, here] = np.array(values, np.float32)[:, None]
        maps[9][here] = heat[here] / heat[here].sum()
    return maps


LOSS_WEIGHTS = {"heat": 1.0, "offset": 1.0, "size": 1.0, "left": 0.3, "roll": 1.0, "partner": 0.5}


def detection_loss(maps: Tensor, wanted: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """The weighted sum and its terms: focal loss of the heat, absolute errors of the rest.

    Each picture counts alike, however many eyes it shows: divided by all eyes of the batch instead, crowds of
    small eyes outweighed the one large eye of a close-up, and 3000 steps found no close-up at all.

    Source: penalty-reduced focal loss with exponents 2 and 4, Law & Deng 2018, "CornerNet", equation 1.
    """
    maps, heat, near, learned = maps.float(), wanted[:, 0], wanted[:, 9], wanted[:, 10]
    num_eyes = (heat == 1).sum((1, 2)).clamp_min(1)
    logit = maps[:, 0]
    p = logit.sigmoid()
    at_eye = (heat == 1).float()
    focal = at_eye * (1 - p).square() * -F.logsigmoid(logit)
    focal = focal + (1 - at_eye) * (1 - heat) ** 4 * p.square() * -F.logsigmoid(-logit)
    # An error counts in tenths of the eye distance, as it is measured: a large eye's center is known less
    # finely. With a whole cell as the least unit, one in twelve eyes 11 to 40 px apart was found too far off.
    offset_scale = (wanted[:, 3].exp() * (DISTANCE_UNIT_PX / STRIDE * 0.1)).clamp_min(0.25)
    errors = (maps[:, 1:] - wanted[:, 1:9]).abs() * near[:, None]
    left = F.binary_cross_entropy_with_logits(maps[:, 4], wanted[:, 4], reduction="none") * near
    terms = {
        "heat": ((focal * learned).sum((1, 2)) / num_eyes).mean(),
        "offset": ((errors[:, 0:2] / offset_scale[:, None]).sum((1, 2, 3)) / num_eyes).mean(),
        "size": (errors[:, 2].sum((1, 2)) / num_eyes).mean(),
        "left": (left.sum((1, 2)) / num_eyes).mean(),
        "roll": (errors[:, 4:6].sum((1, 2, 3)) / num_eyes).mean(),
        "partner": (errors[:, 6:8].sum((1, 2, 3)) / num_eyes).mean(),
    }
    total = torch.stack([LOSS_WEIGHTS[name] * term for name, term in terms.items()]).sum()
    return total, {name: term.detach() for name, term in terms.items()}
