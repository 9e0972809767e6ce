"""VGG19 features of faces, for losses and metrics: three sources of weights, the layers and their scales.

Three sources of weights, all converted here and none shipped:
- torchvision's official `vgg19` file (RGB, ImageNet mean and deviation), by path or by URL;
- `vgg19_imagenet_conv1_1_to_conv3_4.npz`, the genuine network up to block 3 (BGR, Caffe means);
- `vgg19_distilled_16x.npz`, VGG19 with a quarter of the channels, distilled (RGB in 0…1).
Letters of shapes: B batch, C channels, H and W height and width.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from training.errors import FeaturesUnavailable

TORCHVISION_URL = "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth"

GENUINE_FILE = "vgg19_imagenet_conv1_1_to_conv3_4.npz"
DISTILLED_FILE = "vgg19_distilled_16x.npz"

CONVS = tuple(f"{block}_{i}" for block, count in enumerate((2, 2, 4, 4, 4), 1) for i in range(1, count + 1))
"""VGG19's convolutions in order; each block but the first begins with 2 x 2 max-pooling.

Source: Simonyan & Zisserman 2014, table 1, column E.
"""

TORCHVISION_INDEX = dict(
    zip(CONVS, (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34), strict=True)
)

Source = Literal["torchvision", "genuine", "distilled"]


@dataclass(frozen=True, slots=True)
class Layer:
    """Activations after the ReLU that follows convolution `conv`."""

    source: Source
    conv: str

    @property
    def name(self) -> str:
        """As reports print it, for example `distilled relu3_1`."""
        return f"{self.source} relu{self.conv}"


REPORT_CONVS = ("1_1", "2_1", "3_1", "4_1", "5_1")
"""What is reported, from the first block to the last. Source: the seed's slides, early and late layers."""

LAST_GENUINE_BLOCK = "3"
"""The archive of the genuine network ends with this block; the distilled one stands in above it."""


class ConvStack(nn.Module):
    """A frozen run of VGG19's convolutions; called with B x 3 x H x W in 0…1, RGB."""

    def __init__(self, weights: Mapping[str, Tensor], mix: Tensor, bias: Tensor) -> None:
        """`mix` (3 x 3) and `bias` (3) turn RGB in 0…1 into what the first convolution expects."""
        super().__init__()
        self.convs = nn.ModuleDict()
        for conv in CONVS:
            if f"{conv}.weight" not in weights:
                break
            kernel = weights[f"{conv}.weight"]
            layer = nn.Conv2d(kernel.shape[1], kernel.shape[0], 3, padding=1)
            layer.load_state_dict({"weight": kernel, "bias": weights[f"{conv}.bias"]})
            self.convs[conv] = layer
        self.register_buffer("mix", mix.reshape(3, 3, 1, 1))
        self.register_buffer("bias", bias)
        self.requires_grad_(False)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, faces_BCHW: Tensor, wanted: tuple[str, ...]) -> dict[str, Tensor]:
        """The wanted activations by the name of their convolution."""
        x = faces_BCHW.contiguous(memory_format=torch.channels_last)
        x = functional.conv2d(x, self.get_buffer("mix"), self.get_buffer("bias"))
        last = max(wanted, key=CONVS.index)
        found: dict[str, Tensor] = {}
        for conv, layer in self.convs.items():
            if conv.endswith("_1") and conv != "1_1":
                x = functional.max_pool2d(x, 2)
            x = functional.relu(layer(x))
            if conv in wanted:
                found[conv] = x
            if conv == last:
                break
        return found


class VGGFeatures(nn.Module):
    """Activations of several layers, and the weights that make them comparable.

    VGG's activations grow from layer to layer to several hundred. `scales` (set once by
    `calibrate`) are the mean activations on real faces; every loss here is proportional to the
    activations, so its value per layer is divided by the scale, not the activations themselves.
    """

    scales: Tensor

    def __init__(self, stacks: Mapping[Source, ConvStack], layers: tuple[Layer, ...]) -> None:
        super().__init__()
        self.layers = layers
        self.stacks = nn.ModuleDict({str(source): stack for source, stack in stacks.items()})
        self.register_buffer("scales", torch.ones(len(layers)))
        self.requires_grad_(False)

    def forward(self, faces_BCHW: Tensor) -> list[Tensor]:
        """One B x C x H x W tensor per layer, in the order of `layers`, from faces in 0…1."""
        found: dict[Layer, Tensor] = {}
        for source in {layer.source for layer in self.layers}:
            same = [layer for layer in self.layers if layer.source == source]
            activations = self.stacks[source](faces_BCHW, tuple(layer.conv for layer in same))
            found |= {layer: activations[layer.conv] for layer in same}
        return [found[layer] for layer in self.layers]

    @property
    def weights(self) -> list[float]:
        """One over the number of layers and over each layer's scale."""
        return [1 / len(self.layers) / scale for scale in self.scales.tolist()]

    def describe(self) -> str:
        """The layers and their scales, for the head of a report."""
        named = zip(self.layers, self.scales.tolist(), strict=True)
        return ", ".join(f"{layer.name} / {scale:.4g}" for layer, scale in named)

    @torch.no_grad()
    def calibrate(self, faces_BCHW: Tensor) -> None:
        """Sets the scales to the mean activations on these real faces, in float32."""
        totals = torch.zeros(len(self.layers))
        for part in torch.split(faces_BCHW, 16):
            totals += torch.stack([activations.mean() * len(part) for activations in self(part)])
        self.scales.copy_(totals / len(faces_BCHW))


