"""The two photos of the bench, made from scikit-image's astronaut: a crop of 250 px and a scene of 1080p."""

from pathlib import Path
from typing import Final

import cv2
import numpy as np
import skimage.data

NAMES: Final = ("250px", "1080p")


def write_photos(folder: Path) -> dict[str, Path]:
    """Writes both photos as JPEG and returns their paths by name."""
    astronaut = np.asarray(skimage.data.astronaut())  # type: ignore[no-untyped-call]
    photos = {"250px": astronaut[0:250, 100:350], "1080p": _draw_scene(astronaut)}
    paths = {name: folder / f"{name}.jpg" for name in NAMES}
    for name, photo in photos.items():
        cv2.imwrite(str(paths[name]), photo[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])
    return paths


def _draw_scene(astronaut: "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]") -> np.ndarray:
    """A wall with shapes and grain, 1920 x 1080, and the astronaut before it: about 600 KB as a JPEG."""
    random = np.random.default_rng(0)
    scene = np.full((1080, 1920, 3), (120, 130, 140), np.uint8)
    for _ in range(60):
        color = tuple(int(each) for each in random.integers(40, 220, 3))
        x, y = (int(each) for each in random.integers(0, (1920, 1080)))
        cv2.rectangle(scene, (x, y), (x + 200, y + 120), color, -1)
    grain = random.normal(0, 6, scene.shape)
    scene = np.clip(scene + grain, 0, 255).astype(np.uint8)
    height, width = 900, 900
    scene[180:1080, 500:1400] = cv2.resize(astronaut, (width, height), interpolation=cv2.INTER_CUBIC)
    return scene
