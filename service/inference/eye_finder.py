"""Finds eyes with our own small network: no face is needed, so a mask, a helmet or a tilt may hide the rest.

photo -> looks (shrunk to 256 px; to 640 px and 128 px where it is needed) -> candidates (the network)
-> a closer look at each (a second network) -> each eye once -> people (eyes that name each other as partner)
-> calibrated scores -> list[Eye].
Knows pixels, not files or HTTP.
"""

import base64
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Self

import cv2
import numpy as np

from service.errors import ModelContractUnknown
from service.inference.detections import Detection, decode_detection, pair_eyes, suppress_non_maxima
from service.inference.model_files import model_path
from service.inference.refiner import Refiner
from service.inference.session import Session, open_cpu_session
from service.vision.eyes import CROP_PER_EYE_DISTANCE, Eye, EyeDetections, EyeFinder, Side, eyes_from_points
from service.vision.haar import HaarEyeFinder
from service.vision.images import Image

FINDER_CONTRACT_VERSION = 3
"""Names, types and meaning of the network's input, output and metadata: see `training/finder/export.py`."""

BASE_SIDE_PX, FINE_SIDE_PX, COARSE_SIDE_PX = 256, 640, 128
"""Long sides at which the photo is looked at: finer where somebody small may be, coarser where nobody is seen
yet, for the network was trained on distances between the eyes up to 260 px, and a close-up holds more."""

SIDE_MULTIPLE = 32
MAX_UPSCALE = 3.0

_MIN_LOGIT = -1.5
"""Candidates of a lower logit, a chance of one in six, are not looked into."""

MIN_REPORTED_SCORE = 0.05
"""Eyes of lower scores are not reported: the network has some fifty such places in any picture."""

_SMALL_PX, _TINY_PX, _DOUBTED = 15.0, 5.0, 0.2
"""Where several people's eyes have fewer pixels in the first look, or one person's far fewer, or where so
small an eye scores too low but at least so much, there may be more people, smaller still."""

_LARGE_PX = 80.0
"""An eye of more pixels in the first look is told better by a coarser one."""


