"""Self-supervised face encoder (SimCLR): an embedding for metrics that no objective trains on.

Two random views of one face are drawn together, views of different faces apart. Source: Chen et al.
2020 (SimCLR). Letters of shapes: B batch, C channels, H and W height and width, E numbers of an
embedding.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from training.data.dataset import EyeFacePairs
from training.data.store import Pairs
from training.loop.checkpoint import load_ema
from training.loop.loop import train_network
from training.loop.run_folder import RunOutput
from training.loop.schedule import Schedule
from training.synthesizer.autoencoder import ConvBlock

SIZE = 64
"""Faces are looked at in this size, whatever their own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderRecipe(Schedule):
    """What decides the encoder, beside the data; `temperature` is the source's τ."""

    num_steps: int = 400
    batch_size: int = 128
    learning_rate: float = 2e-3
    warmup_steps: int = 20
    cooldown_part: float = 0.9
    ema_decay: float = 0.9
    widths: tuple[int, ...] = (24, 48, 96, 192)
    head_size: int = 64
    temperature: float = 0.2
    seed: int = 0


class FaceEncoder(nn.Module):
    """Embeddings B x E, each of length √E, from faces in 0…1."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.blocks = nn.Sequential()
        channels = 3
        for width in widths:
            self.blocks.extend([ConvBlock(channels, width), nn.MaxPool2d(2)])
            channels = width
        self.size = channels

    def forward(self, faces_BCHW: Tensor) -> Tensor:
        """See the class."""
        if faces_BCHW.shape[-1] != SIZE:
            faces_BCHW = functional.interpolate(faces_BCHW, (SIZE, SIZE), mode="bilinear", antialias=True)
        pooled = self.blocks(faces_BCHW - 0.5).mean((2, 3))
        length: float = self.size**0.5
        return functional.normalize(pooled, dim=1) * length


def contrast(first_BE: Tensor, second_BE: Tensor, temperature: float) -> Tensor:
    """NT-Xent: each view must find its partner among all other views. Source: Chen et al. 2020, eq. 1."""
    both = functional.normalize(torch.cat([first_BE, second_BE]), dim=1)
    similar = both @ both.T / temperature
    similar.fill_diagonal_(float("-inf"))
    num = len(first_BE)
    partner = torch.arange(2 * num).roll(num)
    return functional.cross_entropy(similar, partner)


def random_view(faces_BCHW: Tensor, generator: torch.Generator) -> Tensor:
    """Each face cut out anew, mirrored or not, and in another light and color, some of them gray."""
    num = len(faces_BCHW)

    def between(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(num, generator=generator)

    zoom, mirror = between(0.6, 1.0), 2.0 * (between(0, 1) < 0.5) - 1
    room = 1 - zoom
    to_face = torch.zeros(num, 2, 3)
    to_face[:, 0, 0], to_face[:, 1, 1] = zoom * mirror, zoom
    to_face[:, 0, 2], to_face[:, 1, 2] = room * between(-1, 1), room * between(-1, 1)
    grid = functional.affine_grid(to_face, list(faces_BCHW.shape), align_corners=False)
    view = functional.grid_sample(faces_BCHW, grid, align_corners=False, padding_mode="border")
    gray = view.mean(1, keepdim=True)
    color = torch.where(between(0, 1) < 0.2, torch.zeros(num), between(0.6, 1.4))
    view = gray + (view - gray) * color[:, None, None, None]
    middle = view.mean((1, 2, 3), keepdim=True)
    view = middle + (view - middle) * between(0.6, 1.4)[:, None, None, None]
    tint = between(-0.15, 0.15)[:, None, None, None] + 0.05 * torch.randn(num, 3, 1, 1, generator=generator)
    return (view + tint).clamp(0, 1)


def train_encoder(recipe: EncoderRecipe, pairs: Pairs, output: RunOutput) -> FaceEncoder:
    """The encoder of the folder, trained before on the `train` faces if it is not."""
    dataset = EyeFacePairs(pairs, "train")
    torch.manual_seed(recipe.seed)
    encoder = FaceEncoder(recipe.widths)
    head = nn.Sequential(
        nn.Linear(encoder.size, encoder.size), nn.ReLU(), nn.Linear(encoder.size, recipe.head_size)
    )
    model = nn.Sequential(encoder, head)
    data = {"face_size": pairs.manifest["settings"]["face_size"], "rows": pairs.manifest["rows_sha256"]}

    def loss(model: nn.Module, views_BCHW: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        first, second = model(views_BCHW).chunk(2)
        return contrast(first, second, recipe.temperature), {}

    def batches(first_step: int) -> Iterator[tuple[Tensor]]:
        return (_views(dataset, recipe, step) for step in count(first_step))

    load_ema(train_network(model, recipe, output, {"data": data}, batches, loss), model)
    return encoder.requires_grad_(False)


def _views(dataset: EyeFacePairs, recipe: EncoderRecipe, step: int) -> tuple[Tensor]:
    """Two views of each face of a step, those that belong together half a batch apart."""
    rng = np.random.default_rng((recipe.seed, step))
    chosen = rng.choice(len(dataset), recipe.batch_size, replace=len(dataset) < recipe.batch_size)
    faces = torch.stack([dataset[int(i)][1] for i in chosen]).float() / 255
    random = torch.Generator().manual_seed(int(rng.integers(2**63)))
    views = torch.cat([random_view(faces, random) for _ in range(2)])
    return (views.contiguous(memory_format=torch.channels_last),)
