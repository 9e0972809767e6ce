"""Face embeddings for metrics that compare sets: pooled VGG19 features, and a self-supervised encoder.

Letters of shapes: B batch, C channels, H and W height and width, E numbers of an embedding.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from service.vision.images import Image
from training.synthesizer.vgg import Layer, VGGFeatures, load_features, training_layers

Embed = Callable[[Tensor], Tensor]
"""B x E from faces B x 3 x H x W in 0…1."""

VGG_CONV = "4_1"
"""Of all layers it tells people apart best: two persons are 1.76 × as far apart as two photos of one."""

UNTRAINED_CONV = "3_4"
"""A layer of the original VGG19 that no objective trains on."""

GRID = 4


def load_vgg(perceptual: str) -> tuple[VGGFeatures, str]:
    """The layer of VGG19 that faces are embedded with, and its name."""
    layers = training_layers(perceptual, [VGG_CONV])
    return load_features(perceptual, layers), f"{layers[0].name}, averaged to {GRID} x {GRID}"


def load_untrained_vgg(perceptual: str) -> tuple[VGGFeatures, str]:
    """The layer of VGG19 that no objective trains on, and its name."""
    layer = Layer("genuine" if Path(perceptual).is_dir() else "torchvision", UNTRAINED_CONV)
    return load_features(perceptual, (layer,)), f"{layer.name}, averaged to {GRID} x {GRID}"


def vgg_embedding(features: VGGFeatures) -> Embed:
    """Activations averaged to a coarse grid, over their mean."""

    def embed(faces_BCHW: Tensor) -> Tensor:
        (activations,) = features(faces_BCHW)
        scale = features.scales[0]
        return functional.adaptive_avg_pool2d(activations, GRID).flatten(1) / scale

    return embed


@torch.no_grad()
def embed_all(embed: Embed, faces_NHWC: Image, batch_size: int = 64) -> Tensor:
    """Embeddings N x E of uint8 faces."""
    parts = []
    for start in range(0, len(faces_NHWC), batch_size):
        part = torch.from_numpy(np.ascontiguousarray(faces_NHWC[start : start + batch_size]))
        parts.append(embed(part.permute(0, 3, 1, 2).float() / 255))
    return torch.cat(parts)