@dataclass(frozen=True, slots=True)
class FinderInfo:
    """What the file says of itself: who may use it, and how scores are calibrated.

    `score_weights` are those of a logistic regression on what `ScoredEye.features` holds; an eye counts from
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


NUM_CALIBRATION_FEATURES = 8


@dataclass(frozen=True, slots=True)
class ScoredEye:
    """A candidate as an eye, and what speaks for it.

    `features`: its logit and the refiner's, its partner's two or 0, whether it has a partner, whether
    it has none though the place for one is in the picture, the logarithm of the distance between the eyes in
    pixels of the look over 32, and 1.
    """

    eye: Eye
    features: tuple[float, ...]


class LearnedEyeFinder:
    """Finds eyes with the network of `models/eye_finder.onnx`; may be shared by threads.

    An eye's score is the part of eyes so scored that were right on pictures kept out of training.
    """

    input_side_px = FINE_SIDE_PX

    def __init__(self, session: Session, info: FinderInfo, refiner: Refiner | None = None) -> None:
        self.info = info
        self._session = session
        self._refiner = refiner

    @classmethod
    def load(cls, path: Path) -> Self:
        """The network in `path`, one thread a call.

        Raises:
            RuntimeMissing: ONNX Runtime is not installed.
            ModelNotFound: there is no such file.
            ModelContractUnknown: it is not an eye finder of the contract that this service knows.
        """
        session = open_cpu_session(path, num_threads=1)
        return cls(session, _read_info(session, path), _read_refiner(session, path))

    def detect(self, photo: Image) -> EyeDetections:
        """The eyes, and the candidates below the threshold that score at least MIN_REPORTED_SCORE."""
        every = [scored.eye for scored in self.score_eyes(photo)]
        sure = [eye for eye in every if eye.score >= self.info.threshold]
        below_threshold = [eye for eye in every if MIN_REPORTED_SCORE <= eye.score < self.info.threshold]
        return EyeDetections(_people_in_order(sure), below_threshold)

    def score_eyes(self, photo: Image) -> list[ScoredEye]:
        """Every candidate, those below the threshold too; people are numbered in no order."""
        seen = self._look(photo, BASE_SIDE_PX)
        found = self._as_eyes(seen, photo)
        shrunk = min(MAX_UPSCALE, BASE_SIDE_PX / max(photo.shape[:2]))
        eyes = [replace(each.eye, size_px=each.eye.size_px * shrunk) for each in found]
        sure = [eye for eye in eyes if eye.score >= self.info.threshold]
        more = []
        if shrunk < 0.8 and (not sure or _may_hide_smaller(sure, eyes)):
            more += self._look(photo, FINE_SIDE_PX)
        if not sure or max(eye.size_px for eye in sure) > _LARGE_PX:
            more += self._look(photo, COARSE_SIDE_PX)
        return self._as_eyes(suppress_non_maxima(seen + more), photo) if more else found

    def _look(self, photo: Image, long_side_px: int) -> list[Detection]:
        """What the network sees at one scale, in pixels of the photo."""
        height, width = photo.shape[:2]
        small, grow_x, grow_y = _shrunk(photo, min(MAX_UPSCALE, long_side_px / max(height, width)))
        right, below = -small.shape[1] % SIDE_MULTIPLE, -small.shape[0] % SIDE_MULTIPLE
        padded = cv2.copyMakeBorder(small, 0, below, 0, right, cv2.BORDER_REPLICATE)
        (rows,) = self._session.run(["candidates"], {"picture": padded[None]})
        candidates = (
            decode_detection(row, grow_x, grow_y) for row in rows[rows[:, 0] >= _MIN_LOGIT].tolist()
        )
        inside = [each for each in candidates if _is_inside((each.x, each.y), photo)]
        if self._refiner is None:
            return suppress_non_maxima(inside)
        return suppress_non_maxima(self._refiner.refine(photo, suppress_non_maxima(inside)))

    def _as_eyes(self, candidates: Sequence[Detection], photo: Image) -> list[ScoredEye]:
        pairs = pair_eyes(candidates)
        paired = {index for pair in pairs for index in pair}
        found: list[ScoredEye] = []
        for person, (first, second) in enumerate(pairs):
            right, left = candidates[first], candidates[second]
            eyes = eyes_from_points((right.x, right.y), (left.x, left.y), person=person)
            found += [self._scored(eyes[0], right, left, 0.0), self._scored(eyes[1], left, right, 0.0)]
        lonely = [each for index, each in enumerate(candidates) if index not in paired]
        for person, each in enumerate(lonely, start=len(pairs)):
            missed = float(_is_inside(each.partner, photo))
            found.append(self._scored(_lonely_eye(each, person), each, None, missed))
        return found

    def _scored(self, eye: Eye, seen: Detection, partner: Detection | None, missed: float) -> ScoredEye:
        other, other_close, paired = (
            (partner.logit, partner.refiner_logit, 1.0) if partner else (0.0, 0.0, 0.0)
        )
        size = math.log(seen.input_distance_px / 32)
        features = (seen.logit, seen.refiner_logit, other, other_close, paired, missed, size, 1.0)
        logit = sum(weight * sign for weight, sign in zip(self.info.score_weights, features, strict=True))
        score = 1 / (1 + math.exp(-min(50.0, max(-50.0, logit))))
        return ScoredEye(replace(eye, score=score), features)


def _is_inside(point: tuple[float, float], photo: Image) -> bool:
    height, width = photo.shape[:2]
    return bool(0 <= point[0] < width and 0 <= point[1] < height)


def _may_hide_smaller(sure: Sequence[Eye], every: Sequence[Eye]) -> bool:
    """Whether a finer look may show people that the first did not: by a tiny eye, by several people who are
    small, or by a small eye that scores too low."""
    several = len({eye.person for eye in sure}) > 1
    return any(eye.size_px < (_SMALL_PX if several else _TINY_PX) for eye in sure) or any(
        eye.size_px < _SMALL_PX for eye in every if eye.score >= _DOUBTED and eye not in sure
    )


def _shrunk(photo: Image, scale: float) -> tuple[Image, float, float]:
    """The photo at about this scale, and how much wider and higher its pixels are than the photo's.

    By halves and the rest linearly: a third of the time of one step by area.
    """
    height, width = photo.shape[:2]
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small, grow = photo, 1
    while min(small.shape[:2]) > 1 and small.shape[1] >= 2 * size[0] and small.shape[0] >= 2 * size[1]:
        half = small.shape[1] // 2, small.shape[0] // 2
        even = small[: 2 * half[1], : 2 * half[0]]
        small, grow = np.asarray(cv2.resize(even, half, interpolation=cv2.INTER_AREA), np.uint8), 2 * grow
    grow_x, grow_y = grow * small.shape[1] / size[0], grow * small.shape[0] / size[1]
    return np.asarray(cv2.resize(small, size, interpolation=cv2.INTER_LINEAR), np.uint8), grow_x, grow_y


def _lonely_eye(candidate: Detection, person: int) -> Eye:
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


def _read_info(session: Session, path: Path) -> FinderInfo:
    metadata = session.metadata
    found = f"{metadata.get('part', 'no part')} {metadata.get('contract_version', 'none')}"
    if found != f"eye_finder {FINDER_CONTRACT_VERSION}":
        raise ModelContractUnknown(
            f"{path} holds {found}; this service expects eye_finder {FINDER_CONTRACT_VERSION}. Export the "
            "finder again with the same version of the project, or install the service that fits it."
        )
    try:
        weights = tuple(float(each) for each in json.loads(metadata["score_weights"]))
        if len(weights) != NUM_CALIBRATION_FEATURES:
            raise ValueError(f"{len(weights)} score weights, expected {NUM_CALIBRATION_FEATURES}")
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


def _read_refiner(session: Session, path: Path) -> Refiner | None:
    """The second network, which the file holds in its metadata, so that the two cannot be told apart."""
    held = session.metadata.get("refiner")
    if not held:
        return None
    try:
        return Refiner(open_cpu_session(base64.b64decode(held, validate=True), num_threads=1))
    except (ValueError, ModelContractUnknown) as error:
        raise ModelContractUnknown(
            f"{path} holds a refiner that cannot be loaded ({error}): export it again."
        ) from error


def open_eye_finder(name: Literal["learned", "haar"], path: Path | None = None) -> EyeFinder:
    """The finder of that name; the learned one from `path`, or else as it is shipped.

    Raises:
        RuntimeMissing: ONNX Runtime is not installed.
        ModelNotFound: there is no such file, or none is shipped.
        ModelContractUnknown: it is not an eye finder of the contract that this service knows.
    """
    if name == "haar":
        return HaarEyeFinder()
    return LearnedEyeFinder.load(path or model_path("eye_finder"))
