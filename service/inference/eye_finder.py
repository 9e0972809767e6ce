"""The learned eye finder: a heat-map detector over several scales, which needs an eye and not a whole face.

photo -> network at 256 px, and at 640 or 1152 px and at 128 px where that may show more -> detections
-> refiner -> non-maximum suppression -> pairs of eyes -> calibrated scores -> EyeDetections
"""

import base64
import binascii
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from operator import mul
from pathlib import Path
from typing import Annotated, Literal, Self

import msgspec

from service.errors import ModelContractUnknown
from service.inference.detector import (
    MAX_UPSCALE,
    Detection,
    EyeDetector,
    Refiner,
    as_eye,
    is_inside,
    suppress_non_maxima,
)
from service.inference.haar import HaarEyeFinder
from service.inference.model_files import model_path, read_model
from service.inference.onnx_metadata import (
    LicenceClass,
    MetricValues,
    Share,
    Text,
    expect,
    parse_metadata,
    read_metadata,
)
from service.inference.session import Session, open_cpu_session
from service.vision.eyes import Eye, EyeDetections, EyeFinder, eyes_from_points
from service.vision.images import Image

FINDER_CONTRACT_VERSION = 3
"""Names, types and meaning of the network's input, output and metadata: see `training/finder/export.py`."""

BASE_SIDE_PX, FINE_SIDE_PX, FINEST_SIDE_PX, COARSE_SIDE_PX = 256, 640, 1152, 128
"""Long sides of the network's input. The fine one is for small faces, in larger photos the finest one; the
coarse one is for close-ups, as the network was trained on distances between the eyes up to 260 px."""

MIN_REPORTED_SCORE = 0.05
"""Eyes of lower scores are not reported: the network has some fifty such peaks in any picture."""

_SMALL_PX, _TINY_PX, _LARGE_PX = 15.0, 5.0, 80.0
"""Crop sides in pixels of the base scale, by which `_needs_fine_scale` and `score_eyes` add scales."""

_MIN_SMALL_SCORE = 0.01
"""A small eye of this score at the base scale asks for a finer one. Most crowds behind one near person have
such an eye, and few photos of one person."""

_MAX_SCALE = 0.8
"""A photo is searched at a finer scale if it has more pixels than that over this."""

NUM_CALIBRATION_FEATURES = 8

_PARTNER_TOLERANCE = 0.35
"""How far a partner may be from its predicted place, in distances between the eyes."""

_MIN_SCALE_RATIO, _MAX_SCALE_RATIO = 0.6, 1.67
"""Two eyes of one person predict about the same distance between them."""


@dataclass(frozen=True, slots=True)
class FinderInfo:
    """Metadata of the finder's file.

    An eye counts from the score `threshold` on; `score_weights` are those of a logistic regression on
    `ScoredEye.features`.
    """

    name: Text
    version: Text
    training_data: Text
    licence_class: LicenceClass
    commit: Text
    date: Text
    threshold: Share
    score_weights: Annotated[
        tuple[float, ...],
        msgspec.Meta(min_length=NUM_CALIBRATION_FEATURES, max_length=NUM_CALIBRATION_FEATURES),
    ]
    metrics: MetricValues


@dataclass(frozen=True, slots=True)
class ScoredEye:
    """An eye with its calibrated score, and the features that the score was computed from.

    `features`: its logit and the refiner's; its partner's two, or 0; whether it has a partner; whether it has
    none though the place for one is in the picture; the logarithm of the distance between the eyes in pixels
    of the network's input over 32; and 1.
    """

    eye: Eye
    features: tuple[float, ...]


