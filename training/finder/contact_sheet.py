"""Contact sheets: pictures side by side in one PNG, to be looked at."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from service.vision.images import Image, encode
from training.data.files import write_atomically


def write_contact_sheet(path: Path, tiles: Sequence[Image], *, columns: int) -> None:
    """Writes tiles of one size as rows of so many, the last row filled up in black; nothing without tiles."""
    if not tiles:
        return
    filled = [*tiles, *[np.zeros_like(tiles[0])] * (-len(tiles) % columns)]
    rows = [np.hstack(filled[start : start + columns]) for start in range(0, len(filled), columns)]
    png = encode(np.vstack(rows), "png")
    write_atomically(path, lambda file: file.write(png))
