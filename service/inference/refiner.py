"""A closer look at each place where an eye may be: whether it is one, and where exactly.

Cuts every candidate out upright, all of one size however large the eye, and asks a second small network,
which lies in the file of the finder. Knows pixels and candidates, not people. Source: cascades as of Zhang
et al. 2016, "MTCNN", whose later networks look closer at what the first one proposed.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from service.inference.detections import Candidate
from service.vision.eyes import CROP_PER_EYE_DISTANCE, Eye, Image, Side, crop_eye

CLOSE_PX, CLOSE_PER_DISTANCE = 48, 1.6
"""Side of what the network sees, in pixels and in distances between the eyes."""


class Refiner:
    """Looks closer at candidates; may be shared by threads."""

    def __init__(self, session: Any) -> None:
        """`session` takes `close` uint8 N x CLOSE_PX x CLOSE_PX x 3 and answers `refined` float32 N x 6."""
        self._session = session

    def refine(self, photo: Image, candidates: Sequence[Candidate]) -> list[Candidate]:
        """The candidates of `photo`, H x W x 3 uint8, where the closer look sees them, with its logit."""
        if not candidates:
            return []
        close_BHWC = np.stack([close_crop(photo, each) for each in candidates])
        (rows,) = self._session.run(["refined"], {"close": close_BHWC})
        return [_refined(each, row) for each, row in zip(candidates, rows.tolist(), strict=True)]


def close_crop(photo: Image, candidate: Candidate, *, size: int = CLOSE_PX, widen: float = 1.0) -> Image:
    """What the network sees of one, size x size x 3: upright, like a right eye, CLOSE_PER_DISTANCE wide.

    `widen` shows more around it.
    """
    size_px = CROP_PER_EYE_DISTANCE * candidate.distance
    side: Side = "left" if candidate.left > 0.5 else "right"
    eye = Eye(candidate.x, candidate.y, size_px, candidate.roll_deg, side)
    return crop_eye(photo, eye, size, context=widen * CLOSE_PER_DISTANCE / CROP_PER_EYE_DISTANCE)


def _refined(seen: Candidate, row: Sequence[float]) -> Candidate:
    """The candidate after a row of the network's answer, which is in the crop's axes and eye distances."""
    logit, right, down, log_growth, turn, other_side = row
    mirror = -1.0 if seen.left > 0.5 else 1.0
    roll = math.radians(seen.roll_deg)
    cos, sin = math.cos(roll), math.sin(roll)
    dx, dy = mirror * right * seen.distance, down * seen.distance
    moved_x, moved_y = dx * cos - dy * sin, dx * sin + dy * cos
    grow = math.exp(log_growth)
    left = seen.left if other_side <= 0 else 1 - seen.left
    return replace(
        seen, x=seen.x + moved_x, y=seen.y + moved_y, distance=seen.distance * grow, left=left,
        roll_deg=seen.roll_deg + mirror * math.degrees(turn), close_logit=logit, seen_px=seen.seen_px * grow,
        partner=(seen.partner[0] + moved_x, seen.partner[1] + moved_y),
    )  # fmt: skip
