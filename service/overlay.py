"""The photo with the eyes that were found drawn into it, for people to look at."""

import math
from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from service.eyes import Eye, Image

MAX_SIDE_PX = 1280
MIN_SIDE_PX = 512
"""A smaller photo is enlarged by a whole number before it is drawn into: letters need pixels."""

_COLOURS = {"right": (0, 230, 118), "left": (255, 179, 0)}
_GREY, _BLACK = (190, 190, 190), (0, 0, 0)
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def draw_eyes(photo: Image, eyes: Sequence[Eye], doubtful: Sequence[Eye] = ()) -> Image:
    """A copy of the photo with the square of each crop, its centre and a label in it.

    Its long side is between MIN_SIDE_PX and MAX_SIDE_PX, as nearly as whole steps of enlarging allow. Right
    eyes (the subject's own) are green, left ones orange. A label says the side, the person's number and
    the score: `R0 .97`. What the finder is not sure of is thin and grey, with its score alone.
    """
    scale = _scale(max(photo.shape[:2]))
    size = (max(1, round(photo.shape[1] * scale)), max(1, round(photo.shape[0] * scale)))
    interpolation = cv2.INTER_AREA if scale <= 1 else cv2.INTER_NEAREST
    drawn = np.asarray(cv2.resize(photo, size, interpolation=interpolation), dtype=np.uint8)
    for eye in doubtful:
        _draw_square(drawn, _scaled(eye, scale), _GREY, 1)
    for eye in eyes:
        _draw_square(drawn, _scaled(eye, scale), _COLOURS[eye.side], _thickness(drawn))
    # Labels last: no square may cross them.
    for eye in doubtful:
        _write(drawn, _scaled(eye, scale), _decimal(eye.score), _GREY)
    for eye in eyes:
        label = f"{eye.side[0].upper()}{eye.person} {_decimal(eye.score)}"
        _write(drawn, _scaled(eye, scale), label, _COLOURS[eye.side])
    return drawn


def _scale(long_side_px: int) -> float:
    if long_side_px > MAX_SIDE_PX:
        return MAX_SIDE_PX / long_side_px
    return float(max(1, min(math.ceil(MIN_SIDE_PX / long_side_px), MAX_SIDE_PX // long_side_px)))


def _scaled(eye: Eye, scale: float) -> Eye:
    x, y = (eye.x + 0.5) * scale - 0.5, (eye.y + 0.5) * scale - 0.5
    return replace(eye, x=x, y=y, size_px=eye.size_px * scale)


def _thickness(photo: Image) -> int:
    return 1 + int(max(photo.shape[:2])) // 750


def _decimal(score: float) -> str:
    """Two digits, as `.97`; 1 is for who is sure beyond them."""
    return "1" if score >= 0.995 else f"{score:.2f}"[1:]


def _corners(eye: Eye) -> NDArray[np.float64]:
    angle = math.radians(eye.roll_deg)
    across = np.array([math.cos(angle), math.sin(angle)]) * eye.size_px / 2
    down = np.array([-across[1], across[0]])
    square = np.array([-across - down, across - down, across + down, down - across])
    return np.asarray(square + np.array([eye.x, eye.y]), dtype=np.float64)


def _draw_square(photo: Image, eye: Eye, colour: tuple[int, int, int], thickness: int) -> None:
    corners = [np.rint(_corners(eye)).astype(np.int32)]
    centre = (round(eye.x), round(eye.y))
    for each, wide in ((_BLACK, thickness + 2), (colour, thickness)):  # dark around: seen on any ground
        cv2.polylines(photo, corners, True, each, wide, cv2.LINE_AA)
        cv2.drawMarker(photo, centre, each, cv2.MARKER_CROSS, 4 * thickness + 3, wide, cv2.LINE_AA)


def _write(photo: Image, eye: Eye, text: str, colour: tuple[int, int, int]) -> None:
    """The label above the square, or below it where there is no room; always within the photo."""
    thickness = _thickness(photo)
    scale = 0.3 + 0.1 * thickness
    (width, height), _ = cv2.getTextSize(text, _FONT, scale, thickness)
    corners, gap = _corners(eye), 2 + thickness
    top = float(corners[:, 1].min()) - gap
    y = top if top - height >= 0 else float(corners[:, 1].max()) + gap + height
    x = min(max(0.0, eye.x - width / 2), max(0.0, photo.shape[1] - width))
    at = (round(x), round(min(max(y, height), photo.shape[0] - 1)))
    for each, wide in ((_BLACK, thickness + 2), (colour, thickness)):
        cv2.putText(photo, text, at, _FONT, scale, each, wide, cv2.LINE_AA)
