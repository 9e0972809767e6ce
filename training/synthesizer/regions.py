"""Mask of the face in an aligned picture, and weights of pixels that make the background count less.

Letters of shapes: F side of the face's picture.
"""

import torch
from torch import Tensor

MIDDLE, RADII = (0.5, 0.53), (0.45, 0.47)
"""An ellipse from the hairline to the chin and from ear to ear, in parts of the side: eyes are 0.40 apart
there, a face is 2.2 eye distances wide and its chin lies 1.6 below the eyes."""


def face_region(size: int) -> Tensor:
    """F x F, 1 in the face and 0 in what surrounds it."""
    at = (torch.arange(size) + 0.5) / size
    x, y = (at - MIDDLE[0]) / RADII[0], (at - MIDDLE[1]) / RADII[1]
    return (x[None, :].square() + y[:, None].square() <= 1).float()


def region_weights(size: int, background: float) -> Tensor:
    """F x F of mean 1, in which the background weighs `background` times as much as the face."""
    assert background > 0
    region = face_region(size)
    weights = region + background * (1 - region)
    return weights / weights.mean()
