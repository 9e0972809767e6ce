"""Self-supervised face encoder (SimCLR): an embedding for metrics that no objective trains on.

Two random views of one face are drawn together, views of different faces apart. Source: Chen et al.
2020 (SimCLR). Letters of shapes: B batch, C channels, H and W height and width, E numbers of an
embedding.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import AdamW
from tqdm import tqdm

from training.data.dataset import EyeFacePairs
from training.data.store import Pairs
from training.errors import EncoderError
from training.loop.precision import usable_precision
from training.synthesizer.autoencoder import ConvBlock

FILE = "encoder.pt"
SIZE = 64
"""Faces are looked at in this size, whatever their own."""


@dataclass(frozen=True, slots=True)
class EncoderRecipe:
    """What decides the encoder, beside the data; `temperature` is the source's τ."""

    num_steps: int = 400
    batch_size: int = 128
    widths: tuple[int, ...] = (24, 48, 96, 192)
    head_size: int = 64
    temperature: float = 0.2
    learning_rate: float = 2e-3
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
    """Each face cut out anew, mirrored or not, and in another light and colour, some of them grey."""
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
    grey = view.mean(1, keepdim=True)
    colour = torch.where(between(0, 1) < 0.2, torch.zeros(num), between(0.6, 1.4))
    view = grey + (view - grey) * colour[:, None, None, None]
    middle = view.mean((1, 2, 3), keepdim=True)
    view = middle + (view - middle) * between(0.6, 1.4)[:, None, None, None]
    tint = between(-0.15, 0.15)[:, None, None, None] + 0.05 * torch.randn(num, 3, 1, 1, generator=generator)
    return (view + tint).clamp(0, 1)


def train_encoder(recipe: EncoderRecipe, pairs: Pairs, folder: Path, *, progress: bool = True) -> Path:
    """Trains on the `train` faces and writes the encoder into `folder`; one that is there stays.

    Raises:
        EncoderError: the folder holds an encoder of another recipe or other data.
    """
    described = _description(recipe, pairs)
    if (folder / FILE).exists():
        found = read_encoder(folder)[1]
        if {**found, **described} != found:  # what computed it may differ
            raise EncoderError(f"{folder} holds another encoder: {found}, now {described}. Remove it first")
        return folder
    precision = usable_precision("bf16-mixed", "cpu")
    torch.manual_seed(recipe.seed)
    generator = torch.Generator().manual_seed(recipe.seed)
    dataset = EyeFacePairs(pairs, "train")
    encoder = FaceEncoder(recipe.widths).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    head = nn.Sequential(
        nn.Linear(encoder.size, encoder.size), nn.ReLU(), nn.Linear(encoder.size, recipe.head_size)
    )
    parameters = [*encoder.parameters(), *head.parameters()]
    optimizer = AdamW(parameters, lr=recipe.learning_rate, weight_decay=0.01)
    for step in tqdm(range(recipe.num_steps), desc="encoder", disable=not progress):
        # A cosine down to zero. Source: Loshchilov & Hutter 2017.
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * (1 + np.cos(np.pi * step / recipe.num_steps)) / 2
        faces = _faces(dataset, recipe, step)
        views = torch.cat([random_view(faces, generator) for _ in range(2)])
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-mixed"):
            embedded = encoder(views.contiguous(memory_format=torch.channels_last)).float()
        # The head stays in float32: small differences of its products decide.
        first, second = head(embedded).chunk(2)
        loss = contrast(first, second, recipe.temperature)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    folder.mkdir(parents=True, exist_ok=True)
    torch.save({"encoder": encoder.state_dict(), "loss": loss.item()}, folder / FILE)
    told = {**described, "precision": precision}
    (folder / "encoder.json").write_text(json.dumps(told, indent=1) + "\n")
    return folder


def read_encoder(folder: Path) -> tuple[FaceEncoder, dict[str, Any]]:
    """The encoder of a folder, for measuring, and what it is.

    Raises:
        EncoderError: there is none.
    """
    try:
        described: dict[str, Any] = json.loads((folder / "encoder.json").read_text())
        state = torch.load(folder / FILE, map_location="cpu", weights_only=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise EncoderError(f"{folder} holds no encoder ({error}): make it with 'train-encoder'") from error
    encoder = FaceEncoder(tuple(described["recipe"]["widths"]))
    encoder.load_state_dict(state["encoder"])
    return encoder.eval().requires_grad_(False), described


def _description(recipe: EncoderRecipe, pairs: Pairs) -> dict[str, Any]:
    data = {"face_size": pairs.manifest["settings"]["face_size"], "rows": pairs.manifest["rows_sha256"]}
    described: dict[str, Any] = json.loads(json.dumps({"recipe": asdict(recipe), "data": data}))
    return described


def _faces(dataset: EyeFacePairs, recipe: EncoderRecipe, step: int) -> Tensor:
    rng = np.random.default_rng((recipe.seed, step))
    chosen = rng.choice(len(dataset), recipe.batch_size, replace=len(dataset) < recipe.batch_size)
    return torch.stack([dataset[int(i)][1] for i in chosen]).float() / 255
