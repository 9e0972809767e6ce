"""Quality filters of training photos, with their thresholds: sharpness, eye contrast, sunglasses, color.

Knows pixels of aligned faces and of eye crops; knows nothing of files. The thresholds were chosen
by looking at contact sheets of the extremes among 6,696 labeled training faces (validation faces
were not looked at), so that few good photos are lost. What cannot be told at 19–48 px per eye
passes: a closed eye looks like a laughing or a narrow one, and every measure tried would have thrown
out laughing people and people with narrow eyes before closed ones.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from service.vision.images import Image

FILTER_VERSION = 2
"""Changes whenever another photo or eye passes."""

MIN_EYE_DISTANCE_PX = 24.0
"""Below it the square around an eye is under 15 px wide and shows no iris."""

MAX_LABEL_SPREAD = 0.15
"""Repeated labellings that disagree by more of the eye distance do not say where the eye is.
Source: README of the labeled data; its median is 0.05."""

MIN_SHARPNESS = 0.48
"""Median of training faces 0.67, lowest 0.41; the 14 below 0.48 are all visibly smeared or enlarged,
from 0.50 on sharp faces in soft light begin to appear."""

MIN_EYE_CONTRAST = 0.05
"""An eye that varies less, against its face, is a dark lens or lies in black shadow. Median 0.30,
lowest 0.013; above 0.06 the first eyes appear that one can see."""

TINTED_CONTRAST, TINTED_SKIN = 0.13, 0.05
"""With little contrast in both eyes and no skin color around them they are behind sunglasses. The
color alone would lose dark-skinned people (6 of the 20 below 0.10), the contrast alone shaded ones;
of the 15 training faces below both, all wear sunglasses. Mirrored glasses pass."""

MIN_COLORFULNESS = 2.0
"""Below it a face is monochrome. Among 4,984 training faces known to be in color 1 is below (42 below
3.0), black-and-white and toned ones reach 1.9, a few aged prints 2.8."""

FACE, EYE = 128, 64
"""Sides at which faces and eyes are measured, whatever their own."""


def sharpness(face: Image) -> float:
    """Detail at 1/64 of the face's side over detail at 1/32: about 0.67, less when blurred or enlarged.

    A ratio of two scales does not change with contrast or light. Measured on eyes, nose and mouth.
    """
    luma = _luma(face, FACE)
    fine = cv2.Laplacian(cv2.resize(luma, (64, 64), interpolation=cv2.INTER_AREA), cv2.CV_32F)
    coarse = cv2.Laplacian(cv2.resize(luma, (32, 32), interpolation=cv2.INTER_AREA), cv2.CV_32F)
    return float(fine[18:52, 14:50].std() / max(float(coarse[9:26, 7:25].std()), 1e-3))


def usable_eyes(face: Image, eyes_EHWC: Image) -> tuple[bool, bool]:
    """Whether the right and the left eye can be seen; neither can behind sunglasses."""
    contrast = [eye_contrast(face, eye) for eye in eyes_EHWC]
    if max(contrast) < TINTED_CONTRAST and max(_skin_fractions(face, eyes_EHWC)) < TINTED_SKIN:
        return False, False
    return contrast[0] >= MIN_EYE_CONTRAST, contrast[1] >= MIN_EYE_CONTRAST


def eye_contrast(face: Image, eye: Image) -> float:
    """How much the eye's luma varies, over the span from dark to bright of the face's middle."""
    middle = _luma(face, FACE)[36:104, 28:100]
    span = float(np.percentile(middle, 95) - np.percentile(middle, 2))
    return float(_luma(eye, EYE)[20:44, 12:52].std()) / max(span, 1.0)


def colorfulness(face: Image) -> float:
    """Standard deviation, in levels of 255, of Lab's a and b that luma does not explain.

    A toned print has one color for each luma, a color photo several.
    """
    lab = cv2.cvtColor(_sized(face, 64), cv2.COLOR_RGB2LAB).reshape(-1, 3).astype(np.float32)
    luma = lab[:, 0] / 255
    terms = np.stack([np.ones_like(luma), luma, luma**2], axis=1)
    tone = np.linalg.lstsq(terms, lab[:, 1:], rcond=None)[0]
    return float((lab[:, 1:] - terms @ tone).std(axis=0).max())


def _skin_fractions(face: Image, eyes_EHWC: Image) -> list[float]:
    """The fraction of each crop that has the color of the cheek below it and at least half its luma."""
    face_lab = cv2.cvtColor(_sized(face, FACE), cv2.COLOR_RGB2LAB).astype(np.float32)
    fractions = []
    for eye, cheek in zip(eyes_EHWC, (face_lab[64:80, 30:48], face_lab[64:80, 80:98]), strict=True):
        skin = np.median(cheek.reshape(-1, 3), axis=0)
        smooth = cv2.GaussianBlur(_sized(eye, EYE), (0, 0), 1.5)
        lab = cv2.cvtColor(smooth, cv2.COLOR_RGB2LAB).astype(np.float32)[10:54, 6:58]
        far = np.hypot(lab[..., 1] - skin[1], lab[..., 2] - skin[2])
        fractions.append(float(np.mean((far < 14) & (lab[..., 0] > 0.5 * skin[0]))))
    return fractions


def _luma(pixels: Image, size: int) -> NDArray[np.float32]:
    return cv2.cvtColor(_sized(pixels, size), cv2.COLOR_RGB2GRAY).astype(np.float32)


def _sized(pixels: Image, size: int) -> Image:
    if pixels.shape[0] == size:
        return pixels
    return np.asarray(cv2.resize(pixels, (size, size), interpolation=cv2.INTER_AREA), np.uint8)
