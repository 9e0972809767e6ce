"""A closer look at each place where an eye may be: whether it is one, and where exactly.

Cuts every candidate out upright, all of one size however large the eye, and asks a second small network,
which lies in the file of the finder. Knows pixels and candidates, not people. Source: cascades as of Zhang
et al. 2016, "MTCNN", whose later networks look closer at what the first one proposed.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from service.inference.detections import Detection
from service.inference.session import Session
from service.vision.eyes import CROP_PER_EYE_DISTANCE, Eye, Side, crop_eye
from service.vision.images import Image

REFINER_INPUT_PX, REFINER_CROP_PER_EYE_DISTANCE = 48, 1.6
"""Side of what the network sees, in pixels and in distances between the eyes."""


class Refiner:
    """Looks closer at candidates; may be shared by threads."""

    def __init__(self, session: Session) -> None:
        """`session` maps `close`, uint8 N x S x S x 3, S = REFINER_INPUT_PX, to `refined`, float32 N x 6."""
        self._session = session

    def refine(self, photo: Image, candidates: Sequence[Detection]) -> list[Detection]:
        """The candidates of `photo`, H x W x 3 uint8, where the closer look sees them, with its logit."""
        if not candidates:
            return []
        close_BHWC = np.stack([crop_for_refiner(photo, each) for each in candidates])
        (rows,) = self._session.run(["refined"], {"close": close_BHWC})
        return [_refined(each, row) for each, row in zip(candidates, rows.tolist(), strict=True)]


def crop_for_refiner(
    photo: Image, candidate: Detection, *, size: int = REFINER_INPUT_PX, widen: float = 1.0
) -> Image:
    """The input of the refiner, size x size x 3: upright, a left eye mirrored.

    `widen` shows more around it.
    """
    size_px = CROP_PER_EYE_DISTANCE * candidate.distance
    side: Side = "left" if candidate.left > 0.5 else "right"
    eye = Eye(candidate.x, candidate.y, size_px, candidate.roll_deg, side)
    return crop_eye(photo, eye, size, context=widen * REFINER_CROP_PER_EYE_DISTANCE / CROP_PER_EYE_DISTANCE)


def _refined(seen: Detection, row: Sequence[float]) -> Detection:
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
        roll_deg=seen.roll_deg + mirror * math.degrees(turn), refiner_logit=logit,
        input_distance_px=seen.input_distance_px * grow,
        partner=(seen.partner[0] + moved_x, seen.partner[1] + moved_y),
    )  # fmt: skip
