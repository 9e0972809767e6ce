"""Patch discriminator of the adversarial objectives, optionally conditional on the eye.

Letters of shapes: B batch, C channels, H and W height and width.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm


@dataclass(frozen=True, slots=True)
class DiscriminatorConfig:
    """Inputs and size of the discriminator; with `sees_eyes` the GAN is conditional."""

    sees_eyes: bool = False
    widths: tuple[int, ...] = (32, 64, 128, 256)
    learning_rate: float = 4e-4


class Discriminator(nn.Module):
    """Scores B x 1 x h x w of overlapping patches; called with faces and eyes in 0…1.

    Source: Isola et al. 2017 (patches), Miyato et al. 2018 (spectral normalization, which bounds the
    slope, so that it needs no gradient penalty).
    """

    def __init__(self, config: DiscriminatorConfig, num_eyes: int) -> None:
        super().__init__()
        self.sees_eyes = config.sees_eyes
        channels = 3 + (3 * num_eyes if config.sees_eyes else 0)
        self.layers = nn.Sequential()
        for width in config.widths:
            self.layers.extend([_conv(channels, width, stride=2), nn.LeakyReLU(0.2, inplace=True)])
            channels = width
        self.layers.append(_conv(channels, 1, stride=1))

    def forward(self, faces_BCHW: Tensor, eyes_BCHW: Tensor) -> Tensor:
        """Scores, high for patches that seem real."""
        seen = faces_BCHW
        if self.sees_eyes:
            eyes = functional.interpolate(eyes_BCHW, faces_BCHW.shape[-2:], mode="bilinear", antialias=True)
            seen = torch.cat([faces_BCHW, eyes], dim=1)
        scores: Tensor = self.layers(2 * seen - 1)
        return scores.float()


def _conv(channels_in: int, channels_out: int, *, stride: int) -> nn.Module:
    kernel = 4 if stride == 2 else 3
    layer = nn.Conv2d(channels_in, channels_out, kernel, stride=stride, padding=1)
    normalized: nn.Module = spectral_norm(layer)
    return normalized
