"""The eye detector: peaks of a network's heat map at one scale of a photo, refined by a second network.

photo -> network -> detections -> non-maximum suppression -> refiner -> non-maximum suppression
Unless they say otherwise, lengths are in pixels of the photo. Source: cascades as of Zhang et al. 2016,
"MTCNN", whose later networks refine what the first one proposed.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from service.inference.session import Session
from service.vision.eyes import CROP_PER_EYE_DISTANCE, Eye, Side, crop_eye
from service.vision.images import Image

STRIDE_PX = 32
"""The sides of the network's input are multiples of this."""

MAX_UPSCALE = 3.0

_REFINED_SIDE_PX = 640
"""A photo is not halved below this long side before the refiner cuts from it."""

_MIN_LOGIT = -1.5
"""Peaks of a lower logit, a probability of 0.18, are dropped before the refiner."""

_NMS_DISTANCE = 0.4
"""Detections nearer than this, in distances between the eyes, are of one eye."""

_SMALL_PX, _MAX_LOGIT_GAP = 24.0, 2.0
"""An eye less than _SMALL_PX from its partner is placed by the finest scale whose logit is at most this gap
below the best one: of eyes 11 to 40 px apart, on six photos side by side, 3 % are then missed and not 8 %."""

REFINER_INPUT_PX, REFINER_CROP_PER_EYE_DISTANCE = 48, 1.6
"""Side of the network's input in pixels, and of the crop in distances between the eyes."""


@dataclass(frozen=True, slots=True)
class Detection:
    """A peak of the network's heat map; `distance` is that between the eyes, `left` a probability.

    `partner` is the predicted place of the same person's other eye. `input_distance_px` is the distance in
    pixels of the network's input. `refiner_logit` is 0 where there is no refiner.
    """

    x: float
    y: float
    distance: float
    left: float
    roll_deg: float
    logit: float
    input_distance_px: float
    partner: tuple[float, float]
    refiner_logit: float = 0.0

    @property
    def total_logit(self) -> float:
        """The sum of both networks' logits."""
        return self.logit + self.refiner_logit


class EyeDetector:
    """Detects eyes at one scale of a photo; may be shared by threads."""

    def __init__(self, session: Session, refiner: "Refiner | None" = None) -> None:
        self._session = session
        self._refiner = refiner

    def __call__(self, photo: Image, long_side_px: int) -> list[Detection]:
        """The detections at the scale of this long side, refined, in pixels of the photo.

        A large photo is halved first: the refiner needs no more pixels, and cuts from fewer of them faster.
        """
        if max(photo.shape[:2]) >= 2 * max(long_side_px, _REFINED_SIDE_PX):
            return [_doubled(each) for each in self(_halve(photo), long_side_px)]
        small, scale_x, scale_y = _resize(photo, min(MAX_UPSCALE, long_side_px / max(photo.shape[:2])))
        right, below = -small.shape[1] % STRIDE_PX, -small.shape[0] % STRIDE_PX
        padded = cv2.copyMakeBorder(small, 0, below, 0, right, cv2.BORDER_REPLICATE)
        (rows,) = self._session.run(["candidates"], {"picture": padded[None]})
        peaks = (decode_detection(row, scale_x, scale_y) for row in rows[rows[:, 0] >= _MIN_LOGIT].tolist())
        detections = suppress_non_maxima([each for each in peaks if is_inside((each.x, each.y), photo)])
        if self._refiner is None:
            return detections
        return suppress_non_maxima(self._refiner.refine(photo, detections))


class Refiner:
    """Corrects detections and gives each a second logit; may be shared by threads."""

    def __init__(self, session: Session) -> None:
        """`session` maps `close`, uint8 N x S x S x 3, S = REFINER_INPUT_PX, to `refined`, float32 N x 6."""
        self._session = session

    def refine(self, photo: Image, detections: Sequence[Detection]) -> list[Detection]:
        """The detections in `photo`, H x W x 3 uint8, with corrected geometry and the refiner's logit."""
        if not detections:
            return []
        crops_BHWC = np.stack(crops_for_refiner(photo, detections))
        (rows,) = self._session.run(["refined"], {"close": crops_BHWC})
        return [_corrected(each, row) for each, row in zip(detections, rows.tolist(), strict=True)]


def decode_detection(row: Sequence[float], scale_x: float, scale_y: float) -> Detection:
    """A row of the network's output; a pixel of its input is scale_x x scale_y pixels of the photo."""
    logit, x, y, distance, left, cos, sin, partner_x, partner_y = row
    center = (x + 0.5) * scale_x - 0.5, (y + 0.5) * scale_y - 0.5
    return Detection(
        *center, distance * math.sqrt(scale_x * scale_y), left, math.degrees(math.atan2(sin, cos)), logit,
        input_distance_px=distance,
        partner=(center[0] + partner_x * distance * scale_x, center[1] + partner_y * distance * scale_y),
    )  # fmt: skip


