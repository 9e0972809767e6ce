"""Finds eyes with our own small network: no face is needed, so a mask, a helmet or a tilt may hide the rest.

photo -> looks (shrunk to 320 px; to 640 px and 128 px where it is needed) -> candidates (the network)
-> each eye once -> people (eyes that name each other as partner) -> calibrated scores -> list[Eye].
Knows pixels, not files or HTTP.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from service.errors import ModelContractUnknown
from service.eyes import (
    CROP_PER_EYE_DISTANCE,
    Eye,
    HaarEyeFinder,
    ServedFinder,
    Side,
    Sight,
    eyes_from_points,
)
from service.images import Image
from service.synthesizer import model_path, open_on_cpu

FINDER_CONTRACT_VERSION = 2
"""Names, types and meaning of the network's input, output and metadata: see `training/finder_export.py`."""

FIRST_LOOK_PX, FINE_LOOK_PX, COARSE_LOOK_PX = 320, 640, 128
"""Long sides at which the photo is looked at: finer where somebody small may be, coarser where nobody is seen
yet, for the network was trained on distances between the eyes up to 260 px, and a close-up holds more."""

SIDE_MULTIPLE = 32
LARGEST_ENLARGING = 2.0

_HARDLY = -4.6
"""Candidates of a lower logit, a chance of one in a hundred, are not looked into."""

WORTH_TELLING = 0.05
"""What scores lower is no doubtful eye: the network has some fifty such places in any picture."""

_SAME_EYE = 0.4
"""Two candidates nearer than this, in distances between the eyes, are one eye."""

_PARTNERS = 0.35
"""How far a partner may be from where an eye says it is, in distances between the eyes."""

_SMALL_PX = 15.0
"""With an eye of fewer pixels in the first look there may be more people, smaller still."""

_LARGE_PX = 80.0
"""An eye of more pixels in the first look is told better by a coarser one."""


@dataclass(frozen=True, slots=True)
class FinderInfo:
    """What the file says of itself: who may use it, and how scores are calibrated.

    `score_weights` are those of a logistic regression on what `Sighting.signs` holds; an eye counts from
    `threshold` on.
    """

    name: str
    version: str
    training_data: str
    licence_class: str
    commit: str
    date: str
    threshold: float
    score_weights: tuple[float, ...]
    metrics: dict[str, float]


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


NUM_SIGNS = 5


@dataclass(frozen=True, slots=True)
class Sighting:
    """A candidate as an eye, and what speaks for it: its logit, its partner's logit or 0, whether it has a
    partner, the logarithm of the distance between the eyes in pixels of the look over 32, and 1."""

    eye: Eye
    signs: tuple[float, float, float, float, float]


