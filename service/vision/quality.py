"""Image quality of an eye (size, light, sharpness), and the thresholds below which no face is drawn.

Every eye is measured on a crop of the same few pixels, so that measures compare between eyes of any size.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from service.errors import EyeRefused, EyeTooBlurred, EyeTooDark, EyeTooSmall
from service.vision.eyes import Eye, crop_eye
from service.vision.images import Image

MEASURED_PX = 12
"""Side of the crop that is measured; a pupil is an eighth of it.

Of 12, 16 and 20 px this side separates sharp from blurred eyes best where the eye has 8 to 20 px.
"""

_REBLUR_PX = 5
"""Width of the second blur: wider than the details of a sharp eye, narrower than those of a blurred one."""

_ROUNDING = 0.5
"""Differences below half a gray level are rounding; they would make a dark blurred eye look sharp."""


@dataclass(frozen=True, slots=True)
class Quality:
    """Measures of how well an eye can be seen.

    `size_px`: side of the crop in pixels of the photo. `sharpness`: the share of gray-level differences that
    a second blur removes, 0 (blurred) to 1; open eyes in portraits have 0.5 to 0.7. `brightness`: mean of the
    gray crop. `contrast`: its 95th less its 5th percentile. `light`: its 95th percentile, which depends less
    on skin color than the mean does. All three from 0 to 1. `tilt_deg`: head roll, clockwise.

    Source: sharpness after Crété-Roffet et al., 2007, "The blur effect: perception and estimation with a
    new no-reference perceptual blur metric", both directions taken together.
    """

    size_px: float
    sharpness: float
    brightness: float
    contrast: float
    light: float
    tilt_deg: float


@dataclass(frozen=True, slots=True)
class QualityThresholds:
    """The minimum size, light and sharpness of an eye that becomes a face; 0 switches a test off."""

    min_px: float = 0.0
    min_light: float = 0.0
    min_sharpness: float = 0.0

    def refusal(self, quality: Quality) -> EyeRefused | None:
        """Why no face is drawn from an eye of this quality; None if one is."""
        if quality.size_px < self.min_px:
            return EyeTooSmall(
                f"The square around the eye is {quality.size_px:.1f} pixels wide; at least {self.min_px:g} "
                "are wanted. Send a photo with more pixels, or taken from nearer. "
                "EYE2FACE_MIN_EYE_PX=0 lets any size through."
            )
        if quality.light < self.min_light:
            return EyeTooDark(
                f"The brightest part of the eye has {quality.light:.3f} of full light; at least "
                f"{self.min_light:g} is wanted. Send a photo with more light on the face. "
                "EYE2FACE_MIN_EYE_LIGHT=0 lets any light through."
            )
        if quality.sharpness < self.min_sharpness:
            return EyeTooBlurred(
                f"The eye has a sharpness of {quality.sharpness:.2f}; at least {self.min_sharpness:g} is "
                "wanted. Send a photo in focus and without motion. "
                "EYE2FACE_MIN_EYE_SHARPNESS=0 lets any blur through."
            )
        return None


def measure_quality(photo: Image, eye: Eye, *, size_px: float | None = None) -> Quality:
    """The quality of the eye in `photo`; `size_px` is its full size, if the photo is decoded at less."""
    crop = crop_eye(photo, eye, MEASURED_PX)
    gray = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY).astype(np.float32)
    levels = np.sort(gray, axis=None)  # np.percentile takes ten times as long for so few
    ends = np.interp((0.05 * (levels.size - 1), 0.95 * (levels.size - 1)), np.arange(levels.size), levels)
    dark, bright = (float(level) / 255 for level in ends)
    return Quality(
        size_px=eye.size_px if size_px is None else size_px,
        sharpness=_sharpness(gray),
        brightness=float(gray.mean()) / 255,
        contrast=bright - dark,
        light=bright,
        tilt_deg=eye.roll_deg,
    )


def _sharpness(gray: NDArray[np.float32]) -> float:
    """The share of the differences between neighboring pixels that a second blur removes."""
    changes, lost = 0.0, 0.0
    for axis, kernel in ((1, (_REBLUR_PX, 1)), (0, (1, _REBLUR_PX))):
        blurred = cv2.blur(gray, kernel, borderType=cv2.BORDER_REPLICATE)
        before, after = np.abs(np.diff(gray, axis=axis)), np.abs(np.diff(blurred, axis=axis))
        changes += float(before.sum())
        lost += float(np.maximum(0, before - after - _ROUNDING).sum())
    return lost / changes if changes else 0.0