def suppress_non_maxima(detections: Sequence[Detection]) -> list[Detection]:
    """One detection for each eye, the one of the highest logit; small eyes keep the finest scale's place."""
    clusters: list[list[Detection]] = []
    for each in sorted(detections, key=lambda detection: -detection.total_logit):
        for cluster in clusters:
            if _apart(each, cluster[0]) <= _NMS_DISTANCE * max(each.distance, cluster[0].distance):
                cluster.append(each)
                break
        else:
            clusters.append([each])
    return [_best_of(cluster) for cluster in clusters]


def _best_of(cluster: Sequence[Detection]) -> Detection:
    """One detection out of those of the same eye, which are sorted by logit."""
    best = cluster[0]
    if best.input_distance_px >= _SMALL_PX:
        return best
    close = (each for each in cluster if each.logit > best.logit - _MAX_LOGIT_GAP)
    return replace(max(close, key=lambda each: each.input_distance_px), logit=best.logit)


def _apart(a: Detection, b: Detection) -> float:
    return math.hypot(a.x - b.x, a.y - b.y)


def crops_for_refiner(
    photo: Image, detections: Sequence[Detection], *, size: int = REFINER_INPUT_PX, widen: float = 1.0
) -> list[Image]:
    """The inputs of the refiner, size x size x 3: upright, a left eye mirrored; `widen` adds context."""
    context = widen * REFINER_CROP_PER_EYE_DISTANCE / CROP_PER_EYE_DISTANCE
    eyes = [as_eye(each) for each in detections]
    return [crop_eye(photo, eye, size, context=context) for eye in eyes]


def as_eye(detection: Detection, person: int = 0) -> Eye:
    """The eye alone, of the side and the size that the network predicts."""
    side: Side = "left" if detection.left > 0.5 else "right"
    size_px = CROP_PER_EYE_DISTANCE * detection.distance
    return Eye(detection.x, detection.y, size_px, detection.roll_deg, side, person=person)


def _corrected(seen: Detection, row: Sequence[float]) -> Detection:
    """The detection after a row of the network's output, in the crop's axes and eye distances."""
    logit, right, down, log_scale, turn, other_side = row
    mirror = -1.0 if seen.left > 0.5 else 1.0
    roll = math.radians(seen.roll_deg)
    cos, sin = math.cos(roll), math.sin(roll)
    dx, dy = mirror * right * seen.distance, down * seen.distance
    moved_x, moved_y = dx * cos - dy * sin, dx * sin + dy * cos
    scale = math.exp(log_scale)
    return Detection(
        x=seen.x + moved_x,
        y=seen.y + moved_y,
        distance=seen.distance * scale,
        left=seen.left if other_side <= 0 else 1 - seen.left,
        roll_deg=seen.roll_deg + mirror * math.degrees(turn),
        logit=seen.logit,
        refiner_logit=logit,
        input_distance_px=seen.input_distance_px * scale,
        partner=(seen.partner[0] + moved_x, seen.partner[1] + moved_y),
    )


def is_inside(point: tuple[float, float], photo: Image) -> bool:
    """Whether the point lies in the photo."""
    height, width = photo.shape[:2]
    return bool(0 <= point[0] < width and 0 <= point[1] < height)


def _resize(photo: Image, scale: float) -> tuple[Image, float, float]:
    """The photo at about this scale, and the width and height of its pixels in those of the photo.

    By halves and the rest linearly: a third of the time of one step by area.
    """
    height, width = photo.shape[:2]
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small, halved = photo, 1
    while min(small.shape[:2]) > 1 and small.shape[1] >= 2 * size[0] and small.shape[0] >= 2 * size[1]:
        small, halved = _halve(small), 2 * halved
    scale_x, scale_y = halved * small.shape[1] / size[0], halved * small.shape[0] / size[1]
    return np.asarray(cv2.resize(small, size, interpolation=cv2.INTER_LINEAR), np.uint8), scale_x, scale_y


def _halve(photo: Image) -> Image:
    """The photo at half its sides; an odd last row or column is cut off."""
    half = max(1, photo.shape[1] // 2), max(1, photo.shape[0] // 2)
    even = photo[: 2 * half[1], : 2 * half[0]]
    return np.asarray(cv2.resize(even, half, interpolation=cv2.INTER_AREA), np.uint8)


def _doubled(each: Detection) -> Detection:
    """A detection in a halved photo, in pixels of the photo."""
    x, y, partner_x, partner_y = (2 * length + 0.5 for length in (each.x, each.y, *each.partner))
    return replace(each, x=x, y=y, distance=2 * each.distance, partner=(partner_x, partner_y))