class LearnedEyeFinder:
    """Finds eyes with the network of `models/eye_finder.onnx`; may be shared by threads.

    An eye's score is the part of eyes so scored that were right on pictures kept out of training.
    """

    look_side_px = FINE_LOOK_PX

    def __init__(self, session: Any, info: FinderInfo) -> None:
        self.info = info
        self._session = session

    @classmethod
    def load(cls, path: Path) -> Self:
        """The network in `path`, one thread a call.

        Raises:
            RuntimeMissing: ONNX Runtime is not installed.
            ModelNotFound: there is no such file.
            ModelContractUnknown: it is not an eye finder of the contract that this service knows.
        """
        session = open_on_cpu(path, num_threads=1)
        return cls(session, _read_info(session, path))

    def find(self, photo: Image) -> list[Eye]:
        """Eyes in pixels of `photo` (H x W x 3 uint8 RGB), people largest first; empty if none."""
        return self.look(photo).eyes

    def look(self, photo: Image) -> Sight:
        """The same eyes, and the candidates below the threshold that are worth a word."""
        every = self.find_all(photo)
        sure = [eye for eye in every if eye.score >= self.info.threshold]
        doubtful = [eye for eye in every if WORTH_TELLING <= eye.score < self.info.threshold]
        return Sight(_people_in_order(sure), doubtful)

    def find_all(self, photo: Image) -> list[Eye]:
        """Every candidate as an eye, those below the threshold too; people are numbered in no order."""
        return [sighting.eye for sighting in self.sightings(photo)]

    def sightings(self, photo: Image) -> list[Sighting]:
        """What `find_all` answers, with the signs of each."""
        found = self._look(photo, FIRST_LOOK_PX)
        eyes = [sighting.eye for sighting in self._as_eyes(_each_once(found))]
        shrunk = min(LARGEST_ENLARGING, FIRST_LOOK_PX / max(photo.shape[:2]))
        sizes = [eye.size_px * shrunk for eye in eyes if eye.score >= self.info.threshold]
        if shrunk < 0.8 and (not sizes or min(sizes) < _SMALL_PX):
            found += self._look(photo, FINE_LOOK_PX)
        if not sizes or max(sizes) > _LARGE_PX:
            found += self._look(photo, COARSE_LOOK_PX)
        return self._as_eyes(_each_once(found))

    def _look(self, photo: Image, long_side_px: int) -> list[Candidate]:
        """What the network sees at one scale, in pixels of the photo."""
        height, width = photo.shape[:2]
        scale = min(LARGEST_ENLARGING, long_side_px / max(height, width))
        size = max(1, round(width * scale)), max(1, round(height * scale))
        small = cv2.resize(photo, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        right, below = -size[0] % SIDE_MULTIPLE, -size[1] % SIDE_MULTIPLE
        padded = cv2.copyMakeBorder(small, 0, below, 0, right, cv2.BORDER_REPLICATE)
        (rows,) = self._session.run(["candidates"], {"picture": padded[None]})
        candidates = (_candidate(row, width / size[0], height / size[1]) for row in rows if row[0] >= _HARDLY)
        return [each for each in candidates if 0 <= each.x < width and 0 <= each.y < height]

    def _as_eyes(self, candidates: Sequence[Candidate]) -> list[Sighting]:
        pairs = _pairs(candidates)
        paired = {index for pair in pairs for index in pair}
        found: list[Sighting] = []
        for person, (first, second) in enumerate(pairs):
            right, left = candidates[first], candidates[second]
            eyes = eyes_from_points((right.x, right.y), (left.x, left.y), person=person)
            found += [self._scored(eyes[0], right, left), self._scored(eyes[1], left, right)]
        lonely = [each for index, each in enumerate(candidates) if index not in paired]
        for person, each in enumerate(lonely, start=len(pairs)):
            found.append(self._scored(_lonely_eye(each, person), each, None))
        return found

    def _scored(self, eye: Eye, seen: Candidate, partner: Candidate | None) -> Sighting:
        other, paired = (partner.logit, 1.0) if partner else (0.0, 0.0)
        signs = (seen.logit, other, paired, math.log(seen.seen_px / 32), 1.0)
        logit = sum(weight * sign for weight, sign in zip(self.info.score_weights, signs, strict=True))
        score = 1 / (1 + math.exp(-min(50.0, max(-50.0, logit))))
        return Sighting(replace(eye, score=score), signs)


def _candidate(row: NDArray[np.float32], grow_x: float, grow_y: float) -> Candidate:
    logit, x, y, distance, left, cos, sin, partner_x, partner_y = (float(value) for value in row)
    grow = math.sqrt(grow_x * grow_y)
    centre = (x + 0.5) * grow_x - 0.5, (y + 0.5) * grow_y - 0.5
    return Candidate(
        *centre, distance * grow, left, math.degrees(math.atan2(sin, cos)), logit, distance,
        partner=(centre[0] + partner_x * distance * grow_x, centre[1] + partner_y * distance * grow_y),
    )  # fmt: skip


def _each_once(found: Sequence[Candidate]) -> list[Candidate]:
    """The surest candidate of every place: the others near it are the same eye seen again."""
    kept: list[Candidate] = []
    for each in sorted(found, key=lambda candidate: -candidate.logit):
        if all(_apart(each, other) > _SAME_EYE * max(each.distance, other.distance) for other in kept):
            kept.append(each)
    return kept


def _apart(a: Candidate, b: Candidate) -> float:
    return math.hypot(a.x - b.x, a.y - b.y)


def _pairs(candidates: Sequence[Candidate]) -> list[tuple[int, int]]:
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


def _lonely_eye(candidate: Candidate, person: int) -> Eye:
    side: Side = "left" if candidate.left > 0.5 else "right"
    size_px = CROP_PER_EYE_DISTANCE * candidate.distance
    return Eye(candidate.x, candidate.y, size_px, candidate.roll_deg, side, person=person)


def _people_in_order(eyes: list[Eye]) -> list[Eye]:
    """The eyes with their people counted anew, the largest first, and each person's right eye first."""
    sizes: dict[int, float] = {}
    for eye in eyes:
        sizes[eye.person] = max(eye.size_px, sizes.get(eye.person, 0.0))
    numbers = {person: n for n, person in enumerate(sorted(sizes, key=lambda person: -sizes[person]))}
    counted = [replace(eye, person=numbers[eye.person]) for eye in eyes]
    return sorted(counted, key=lambda eye: (eye.person, eye.side == "left"))


def _read_info(session: Any, path: Path) -> FinderInfo:
    stored = session.get_modelmeta().custom_metadata_map
    metadata = {key.removeprefix("eye2face."): value for key, value in stored.items()}
    found = f"{metadata.get('part', 'no part')} {metadata.get('contract_version', 'none')}"
    if found != f"eye_finder {FINDER_CONTRACT_VERSION}":
        raise ModelContractUnknown(
            f"{path} holds {found}; this service expects eye_finder {FINDER_CONTRACT_VERSION}. Export the "
            "finder again with the same version of the project, or install the service that fits it."
        )
    try:
        weights = tuple(float(each) for each in json.loads(metadata["score_weights"]))
        if len(weights) != NUM_SIGNS:
            raise ValueError(f"{len(weights)} score weights, expected {NUM_SIGNS}")
        return FinderInfo(
            name=metadata["name"],
            version=metadata["version"],
            training_data=metadata["training_data"],
            licence_class=metadata["licence_class"],
            commit=metadata["commit"],
            date=metadata["date"],
            threshold=float(metadata["threshold"]),
            score_weights=weights,
            metrics={str(name): float(value) for name, value in json.loads(metadata["metrics"]).items()},
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelContractUnknown(
            f"{path} has metadata of an eye finder that cannot be read ({error!r}): export it again."
        ) from error


def open_eye_finder(name: Literal["learned", "haar"], path: Path | None = None) -> ServedFinder:
    """The finder of that name; the learned one from `path`, or else as it is shipped.

    Raises:
        RuntimeMissing: ONNX Runtime is not installed.
        ModelNotFound: there is no such file, or none is shipped.
        ModelContractUnknown: it is not an eye finder of the contract that this service knows.
    """
    if name == "haar":
        return HaarEyeFinder()
    return LearnedEyeFinder.load(path or model_path("eye_finder"))
