"""Corruptions to evaluate systems under: tilted, small and dark eyes, the same for every system.

They are made from the prepared wide crops; the faces stay as they are.
"""

from collections.abc import Mapping

import numpy as np

from service.vision.images import Image
from training.data.augmentation import EyeTransform, Rng, blur, crop_rotated, lower_resolution

TILT_DEG = 20.0
SMALL_PX = 16
BLUR_PX = 2.0
GAIN, NOISE = 0.2, 4.0
"""A dark eye has a fifth of its light, and a sensor's noise of so many levels of 255."""


def tilt(wide: Image, size: int, rng: Rng) -> Image:
    """The eye turned to one side or the other, as where the head's roll is not known."""
    return crop_rotated(wide, size, TILT_DEG if rng.random() < 0.5 else -TILT_DEG)


def shrink(wide: Image, size: int, rng: Rng) -> Image:
    """The eye as if it had been SMALL_PX wide in the photo."""
    return lower_resolution(crop_rotated(wide, size, 0.0), SMALL_PX)


def blur_eye(wide: Image, size: int, rng: Rng) -> Image:
    """The eye out of focus: Gaussian blur with a standard deviation of BLUR_PX."""
    return blur(crop_rotated(wide, size, 0.0), BLUR_PX)


def darken(wide: Image, size: int, rng: Rng) -> Image:
    """The eye with less light, and noise in every pixel."""
    eye = GAIN * crop_rotated(wide, size, 0.0) + rng.normal(0, NOISE, (size, size, 3))
    return np.clip(np.round(eye), 0, 255).astype(np.uint8)


CORRUPTIONS: Mapping[str, EyeTransform] = {
    f"made to tilt by {TILT_DEG:.0f}°": tilt,
    f"made {SMALL_PX} px small": shrink,
    "made dark": darken,
}
"""Each by the name of its slice."""
