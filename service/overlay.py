"""The photo with the eyes that were found drawn into it, for people to look at."""

import math
from dataclasses import replace

import cv2
import numpy as np

from service.eyes import Eye, Image

MAX_SIDE_PX = 1280
_COLOURS = {"right": (0, 220, 120), "left": (255, 170, 0)}


def draw_eyes(photo: Image, eyes: list[Eye]) -> Image:
    """A copy of the photo, its long side at most MAX_SIDE_PX, with the square of each crop in it.

    Right eyes are green, left ones orange (the subject's own); the number is the person's.
    """
    shrink = min(1.0, MAX_SIDE_PX / max(photo.shape[:2]))
    size = (max(1, round(photo.shape[1] * shrink)), max(1, round(photo.shape[0] * shrink)))
    drawn = np.asarray(cv2.resize(photo, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    for eye in eyes:
        x, y = (eye.x + 0.5) * shrink - 0.5, (eye.y + 0.5) * shrink - 0.5
        _draw_eye(drawn, replace(eye, x=x, y=y, size_px=eye.size_px * shrink))
    return drawn


def _draw_eye(photo: Image, eye: Eye) -> None:
    thickness = max(1, round(max(photo.shape[:2]) / 500))
    angle = math.radians(eye.roll_deg)
    across = np.array([math.cos(angle), math.sin(angle)]) * eye.size_px / 2
    down = np.array([-across[1], across[0]])
    corners = np.array([eye.x, eye.y]) + np.array(
        [-across - down, across - down, across + down, down - across]
    )
    colour = _COLOURS[eye.side]
    cv2.polylines(photo, [np.rint(corners).astype(np.int32)], True, colour, thickness, cv2.LINE_AA)
    at = (round(corners[0][0]), round(corners[0][1]) - 2 * thickness)
    cv2.putText(
        photo, str(eye.person), at, cv2.FONT_HERSHEY_SIMPLEX, 0.3 * thickness, colour, thickness, cv2.LINE_AA
    )
