"""Face embeddings for metrics that compare sets: pooled VGG19 features, and a self-supervised encoder.

Letters of shapes: B batch, C channels, H and W height and width, E numbers of an embedding.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from service.vision.images import Image
from training.data.dataset import EyeFacePairs
from training.evaluation.scores import to_unit
from training.evaluation.systems import true_faces
from training.synthesizer.vgg import Layer, VGGFeatures, training_layers

Embed = Callable[[Tensor], Tensor]
"""B x E from faces B x 3 x H x W in 0…1."""

VGG_CONV = "4_1"
"""Of all layers it tells people apart best: two persons are 1.76 × as far apart as two photos of one."""

UNTRAINED_CONV, UNTRAINED = "3_4", "relu3_4"
"""A layer of the original VGG19 that no objective trains on, and the name of the embedding on it."""

GRID = 4
EMBED_BATCH = 64


@dataclass(frozen=True, slots=True)
class EmbeddingSpace:
    """An embedding by name, and the embeddings of the true faces (N x E).

    network: what computes it, as reports print it.
    train: the embeddings of the training faces (M x E), if they are to be compared.
    """

    name: str
    network: str
    embed: Embed
    true: Tensor
    train: Tensor | None = None


def embedding_layers(perceptual: str) -> tuple[Layer, ...]:
    """The only layer of VGG19 that faces are embedded with."""
    return training_layers(perceptual, [VGG_CONV])


def untrained_layers(perceptual: str) -> tuple[Layer, ...]:
    """The only layer of VGG19 that they are embedded with and that no objective trains on."""
    return (Layer("genuine" if Path(perceptual).is_dir() else "torchvision", UNTRAINED_CONV),)


def vgg_embedding(features: VGGFeatures) -> Embed:
    """Activations of the only layer averaged to a coarse grid, over their mean."""

    def embed(faces_BCHW: Tensor) -> Tensor:
        (activations,) = features(faces_BCHW)
        scale = features.scales[0]
        return functional.adaptive_avg_pool2d(activations, GRID).flatten(1) / scale

    return embed


def vgg_space(
    name: str, features: VGGFeatures, dataset: EyeFacePairs, train: EyeFacePairs | None = None
) -> EmbeddingSpace:
    """The space of `vgg_embedding`, see `embedding_space`."""
    network = f"{features.layers[0].name}, averaged to {GRID} x {GRID}"
    return embedding_space(name, network, vgg_embedding(features), dataset, train)


def embedding_space(
    name: str, network: str, embed: Embed, dataset: EyeFacePairs, train: EyeFacePairs | None = None
) -> EmbeddingSpace:
    """The embeddings of the true faces of a split and, if they are to be compared, of `train`."""
    known = None if train is None else embed_true(embed, train)
    return EmbeddingSpace(name, network, embed, embed_true(embed, dataset), known)


@torch.no_grad()
def embed_true(embed: Embed, dataset: EyeFacePairs, chosen: NDArray[np.intp] | None = None) -> Tensor:
    """Embeddings of the true faces of a split's samples, or of the chosen ones, a batch in memory at once."""
    indices = np.arange(len(dataset)) if chosen is None else chosen
    starts = range(0, len(indices), EMBED_BATCH)
    return torch.cat([embed(to_unit(true_faces(dataset, indices[i : i + EMBED_BATCH]))) for i in starts])


@torch.no_grad()
def embed_all(embed: Embed, faces_NHWC: Image) -> Tensor:
    """Embeddings N x E of uint8 faces."""
    starts = range(0, len(faces_NHWC), EMBED_BATCH)
    return torch.cat([embed(to_unit(faces_NHWC[i : i + EMBED_BATCH])) for i in starts])
