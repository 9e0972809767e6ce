"""The second stage of the eye finder: a small network that rejects and refines detections on aligned crops.

Its ONNX model lies in the finder's file. Source: cascades as of Zhang et al. 2016, "MTCNN", whose later
networks refine what the first one proposed.
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
"""Side of the network's input in pixels, and of the crop in distances between the eyes."""


class Refiner:
    """Corrects detections and gives each a second logit; may be shared by threads."""

    def __init__(self, session: Session) -> None:
        """`session` maps `close`, uint8 N x S x S x 3, S = REFINER_INPUT_PX, to `refined`, float32 N x 6."""
        self._session = session

    def refine(self, photo: Image, detections: Sequence[Detection]) -> list[Detection]:
        """The detections in `photo`, H x W x 3 uint8, with corrected geometry and the refiner's logit."""
        if not detections:
            return []
        crops_BHWC = np.stack([crop_for_refiner(photo, each) for each in detections])
        (rows,) = self._session.run(["refined"], {"close": crops_BHWC})
        return [_corrected(each, row) for each, row in zip(detections, rows.tolist(), strict=True)]


def crop_for_refiner(
    photo: Image, detection: Detection, *, size: int = REFINER_INPUT_PX, widen: float = 1.0
) -> Image:
    """The input of the refiner, size x size x 3: upright, a left eye mirrored; `widen` adds context."""
    side: Side = "left" if detection.left > 0.5 else "right"
    size_px = CROP_PER_EYE_DISTANCE * detection.distance
    eye = Eye(detection.x, detection.y, size_px, detection.roll_deg, side)
    return crop_eye(photo, eye, size, context=widen * REFINER_CROP_PER_EYE_DISTANCE / CROP_PER_EYE_DISTANCE)


def _corrected(seen: Detection, row: Sequence[float]) -> Detection:
    """The detection after a row of the network's output, in the crop's axes and eye distances."""
    logit, right, down, log_scale, turn, other_side = row
    mirror = -1.0 if seen.left > 0.5 else 1.0
    roll = math.radians(seen.roll_deg)
    cos, sin = math.cos(roll), math.sin(roll)
    dx, dy = mirror * right * seen.distance, down * seen.distance
    moved_x, moved_y = dx * cos - dy * sin, dx * sin + dy * cos
    scale = math.exp(log_scale)
    return replace(
        seen,
        x=seen.x + moved_x,
        y=seen.y + moved_y,
        distance=seen.distance * scale,
        left=seen.left if other_side <= 0 else 1 - seen.left,
        roll_deg=seen.roll_deg + mirror * math.degrees(turn),
        refiner_logit=logit,
        input_distance_px=seen.input_distance_px * scale,
        partner=(seen.partner[0] + moved_x, seen.partner[1] + moved_y),
    )