class LearnedEyeFinder:
    """Finds eyes with the networks of one ONNX file; may be shared by threads.

    A score is calibrated: the share of eyes of that score that are right, on photos held out of training.
    """

    input_side_px = FINEST_SIDE_PX

    def __init__(self, session: Session, info: FinderInfo, refiner: Refiner | None = None) -> None:
        self.info = info
        self._detect = EyeDetector(session, refiner)

    @classmethod
    def load(cls, path: Path) -> Self:
        """The finder in `path`, on the CPU with one thread a call.

        Raises:
            RuntimeMissing: ONNX Runtime is not installed.
            ModelNotFound: there is no such file.
            ModelContractUnknown: it is not an eye finder of the contract that this service knows.
        """
        content = read_model(path)
        session = open_cpu_session(content, num_threads=1, name=path)
        metadata = read_metadata(content, path)
        return cls(session, _read_info(metadata, path), _read_refiner(metadata, path))

    def detect(self, photo: Image) -> EyeDetections:
        """Eyes in pixels of `photo` (H x W x 3 uint8 RGB), people largest first."""
        every = [scored.eye for scored in self.score_eyes(photo)]
        eyes = [eye for eye in every if eye.score >= self.info.threshold]
        below_threshold = [eye for eye in every if MIN_REPORTED_SCORE <= eye.score < self.info.threshold]
        return EyeDetections(_by_person(eyes), below_threshold)

    def score_eyes(self, photo: Image) -> list[ScoredEye]:
        """Every detection, whatever its score; people are numbered in no order."""
        base = self._detect(photo, BASE_SIDE_PX)
        scored = self._score(base, photo)
        scale = min(MAX_UPSCALE, BASE_SIDE_PX / max(photo.shape[:2]))
        every = [replace(each.eye, size_px=each.eye.size_px * scale) for each in scored]
        eyes = [eye for eye in every if eye.score >= self.info.threshold]
        more = []
        if scale < _MAX_SCALE and (not eyes or _needs_fine_scale(eyes, every)):
            is_larger = _MAX_SCALE * max(photo.shape[:2]) > FINE_SIDE_PX
            more += self._detect(photo, FINEST_SIDE_PX if is_larger else FINE_SIDE_PX)
        if not eyes or max(eye.size_px for eye in eyes) > _LARGE_PX:
            more += self._detect(photo, COARSE_SIDE_PX)
        return self._score(suppress_non_maxima(base + more), photo) if more else scored

    def _score(self, detections: Sequence[Detection], photo: Image) -> list[ScoredEye]:
        """The detections as eyes of people, with calibrated scores."""
        pairs = _pair_eyes(detections)
        paired = {index for pair in pairs for index in pair}
        scored: list[ScoredEye] = []
        for person, (first, second) in enumerate(pairs):
            right, left = detections[first], detections[second]
            eyes = eyes_from_points((right.x, right.y), (left.x, left.y), person=person)
            scored += [self._calibrate(eyes[0], right, left, 0.0), self._calibrate(eyes[1], left, right, 0.0)]
        single = [each for index, each in enumerate(detections) if index not in paired]
        for person, each in enumerate(single, start=len(pairs)):
            missed = float(is_inside(each.partner, photo))
            scored.append(self._calibrate(as_eye(each, person), each, None, missed))
        return scored

    def _calibrate(self, eye: Eye, seen: Detection, partner: Detection | None, missed: float) -> ScoredEye:
        """The eye with the score of the logistic regression."""
        partner_logits = (partner.logit, partner.refiner_logit, 1.0) if partner else (0.0, 0.0, 0.0)
        size = math.log(seen.input_distance_px / 32)
        features = (seen.logit, seen.refiner_logit, *partner_logits, missed, size, 1.0)
        logit = sum(map(mul, self.info.score_weights, features))
        score = 1 / (1 + math.exp(-min(50.0, max(-50.0, logit))))
        return ScoredEye(replace(eye, score=score), features)


def open_eye_finder(name: Literal["learned", "haar"]) -> EyeFinder:
    """The finder of that name, as it is shipped.

    Raises:
        RuntimeMissing: ONNX Runtime is not installed.
        ModelNotFound: there is no such file, or none is shipped.
        ModelContractUnknown: it is not an eye finder of the contract that this service knows.
    """
    if name == "haar":
        return HaarEyeFinder()
    return LearnedEyeFinder.load(model_path("eye_finder"))


def _pair_eyes(detections: Sequence[Detection]) -> list[tuple[int, int]]:
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


def _needs_fine_scale(eyes: Sequence[Eye], every: Sequence[Eye]) -> bool:
    """Whether the fine scale may show more people: by one tiny eye, several people whose eyes are small, or a
    small eye below the threshold."""
    several = len({eye.person for eye in eyes}) > 1
    return any(eye.size_px < (_SMALL_PX if several else _TINY_PX) for eye in eyes) or any(
        eye.size_px < _SMALL_PX for eye in every if eye.score >= _MIN_SMALL_SCORE and eye not in eyes
    )


def _by_person(eyes: list[Eye]) -> list[Eye]:
    """The eyes with their people numbered from the largest, each person's right eye first."""
    sizes: dict[int, float] = {}
    for eye in eyes:
        sizes[eye.person] = max(eye.size_px, sizes.get(eye.person, 0.0))
    numbers = {person: n for n, person in enumerate(sorted(sizes, key=lambda person: -sizes[person]))}
    numbered = [replace(eye, person=numbers[eye.person]) for eye in eyes]
    return sorted(numbered, key=lambda eye: (eye.person, eye.side == "left"))


def read_finder_info(path: Path) -> FinderInfo:
    """The metadata of the eye finder in `path`, which is not loaded.

    Raises:
        ModelNotFound, ModelContractUnknown: it cannot be used here.
    """
    return _read_info(read_metadata(read_model(path), path), path)


def _read_info(metadata: Mapping[str, str], path: Path) -> FinderInfo:
    found = f"{metadata.get('part')} {metadata.get('contract_version')}"
    expect(path, "part and contract version", found, f"eye_finder {FINDER_CONTRACT_VERSION}")
    return parse_metadata(metadata, path, FinderInfo)


def _read_refiner(metadata: Mapping[str, str], path: Path) -> Refiner | None:
    """The refiner from the file's metadata: in one file the two networks cannot be mismatched."""
    embedded = metadata.get("refiner")
    if not embedded:
        return None
    try:
        return Refiner(open_cpu_session(base64.b64decode(embedded, validate=True), num_threads=1))
    except (binascii.Error, ModelContractUnknown) as error:
        raise ModelContractUnknown(
            f"{path} holds a refiner that cannot be loaded ({error}): export it again."
        ) from error
