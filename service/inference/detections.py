"""What the eye finder's network sees, place by place: each eye once, and which two are of one person.

Knows the network's rows and geometry, not pictures; pixels are the photo's.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

_NMS_DISTANCE = 0.4
"""Two candidates nearer than this, in distances between the eyes, are one eye."""

_SMALL_PX, _MAX_LOGIT_GAP = 24.0, 2.0
"""Below so many pixels between the eyes a finer look is believed on where the eye is, if its logit is not so
much lower: of eyes 11 to 40 px apart, on six photos side by side, 3 % are then missed and not 8 %."""

_PARTNER_TOLERANCE = 0.35
"""How far a partner may be from where an eye says it is, in distances between the eyes."""


@dataclass(frozen=True, slots=True)
class Detection:
    """A peak of the heat map, in pixels; `partner` is where the same person's other eye should be.

    `input_distance_px` is the eye distance in pixels of the network's input; `refiner_logit` is 0
    where there is no refiner.
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
        """What both networks say."""
        return self.logit + self.refiner_logit


def decode_detection(row: Sequence[float], grow_x: float, grow_y: float) -> Detection:
    """A row of the network's answer, whose pixels are so much wider and higher than the photo's."""
    logit, x, y, distance, left, cos, sin, partner_x, partner_y = row
    grow = math.sqrt(grow_x * grow_y)
    centre = (x + 0.5) * grow_x - 0.5, (y + 0.5) * grow_y - 0.5
    return Detection(
        *centre, distance * grow, left, math.degrees(math.atan2(sin, cos)), logit, distance,
        partner=(centre[0] + partner_x * distance * grow_x, centre[1] + partner_y * distance * grow_y),
    )  # fmt: skip


def suppress_non_maxima(found: Sequence[Detection]) -> list[Detection]:
    """The surest candidate of every place: the others near it are the same eye seen again.

    Of a small eye a finer look knows better where it is, if it saw the eye about as surely.
    """
    places: list[list[Detection]] = []
    for each in sorted(found, key=lambda candidate: -candidate.total_logit):
        for place in places:
            if _apart(each, place[0]) <= _NMS_DISTANCE * max(each.distance, place[0].distance):
                place.append(each)
                break
        else:
            places.append([each])
    return [_as_seen_best(place) for place in places]


def _as_seen_best(place: Sequence[Detection]) -> Detection:
    """One eye out of what several looks saw of it, the surest first."""
    surest = place[0]
    if surest.input_distance_px >= _SMALL_PX:
        return surest
    finest = max(
        (each for each in place if each.logit > surest.logit - _MAX_LOGIT_GAP),
        key=lambda c: c.input_distance_px,
    )
    return replace(finest, logit=surest.logit)


def _apart(a: Detection, b: Detection) -> float:
    return math.hypot(a.x - b.x, a.y - b.y)


def pair_eyes(candidates: Sequence[Detection]) -> list[tuple[int, int]]:
    """Indices of (right, left) eyes that name each other as partner, best agreement first, each eye once."""
    agreed: list[tuple[float, int, int]] = []
    for i, one in enumerate(candidates):
        for j in range(i + 1, len(candidates)):
            other = candidates[j]
            if not 0.6 < one.distance / other.distance < 1.67:
                continue
            off = math.dist(one.partner, (other.x, other.y)) + math.dist(other.partner, (one.x, one.y))
            if off < _PARTNER_TOLERANCE * (one.distance + other.distance):
                right, left = (i, j) if one.left <= other.left else (j, i)
                agreed.append((off / (one.distance + other.distance), right, left))
    taken: set[int] = set()
    pairs = []
    for _, right, left in sorted(agreed):
        if not taken & {right, left}:
            taken |= {right, left}
            pairs.append((right, left))
    return pairs
