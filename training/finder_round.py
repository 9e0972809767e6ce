"""Round things that are no eyes, drawn by code: balls, moons, cups, wheels, plates.

A finder that never saw one takes it for a large eye: a dark disc within a bright ring.
"""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from service.eyes import Image
from training.finder_flaws import Rng

_SMALLEST, _LARGEST = 0.05, 0.6
"""Radius as a part of the picture's side."""


def draw_round_thing(picture: Image, rng: Rng) -> None:
    """Draws one into the picture, H x W x 3: rings of one centre, seen aslant, lit from one side, grained."""
    side = min(picture.shape[:2])
    radius = side * math.exp(rng.uniform(math.log(_SMALLEST), math.log(_LARGEST)))
    along_HW, across_HW = _axes(picture.shape[:2], radius, rng)
    reach_HW = np.hypot(along_HW, across_HW)
    edge = max(1.5 / radius, float(rng.choice([0.02, 0.1, 0.3])))  # of the radius; the last is out of focus
    drawn_HWC = _rings(reach_HW, edge, rng)
    light = float(rng.uniform(0, 0.8))
    lit_HW = 1 + light * along_HW - float(rng.uniform(0, 0.5)) * reach_HW**2
    grain_HW = 1 + float(rng.choice([0, 0.1, 0.3])) * _grain(picture.shape[:2], rng)
    shown_HW = np.clip((1 - reach_HW) / edge + 0.5, 0, 1)[..., None]
    painted = np.clip(drawn_HWC * (lit_HW * grain_HW)[..., None], 0, 255)
    picture[:] = (picture + (painted - picture) * shown_HW).astype(np.uint8)


def _axes(shape: tuple[int, ...], radius: float, rng: Rng) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """How far each pixel is from a random centre along two turned axes, in radii; one axis is shortened."""
    y_HW, x_HW = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    y_HW -= float(rng.uniform(0, shape[0]))
    x_HW -= float(rng.uniform(0, shape[1]))
    turn, squash = rng.uniform(0, 2 * math.pi), rng.uniform(0.55, 1)
    cos, sin = math.cos(turn), math.sin(turn)
    return (x_HW * cos + y_HW * sin) / radius, (y_HW * cos - x_HW * sin) / (radius * float(squash))


def _rings(reach_HW: NDArray[np.float32], edge: float, rng: Rng) -> NDArray[np.float32]:
    """One to five rings, each of one colour, softly bounded."""
    grey = rng.random() < 0.4
    colours = rng.uniform(0, 255, (int(rng.integers(1, 6)), 1 if grey else 3)).astype(np.float32)
    rings_HWC = np.broadcast_to(colours[0], (*reach_HW.shape, 3)).astype(np.float32)
    for bound, colour in zip(
        np.sort(rng.uniform(0.1, 0.97, len(colours) - 1))[::-1], colours[1:], strict=True
    ):
        inside_HW = np.clip((bound - reach_HW) / edge + 0.5, 0, 1)[..., None]
        rings_HWC += (colour - rings_HWC) * inside_HW
    return rings_HWC


def _grain(shape: tuple[int, ...], rng: Rng) -> NDArray[np.float32]:
    """Cloudy noise of some coarseness, mean 0, about -1 to 1."""
    cells = int(rng.integers(4, 80))
    coarse = rng.normal(0, 0.5, (cells, cells)).astype(np.float32)
    return np.asarray(cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_CUBIC), np.float32)
