"""Round things that are no eyes, drawn by code: balls, moons, cups, wheels, plates.

A finder that never saw one takes it for a large eye: a dark disc within a bright ring.
"""

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from service.vision.images import Image
from training.data.augmentation import Rng

_SMALLEST, _LARGEST = 0.05, 0.9
"""Radius as a part of the picture's side."""


def draw_round_thing(picture: Image, rng: Rng, textures: Sequence[Image] = ()) -> None:
    """Draws one into the picture, H x W x 3: ring within ring, seen aslant, lit from one side, grained.

    Rings may show parts of `textures`; a cup's are not of one centre, and something shines on it.
    """
    side = min(picture.shape[:2])
    radius = side * math.exp(rng.uniform(math.log(_SMALLEST), math.log(_LARGEST)))
    along_HW, across_HW = _axes(picture.shape[:2], radius, rng)
    reach_HW = np.hypot(along_HW, across_HW)
    edge = max(1.5 / radius, float(rng.choice([0.02, 0.1, 0.3])))  # of the radius; the last is out of focus
    drawn_HWC = _rings(along_HW, across_HW, edge, rng, textures)
    light = float(rng.uniform(0, 0.8))
    lit_HW = 1 + light * along_HW - float(rng.uniform(0, 0.5)) * reach_HW**2
    grain_HW = 1 + float(rng.choice([0, 0.1, 0.3, 0.6])) * _grain(picture.shape[:2], rng)
    drawn_HWC *= (lit_HW * grain_HW)[..., None]
    if rng.random() < 0.5:
        _shine(drawn_HWC, along_HW, across_HW, edge, rng)
    shown_HW = np.clip((1 - reach_HW) / edge + 0.5, 0, 1)[..., None]
    picture[:] = (picture + (np.clip(drawn_HWC, 0, 255) - picture) * shown_HW).astype(np.uint8)


def _axes(shape: tuple[int, ...], radius: float, rng: Rng) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """How far each pixel is from a random centre along two turned axes, in radii; one axis is shortened."""
    y_HW, x_HW = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    y_HW -= float(rng.uniform(0, shape[0]))
    x_HW -= float(rng.uniform(0, shape[1]))
    turn, squash = rng.uniform(0, 2 * math.pi), rng.uniform(0.55, 1)
    cos, sin = math.cos(turn), math.sin(turn)
    return (x_HW * cos + y_HW * sin) / radius, (y_HW * cos - x_HW * sin) / (radius * float(squash))


def _rings(
    along_HW: NDArray[np.float32],
    across_HW: NDArray[np.float32],
    edge: float,
    rng: Rng,
    textures: Sequence[Image],
) -> NDArray[np.float32]:
    """One to five rings, each of one colour or texture, softly bounded, each within the one before."""
    grey, aside = rng.random() < 0.4, rng.random() < 0.5
    bounds = np.sort(rng.uniform(0.1, 0.97, int(rng.integers(0, 5))))[::-1]
    rings_HWC = _filling(along_HW.shape, rng, grey, textures)
    along, across, before = 0.0, 0.0, 1.0
    for bound in bounds:
        if aside:
            far, where = rng.uniform(0, before - bound), rng.uniform(0, 2 * math.pi)
            along, across = along + far * math.cos(where), across + far * math.sin(where)
        inside_HW = np.clip((bound - np.hypot(along_HW - along, across_HW - across)) / edge + 0.5, 0, 1)
        rings_HWC += (_filling(along_HW.shape, rng, grey, textures) - rings_HWC) * inside_HW[..., None]
        before = bound
    return rings_HWC


def _filling(shape: tuple[int, ...], rng: Rng, grey: bool, textures: Sequence[Image]) -> NDArray[np.float32]:
    """H x W x 3 of one colour, or, three times in ten, a part of a texture."""
    if textures and rng.random() < 0.3:
        whole = textures[int(rng.integers(len(textures)))]
        side = max(2, int(min(whole.shape[:2]) * rng.uniform(0.1, 1)))
        top, left = (int(rng.integers(size - side + 1)) for size in whole.shape[:2])
        part = cv2.resize(whole[top : top + side, left : left + side], shape[::-1])
        return np.asarray(part, np.float32)
    colour = rng.uniform(0, 255, 3)
    colour = colour.mean() + (colour - colour.mean()) * (0 if grey else rng.uniform(0, 1))
    return np.broadcast_to(colour, (*shape, 3)).astype(np.float32)


def _shine(
    drawn_HWC: NDArray[np.float32],
    along_HW: NDArray[np.float32],
    across_HW: NDArray[np.float32],
    edge: float,
    rng: Rng,
) -> None:
    """One to three bright spots."""
    for _ in range(int(rng.integers(1, 4))):
        along, across = rng.uniform(-0.7, 0.7, 2)
        wide, high = rng.uniform(0.03, 0.25, 2)
        reach_HW = np.hypot((along_HW - along) / wide, (across_HW - across) / high)
        drawn_HWC += rng.uniform(60, 200) * np.clip((1 - reach_HW) * high / edge + 0.5, 0, 1)[..., None]


def _grain(shape: tuple[int, ...], rng: Rng) -> NDArray[np.float32]:
    """Cloudy noise of some coarseness, mean 0, about -1 to 1."""
    cells = int(rng.integers(4, 80))
    coarse = rng.normal(0, 0.5, (cells, cells)).astype(np.float32)
    return np.asarray(cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_CUBIC), np.float32)
