"""Eyes as bad cameras and bad light give them, to measure systems on: tilted, small, dark.

Made from the prepared wide crops, the same for every system; the faces stay as they are.
"""

from collections.abc import Mapping

import cv2
import numpy as np

from service.vision.eyes import Image
from training.data.dataset import Change, cut_turned

TILT_DEG = 20.0
SMALL_PX = 16
GAIN, GRAIN = 0.2, 4.0
"""A dark eye has a fifth of its light, and a sensor's grain of so many levels of 255."""


def tilt(wide: Image, size: int, rng: np.random.Generator) -> Image:
    """Turned to one side or the other, as where the head's roll is not known."""
    return cut_turned(wide, size, TILT_DEG if rng.random() < 0.5 else -TILT_DEG)


def shrink(wide: Image, size: int, rng: np.random.Generator) -> Image:
    """As if it had been so few pixels wide in the photo."""
    few = cv2.resize(cut_turned(wide, size, 0.0), (SMALL_PX, SMALL_PX), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(few, (size, size)), dtype=np.uint8)


def darken(wide: Image, size: int, rng: np.random.Generator) -> Image:
    """With less light, and grain."""
    eye = GAIN * cut_turned(wide, size, 0.0) + rng.normal(0, GRAIN, (size, size, 3))
    return np.clip(np.round(eye), 0, 255).astype(np.uint8)


FLAWS: Mapping[str, Change] = {
    f"made to tilt by {TILT_DEG:.0f}°": tilt,
    f"made {SMALL_PX} px small": shrink,
    "made dark": darken,
}
"""Each by the name of its slice."""
