"""What the eye finder's network sees, place by place: each eye once, and which two are of one person.

Knows the network's rows and geometry, not pictures; pixels are the photo's.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

_SAME_EYE = 0.4
"""Two candidates nearer than this, in distances between the eyes, are one eye."""

_PARTNERS = 0.35
"""How far a partner may be from where an eye says it is, in distances between the eyes."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A peak of the heat map, in pixels; `partner` is where the same person's other eye should be.

    `seen_px` is the distance between the eyes in pixels of the look.
    """

    x: float
    y: float
    distance: float
    left: float
    roll_deg: float
    logit: float
    seen_px: float
    partner: tuple[float, float]


def read_candidate(row: Sequence[float], grow_x: float, grow_y: float) -> Candidate:
    """A row of the network's answer, whose pixels are so much wider and higher than the photo's."""
    logit, x, y, distance, left, cos, sin, partner_x, partner_y = row
    grow = math.sqrt(grow_x * grow_y)
    centre = (x + 0.5) * grow_x - 0.5, (y + 0.5) * grow_y - 0.5
    return Candidate(
        *centre, distance * grow, left, math.degrees(math.atan2(sin, cos)), logit, distance,
        partner=(centre[0] + partner_x * distance * grow_x, centre[1] + partner_y * distance * grow_y),
    )  # fmt: skip


def each_once(found: Sequence[Candidate]) -> list[Candidate]:
    """The surest candidate of every place: the others near it are the same eye seen again."""
    kept: list[Candidate] = []
    for each in sorted(found, key=lambda candidate: -candidate.logit):
        if all(_apart(each, other) > _SAME_EYE * max(each.distance, other.distance) for other in kept):
            kept.append(each)
    return kept


def _apart(a: Candidate, b: Candidate) -> float:
    return math.hypot(a.x - b.x, a.y - b.y)


def pair_up(candidates: Sequence[Candidate]) -> list[tuple[int, int]]:
    """Indices of (right, left) eyes that name each other as partner, best agreement first, each eye once."""
    agreed: list[tuple[float, int, int]] = []
    for i, one in enumerate(candidates):
        for j in range(i + 1, len(candidates)):
            other = candidates[j]
            if not 0.6 < one.distance / other.distance < 1.67:
                continue
            off = math.dist(one.partner, (other.x, other.y)) + math.dist(other.partner, (one.x, one.y))
            if off < _PARTNERS * (one.distance + other.distance):
                right, left = (i, j) if one.left <= other.left else (j, i)
                agreed.append((off / (one.distance + other.distance), right, left))
    taken: set[int] = set()
    pairs = []
    for _, right, left in sorted(agreed):
        if not taken & {right, left}:
            taken |= {right, left}
            pairs.append((right, left))
    return pairs
