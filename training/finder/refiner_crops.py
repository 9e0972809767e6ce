"""Training crops of the refiner, mined from what a finder detects in training scenes (hard example mining).

Detections near a labeled eye are positives, the finder's false positives are hard negatives. The crops are
wider than what the network sees, because augmentation moves them anew in each step.
Letters of shapes: N crops, W side of a wide crop.
"""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from service.inference.detector import Detection, crops_for_refiner, decode_detection, suppress_non_maxima
from service.inference.session import open_cpu_session
from training.data.augmentation import Rng
from training.finder.scenes import MAX_DISTANCE_PX, MIN_DISTANCE_PX, EyeLabel, Scenes

WIDEN = 1.5
WIDE_PX = 72
"""Wide crops show WIDEN times as much as the network will see, at its resolution."""

MIN_LOGIT = -4.0
"""Detections of a lower logit are left out: every scene has hundreds."""

POSITIVE_DISTANCE, NEGATIVE_DISTANCE = 0.3, 0.5
"""A detection this near an eye, in eye distances, is positive; one farther than the second is negative."""

MAX_NEGATIVES = 6
MISSED_EYE_PROBABILITY, RANDOM_PLACE_PROBABILITY = 0.5, 0.3
"""How often an eye that the finder missed becomes a crop all the same, and a random place of a scene."""

Labels = NDArray[np.float32]
LABELS = ("is an eye", "right", "down", "log growth", "turn", "other side")
"""Columns of the labels N x 6: where the eye is in the crop's axes, in the detection's eye distances; the
logarithm of the true distance over the detection's; the roll to add in the crop, in radians; whether the side
is wrong."""


Crops = NDArray[np.uint8]


def mine_crops(
    scenes: Scenes, finder: Path, indices: Sequence[int], *, num_workers: int = 0
) -> tuple[Crops, Labels]:
    """The wide crops N x W x W x 3 and the labels of the scenes of these indices."""
    cv2.setNumThreads(1)  # OpenCV's own threads do not live on in the loader's processes
    # Left as arrays: as tensors each would hold a file descriptor open between the processes.
    mined = _MinedScenes(scenes, finder, indices)
    loader = DataLoader(mined, batch_size=None, num_workers=num_workers, collate_fn=tuple)
    found = list(tqdm(loader, desc="mine", total=len(indices), mininterval=10))
    crops, labels = zip(*found, strict=True)
    return np.concatenate(crops), np.concatenate(labels)


class _MinedScenes(Dataset[tuple[Crops, Labels]]):
    """The crops and labels of each scene."""

    def __init__(self, scenes: Scenes, finder: Path, indices: Sequence[int]) -> None:
        self.scenes, self.finder, self.indices = scenes, finder, indices
        self._session: Any = None

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, place: int) -> tuple[Crops, Labels]:
        if self._session is None:  # opened in the worker: a session cannot be sent to another process
            cv2.setNumThreads(1)
            self._session = open_cpu_session(self.finder, num_threads=1)
        index = self.indices[place]
        picture, eyes = self.scenes.draw(index)
        (rows,) = self._session.run(["candidates"], {"picture": picture[None]})
        likely = rows[rows[:, 0] >= MIN_LOGIT].tolist()
        seen = suppress_non_maxima([decode_detection(row, 1, 1) for row in likely])
        rng = np.random.default_rng((self.scenes.seed, index, 1))
        labeled = list(match_detections(seen, eyes, rng))
        crops = crops_for_refiner(picture, [each for each, _ in labeled], size=WIDE_PX, widen=WIDEN)
        labels = np.array([label for _, label in labeled], np.float32)
        return np.array(crops, np.uint8).reshape(-1, WIDE_PX, WIDE_PX, 3), labels.reshape(-1, len(LABELS))


def match_detections(
    seen: Sequence[Detection], eyes: Sequence[EyeLabel], rng: Rng
) -> Iterator[tuple[Detection, tuple[float, ...]]]:
    """Detections that are surely positive or negative, some missed eyes and random places, with labels."""
    missed = [eye for eye in eyes if eye.sure]
    num_false = 0
    for each in seen:
        if not MIN_DISTANCE_PX / 2 <= each.distance <= 2 * MAX_DISTANCE_PX:
            continue
        near = min(eyes, key=lambda eye: _apart(each, eye), default=None)
        if near is not None and near.sure and _apart(each, near) <= POSITIVE_DISTANCE:
            missed = [eye for eye in missed if eye is not near]
            yield each, _label(each, near)
        elif (near is None or _apart(each, near) > NEGATIVE_DISTANCE) and num_false < MAX_NEGATIVES:
            num_false += 1
            yield each, (0.0,) * len(LABELS)
    for eye in missed:
        if rng.random() < MISSED_EYE_PROBABILITY:
            found_again = _perturbed_detection(eye, rng)
            yield found_again, _label(found_again, eye)
    if rng.random() < RANDOM_PLACE_PROBABILITY:
        place = _random_detection(rng)
        if all(_apart(place, eye) > NEGATIVE_DISTANCE for eye in eyes):
            yield place, (0.0,) * len(LABELS)


def _apart(seen: Detection, eye: EyeLabel) -> float:
    return math.hypot(seen.x - eye.x, seen.y - eye.y) / max(eye.distance, 1.0)


def _label(seen: Detection, eye: EyeLabel) -> tuple[float, ...]:
    roll = math.radians(seen.roll_deg)
    dx, dy = (eye.x - seen.x) / seen.distance, (eye.y - seen.y) / seen.distance
    mirror = -1.0 if seen.left > 0.5 else 1.0
    right, down = dx * math.cos(roll) + dy * math.sin(roll), dy * math.cos(roll) - dx * math.sin(roll)
    turn = (eye.roll - roll + math.pi) % (2 * math.pi) - math.pi
    other = float((seen.left > 0.5) != eye.left)
    return 1.0, mirror * right, down, math.log(eye.distance / seen.distance), mirror * turn, other


def _perturbed_detection(eye: EyeLabel, rng: Rng) -> Detection:
    """A detection of the eye, as wrong as the finder is at times."""
    x, y = (float(value) for value in (eye.x, eye.y) + rng.normal(0, 0.08, 2) * eye.distance)
    distance = eye.distance * math.exp(rng.normal(0, 0.12))
    roll_deg = math.degrees(eye.roll) + rng.normal(0, 8)
    return Detection(x, y, distance, float(eye.left), roll_deg, 0.0, distance, (x, y))


def _random_detection(rng: Rng) -> Detection:
    x, y = (float(value) for value in rng.uniform(0, 256, 2))
    distance = math.exp(rng.uniform(math.log(MIN_DISTANCE_PX), math.log(MAX_DISTANCE_PX)))
    return Detection(x, y, distance, float(rng.integers(2)), rng.uniform(-60, 60), 0.0, distance, (x, y))