def training_layers(perceptual: str, convs: Iterable[str]) -> tuple[Layer, ...]:
    """The layers that an objective trains on.

    They are the distilled network's where the archives are at hand, which is cheap enough for a CPU at
    128 px: 7 ms a face against 90 for the genuine blocks.
    """
    source: Source = "distilled" if Path(perceptual).is_dir() else "torchvision"
    return tuple(Layer(source, conv) for conv in convs)


def report_layers(perceptual: str) -> tuple[Layer, ...]:
    """The layers that numbers are reported on: the genuine network as far as it is at hand."""
    if not Path(perceptual).is_dir():
        return training_layers(perceptual, REPORT_CONVS)
    return tuple(
        Layer("genuine" if conv[0] <= LAST_GENUINE_BLOCK else "distilled", conv) for conv in REPORT_CONVS
    )


def load_features(perceptual: str, layers: tuple[Layer, ...]) -> VGGFeatures:
    """VGGFeatures from `perceptual`: the folder of the two archives, torchvision's file, or its URL.

    Raises:
        FeaturesUnavailable: nothing there, a damaged file, or not VGG19.
    """
    path, sources = Path(perceptual), {layer.source for layer in layers}
    if not path.is_dir():
        return VGGFeatures({"torchvision": _load_torchvision(perceptual)}, layers)
    loaders = {"genuine": _load_genuine, "distilled": _load_distilled}
    return VGGFeatures({source: loaders[source](path) for source in sorted(sources)}, layers)


def _load_torchvision(source: str) -> ConvStack:
    """From the file, or from a URL, which torch fetches once and checks by the digits in the file's name."""
    try:
        state = (
            torch.hub.load_state_dict_from_url(source, map_location="cpu", check_hash=True, weights_only=True)
            if "://" in source
            else torch.load(source, map_location="cpu", weights_only=True)
        )
        weights = {
            f"{conv}.{kind}": state[f"features.{index}.{kind}"]
            for conv, index in TORCHVISION_INDEX.items()
            for kind in ("weight", "bias")
        }
    except OSError as error:
        raise FeaturesUnavailable(
            f"{source} cannot be read ({error}): pass a folder, a file or a URL with --perceptual"
        ) from error
    except Exception as error:  # a pickle of unknown origin can fail in any way; all mean the same
        raise FeaturesUnavailable(f"{source} is not torchvision's vgg19 file: {error}") from error
    # Source: torchvision, VGG19_Weights.IMAGENET1K_V1, transforms.
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    return ConvStack(weights, (1 / deviation).diag(), -mean / deviation)


def _load_genuine(folder: Path) -> ConvStack:
    arrays = _load_archive(folder / GENUINE_FILE)
    weights = {name.removeprefix("conv"): array for name, array in arrays.items()}
    # Source: the Caffe release: BGR, 0…255, minus the mean of ImageNet's pixels.
    mean = torch.tensor([103.939, 116.779, 123.68])
    return ConvStack(weights, torch.full((3,), 255.0).diag().flip(1), -mean)


def _load_distilled(folder: Path) -> ConvStack:
    arrays = _load_archive(folder / DISTILLED_FILE)
    weights = {
        f"{name[4]}_{name[5]}{name[6:]}": array
        for name, array in arrays.items()
        if name.startswith("conv") and "_aux" not in name and not name.startswith("conv0")
    }
    # Trained with reflecting borders; padded with zeros here like the others, which a CPU does faster.
    return ConvStack(weights, arrays["conv0.weight"], arrays["conv0.bias"])


def _load_archive(path: Path) -> dict[str, Tensor]:
    try:
        with np.load(path) as archive:
            return {name: torch.from_numpy(archive[name]) for name in archive.files}
    except (OSError, ValueError) as error:
        raise FeaturesUnavailable(f"{path} cannot be read: {error}") from error
