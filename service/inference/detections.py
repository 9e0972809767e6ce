"""Eye detections: decoding the network's output, non-maximum suppression, and pairing of two eyes.

Knows rows and geometry, not pictures. Unless they say otherwise, lengths are in pixels of the photo.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

_NMS_DISTANCE = 0.4
"""Detections nearer than this, in distances between the eyes, are of one eye."""

_SMALL_PX, _MAX_LOGIT_GAP = 24.0, 2.0
"""An eye less than _SMALL_PX from its partner is placed by the finest scale whose logit is at most this gap
below the best one: of eyes 11 to 40 px apart, on six photos side by side, 3 % are then missed and not 8 %."""

_PARTNER_TOLERANCE = 0.35
"""How far a partner may be from its predicted place, in distances between the eyes."""

_MIN_SCALE_RATIO, _MAX_SCALE_RATIO = 0.6, 1.67
"""Two eyes of one person predict about the same distance between them."""


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


def pair_eyes(detections: Sequence[Detection]) -> list[tuple[int, int]]:
    """Indices of (right, left) eyes that predict each other as partner, matched greedily, best first."""
    matches: list[tuple[float, int, int]] = []
    for i, one in enumerate(detections):
        for j, other in enumerate(detections[i + 1 :], start=i + 1):
            if not _MIN_SCALE_RATIO < one.distance / other.distance < _MAX_SCALE_RATIO:
                continue
            off = math.dist(one.partner, (other.x, other.y)) + math.dist(other.partner, (one.x, one.y))
            if off < _PARTNER_TOLERANCE * (one.distance + other.distance):
                right, left = (i, j) if one.left <= other.left else (j, i)
                matches.append((off / (one.distance + other.distance), right, left))
    taken: set[int] = set()
    pairs = []
    for _, right, left in sorted(matches):
        if not taken & {right, left}:
            taken |= {right, left}
            pairs.append((right, left))
    return pairs
