"""The photo with the eyes that were found drawn into it, for people to look at."""

import math
from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from service.vision.eyes import Eye
from service.vision.images import Image

MAX_SIDE_PX = 1280
MIN_SIDE_PX = 512
"""A smaller photo is enlarged by a whole number before it is drawn into: letters need pixels."""

_COLOURS = {"right": (0, 230, 118), "left": (255, 179, 0)}
_GREY, _BLACK = (190, 190, 190), (0, 0, 0)
_FONT = cv2.FONT_HERSHEY_SIMPLEX

_Box = tuple[int, int, int, int]
"""Left, top, right, bottom."""


def draw_eyes(photo: Image, eyes: Sequence[Eye], below_threshold: Sequence[Eye] = ()) -> Image:
    """A copy of the photo with the square of each crop, its centre and a label in it.

    Its long side is between MIN_SIDE_PX and MAX_SIDE_PX, as nearly as whole steps of enlarging allow. Right
    eyes (the subject's own) are green, left ones orange. A label says the side, the person's number and
    the score: `R0 .97`. What the finder is not sure of is thin and grey, with its score alone.
    """
    scale = _scale(max(photo.shape[:2]))
    size = (max(1, round(photo.shape[1] * scale)), max(1, round(photo.shape[0] * scale)))
    interpolation = cv2.INTER_AREA if scale <= 1 else cv2.INTER_NEAREST
    drawn = np.asarray(cv2.resize(photo, size, interpolation=interpolation), dtype=np.uint8)
    sure, unsure = ([_scaled(eye, scale) for eye in each] for each in (eyes, below_threshold))
    for eye in unsure:
        _draw_square(drawn, eye, _GREY, 1)
    for eye in sure:
        _draw_square(drawn, eye, _COLOURS[eye.side], 1 + _thickness(drawn))
    # Labels last: no square may cross them. Those of the eyes first: they have the choice of places.
    taken: list[_Box] = []
    for eye in sure:
        _write(
            drawn, eye, f"{eye.side[0].upper()}{eye.person} {_decimal(eye.score)}", _COLOURS[eye.side], taken
        )
    for eye in unsure:
        _write(drawn, eye, _decimal(eye.score), _GREY, taken)
    return drawn


def _scale(long_side_px: int) -> float:
    if long_side_px > MAX_SIDE_PX:
        return MAX_SIDE_PX / long_side_px
    return float(max(1, min(math.ceil(MIN_SIDE_PX / long_side_px), MAX_SIDE_PX // long_side_px)))


def _scaled(eye: Eye, scale: float) -> Eye:
    x, y = (eye.x + 0.5) * scale - 0.5, (eye.y + 0.5) * scale - 0.5
    return replace(eye, x=x, y=y, size_px=eye.size_px * scale)


def _thickness(photo: Image) -> int:
    return 1 + int(max(photo.shape[:2])) // 1000


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
    centre, arms = (round(eye.x), round(eye.y)), max(3, round(eye.size_px / 6))
    for each, wide in ((_BLACK, thickness + 2), (colour, thickness)):  # dark around: seen on any ground
        cv2.polylines(photo, corners, True, each, wide, cv2.LINE_8)
        cv2.drawMarker(photo, centre, each, cv2.MARKER_CROSS, arms, wide, cv2.LINE_8)


def _write(photo: Image, eye: Eye, text: str, colour: tuple[int, int, int], taken: list[_Box]) -> None:
    """The label on a dark plate beside the square, where it covers no other label if it can."""
    thickness = _thickness(photo)
    scale = 0.32 + 0.1 * thickness
    (width, height), low = cv2.getTextSize(text, _FONT, scale, thickness)
    plate = width + 4, height + low + 2
    places = _places(photo, eye, *plate)
    box = next((each for each in places if not any(_overlap(each, other) for other in taken)), places[0])
    taken.append(box)
    left, top, right, bottom = box
    photo[top:bottom, left:right] //= 3
    at = (left + 2, bottom - low - 1)
    cv2.putText(photo, text, at, _FONT, scale, colour, thickness, cv2.LINE_AA)


def _places(photo: Image, eye: Eye, width: int, height: int) -> list[_Box]:
    """Where a label may stand, the best first: above, below, outside of the pair, inside; in the photo."""
    (left, top), (right, bottom) = (_corners(eye).min(axis=0), _corners(eye).max(axis=0))
    beside = (left - width - 3, right + 3)
    outside, inside = beside if eye.side == "right" else beside[::-1]
    middle = eye.x - width / 2, eye.y - height / 2
    above, below = (middle[0], top - height - 3), (middle[0], bottom + 4)
    wanted = [above, below, (outside, middle[1]), (inside, middle[1])]
    boxes = []
    for x, y in wanted:
        kept_x = round(min(max(x, 0), max(0, photo.shape[1] - width)))
        kept_y = round(min(max(y, 0), max(0, photo.shape[0] - height)))
        moved = abs(kept_x - x) > width / 2 or abs(kept_y - y) > height / 2
        boxes.append((moved, (kept_x, kept_y, kept_x + width, kept_y + height)))
    return [box for _, box in sorted(boxes, key=lambda each: each[0])]


def _overlap(a: _Box, b: _Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
