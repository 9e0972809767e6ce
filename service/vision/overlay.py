"""Overlay: the photo with squares and labels of the detected eyes drawn in."""

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from service.vision.eyes import Eye
from service.vision.images import Image

MAX_SIDE_PX = 1280
MIN_SIDE_PX = 512
"""Smaller photos are enlarged by a whole number first, so that labels can be read."""

_COLORS = {"right": (0, 230, 118), "left": (255, 179, 0)}
_GRAY, _BLACK = (190, 190, 190), (0, 0, 0)
_FONT = cv2.FONT_HERSHEY_SIMPLEX

_Box = tuple[int, int, int, int]
"""Left, top, right, bottom."""


def draw_eyes(photo: Image, eyes: Sequence[Eye], below_threshold: Sequence[Eye] = ()) -> Image:
    """A copy of the photo with the square, the center and the label of each eye.

    Its long side is between MIN_SIDE_PX and MAX_SIDE_PX, as nearly as whole factors allow. The subject's
    right eyes are green, left ones orange; labels hold side, person and score: `R0 .97`. Eyes below the
    threshold are thin and gray, labeled with their score alone.
    """
    scale = _scale(max(photo.shape[:2]))
    size = (max(1, round(photo.shape[1] * scale)), max(1, round(photo.shape[0] * scale)))
    interpolation = cv2.INTER_AREA if scale <= 1 else cv2.INTER_NEAREST
    drawn = np.asarray(cv2.resize(photo, size, interpolation=interpolation), dtype=np.uint8)
    detected, faint = ([eye.scaled(scale) for eye in each] for each in (eyes, below_threshold))
    for eye in faint:
        _draw_square(drawn, eye, _GRAY, 1)
    for eye in detected:
        _draw_square(drawn, eye, _COLORS[eye.side], 1 + _thickness(drawn))
    # Labels go over all squares; those of detected eyes choose their places first.
    taken: list[_Box] = []
    for eye in detected:
        _draw_label(
            drawn,
            eye,
            f"{eye.side[0].upper()}{eye.person} {_format_score(eye.score)}",
            _COLORS[eye.side],
            taken,
        )
    for eye in faint:
        _draw_label(drawn, eye, _format_score(eye.score), _GRAY, taken)
    return drawn


def _scale(long_side_px: int) -> float:
    if long_side_px > MAX_SIDE_PX:
        return MAX_SIDE_PX / long_side_px
    return float(max(1, min(math.ceil(MIN_SIDE_PX / long_side_px), MAX_SIDE_PX // long_side_px)))


def _thickness(photo: Image) -> int:
    return 1 + int(max(photo.shape[:2])) // 1000


def _format_score(score: float) -> str:
    """Two digits, as `.97`; 1 from .995 on."""
    return "1" if score >= 0.995 else f"{score:.2f}"[1:]


def _corners(eye: Eye) -> NDArray[np.float64]:
    angle = math.radians(eye.roll_deg)
    across = np.array([math.cos(angle), math.sin(angle)]) * eye.size_px / 2
    down = np.array([-across[1], across[0]])
    square = np.array([-across - down, across - down, across + down, down - across])
    return np.asarray(square + np.array([eye.x, eye.y]), dtype=np.float64)


def _draw_square(photo: Image, eye: Eye, color: tuple[int, int, int], thickness: int) -> None:
    corners = [np.rint(_corners(eye)).astype(np.int32)]
    center, arms = (round(eye.x), round(eye.y)), max(3, round(eye.size_px / 6))
    for each, wide in (
        (_BLACK, thickness + 2),
        (color, thickness),
    ):  # a dark outline is visible on any background
        cv2.polylines(photo, corners, True, each, wide, cv2.LINE_8)
        cv2.drawMarker(photo, center, each, cv2.MARKER_CROSS, arms, wide, cv2.LINE_8)


def _draw_label(photo: Image, eye: Eye, text: str, color: tuple[int, int, int], taken: list[_Box]) -> None:
    """Writes the label on a dark plate beside the square, where it covers no other label if possible."""
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
    cv2.putText(photo, text, at, _FONT, scale, color, thickness, cv2.LINE_AA)


def _places(photo: Image, eye: Eye, width: int, height: int) -> list[_Box]:
    """Boxes for a label inside the photo, the best first: above, below, outside of the pair, inside it."""
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
