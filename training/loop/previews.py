"""Pictures of a run: loss curves, and a grid of eyes, drawn faces and true faces."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from service.vision.images import Image
from training.data.dataset import EyeFacePairs
from training.loop.run_folder import read_stats

NUM_COLUMNS = 12
"""Pictures beside each other in a grid."""


@torch.no_grad()
def draw_faces(model: nn.Module, eyes_BHWC: Image) -> Image:
    """Faces B x F x F x 3 uint8 from eyes B x S x S x 3 uint8, as the exported model gives them."""
    device = next(model.parameters()).device
    eyes = torch.from_numpy(np.ascontiguousarray(eyes_BHWC)).to(device).permute(0, 3, 1, 2).float() / 255
    faces = (model.eval()(eyes) * 255).round().to(torch.uint8)
    return np.asarray(faces.permute(0, 2, 3, 1).cpu().numpy(), dtype=np.uint8)


def draw_grid(
    path: Path, dataset: EyeFacePairs, systems: Iterable[Callable[[Image], Image]], *,
    num_eyes: int = NUM_COLUMNS, samples: Sequence[int] | None = None,
) -> None:  # fmt: skip
    """Writes columns of eye, each system's face and the true face, twelve beside each other.

    They are of the samples or, without any, of `num_eyes` spread over the dataset.
    """
    if samples is None:
        samples = np.linspace(0, len(dataset) - 1, num_eyes).astype(int).tolist()
    chosen = [dataset[i] for i in samples]
    eyes, true = (
        np.stack([np.ascontiguousarray(sample[part].permute(1, 2, 0)) for sample in chosen])
        for part in (0, 1)
    )
    rows = [eyes[..., :3], *(draw(eyes) for draw in systems), true]
    size = true.shape[2]
    grid = np.vstack([np.hstack([cv2.resize(picture, (size, size)) for picture in row]) for row in rows])
    if len(chosen) > NUM_COLUMNS:
        num_blocks = -(-len(chosen) // NUM_COLUMNS)
        missing = num_blocks * NUM_COLUMNS - len(chosen)
        grid = np.pad(grid, ((0, 0), (0, missing * size), (0, 0)))
        grid = np.vstack(np.split(grid, num_blocks, axis=1))
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), grid[..., ::-1])


def draw_curves(folder: Path) -> None:
    """Writes `curves.png` from the run's `stats.jsonl`: each term over the steps."""
    import matplotlib  # here, as it takes a second

    matplotlib.use("Agg")
    from matplotlib import pyplot

    lines = list(read_stats(folder))
    names = [name for line in lines[-1:] for name in line if name not in ("step", "seconds_per_step")]
    if not names:
        return
    figure, axes = pyplot.subplots(1, len(names), figsize=(4 * len(names), 3), squeeze=False)
    for axis, name in zip(axes[0], names, strict=True):
        points: NDArray[np.float64] = np.array([(line["step"], line[name]) for line in lines if name in line])
        axis.plot(points[:, 0], points[:, 1])
        axis.set(title=name, xlabel="step", yscale="log")
    figure.tight_layout()
    figure.savefig(folder / "curves.png", dpi=80)
    pyplot.close(figure)
