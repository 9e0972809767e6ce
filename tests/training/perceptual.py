"""Small files of random weights in the three layouts of perceptual networks."""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from training.synthesizer.vgg import CONVS, DISTILLED_FILE, GENUINE_FILE

CHANNELS = 4


def write_archives(folder: Path) -> Path:
    """Writes both archives, with four channels everywhere, and returns the folder."""
    rng = np.random.default_rng(0)

    def conv(channels_in: int) -> tuple[np.ndarray, np.ndarray]:
        kernel = rng.normal(0, (9 * channels_in) ** -0.5, (CHANNELS, channels_in, 3, 3))
        return kernel.astype(np.float32), np.full(CHANNELS, 0.1, np.float32)

    genuine, distilled = {}, {}
    for name in CONVS:
        channels_in = 3 if name == "1_1" else CHANNELS
        if name[0] <= "3":
            genuine[f"conv{name}.weight"], genuine[f"conv{name}.bias"] = conv(channels_in)
        if name <= "5_1":
            plain = name.replace("_", "")
            distilled[f"conv{plain}.weight"], distilled[f"conv{plain}.bias"] = conv(channels_in)
    distilled["conv0.weight"] = 255 * np.eye(3, dtype=np.float32)[::-1].reshape(3, 3, 1, 1)
    distilled["conv0.bias"] = np.array([-103.939, -116.779, -123.68], np.float32)
    distilled["conv11_aux.weight"] = np.zeros((64, CHANNELS, 1, 1), np.float32)
    np.savez(folder / GENUINE_FILE, **genuine)  # type: ignore[arg-type]
    np.savez(folder / DISTILLED_FILE, **distilled)  # type: ignore[arg-type]
    return folder


def write_torchvision(path: Path) -> tuple[Path, nn.Sequential]:
    """Writes a file in the layout of torchvision's vgg19 and returns it with the plain network."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    channels = 3
    for block, count in enumerate((2, 2, 4, 4, 4)):
        for _ in range(count):
            layers += [nn.Conv2d(channels, CHANNELS, 3, padding=1), nn.ReLU()]
            channels = CHANNELS
        layers += [nn.MaxPool2d(2)] if block < 5 else []
    plain = nn.Sequential(*layers).requires_grad_(False)
    torch.save({f"features.{name}": value for name, value in plain.state_dict().items()}, path)
    return path, plain
