"""The labelled photos that the eye finder learns from and is measured on: pixels, people, what is doubtful.

Knows the two CSV files of whole pictures (scenes) and of single faces; knows nothing of networks.
Letters of shapes: P = 3 points of a person: right eye, left eye, nose; right and left are the subject's.
"""

import csv
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from service.vision.eyes import Image
from training.data.photos import part_of_hash
from training.data.store import PairsError

Part = Literal["train", "fit", "dev", "val"]

DEV_PART = {"scenes": 0.2, "faces": 0.05}
FIT_PART = {"scenes": 0.06, "faces": 0.03}
"""Parts of the pictures that are kept out of training, by the hash of the file's name: on `dev` the finder is
measured, on `fit` its scores and threshold are fitted."""

SURE_SPREAD = 0.08
"""Measured are only labels whose repetitions agree so well, in eye distances."""

TRAINED_SPREAD = {"masked": 0.2}
TRAINED_SPREAD_OTHERWISE = 0.15
"""Learned are labels up to here. Masked people's labels spread more for they were made by a detector of
whole faces; looked at on contact sheets, they are usable up to 0.2, the others up to 0.15."""

PROFILE_YAW = 0.45
"""With the nose so far from the middle between the eyes, in eye distances, the farther eye is hidden."""


@dataclass(frozen=True, slots=True)
class Person:
    """Three points P x 2 in pixels, whether each eye, right and left, is surely where its point is, and the
    width of the face's box in pixels."""

    points: NDArray[np.float32]
    sure: tuple[bool, bool]
    face_px: float

    @property
    def distance(self) -> float:
        """From eye to eye, in pixels."""
        return float(np.hypot(*(self.points[1] - self.points[0])))


@dataclass(frozen=True, slots=True)
class LabelledPhoto:
    """One picture and everybody known in it; `kind` is that of the scene, "face" for a single face."""

    file: str
    kind: str
    pixels: Image
    people: tuple[Person, ...]


def load_photos(
    data: Path, part: Part, *, measured: bool = False, limit: int | None = None
) -> list[LabelledPhoto]:
    """All usable photos of one part, decoded; `limit` takes the first so many of each file.

    `measured` asks for the stricter rule of what is sure. A picture of which any row has no points is left
    out: somebody may be in it whom nobody labelled.

    Raises:
        PairsError: the folder holds neither scenes.csv nor faces.csv.
    """
    found = [name for name in ("scenes", "faces") if (data / f"{name}.csv").is_file()]
    if not found:
        raise PairsError(f"{data} holds neither scenes.csv nor faces.csv")
    return [photo for name in found for photo in _load(data, name, part, measured, limit)]


def licences(data: Path) -> str:
    """How many rows of the CSV files are under which licence, for the model's metadata."""
    counts: Counter[str] = Counter()
    for path in sorted(data.glob("*.csv")):
        with path.open(newline="", encoding="utf-8") as lines:
            counts.update(row.get("licence") or "unstated" for row in csv.DictReader(lines))
    return ", ".join(f"{count} {licence}" for licence, count in sorted(counts.items()))


def _load(data: Path, name: str, part: Part, measured: bool, limit: int | None) -> Iterator[LabelledPhoto]:
    with (data / f"{name}.csv").open(newline="", encoding="utf-8") as lines:
        rows = sorted(csv.DictReader(lines), key=lambda row: row["file"])
    files = [(file, list(group)) for file, group in groupby(rows, key=lambda row: row["file"])]
    chosen = [(file, group) for file, group in files if _part_of(name, file, group[0]) == part]
    for file, group in chosen[:limit]:
        if any(not row["right_eye_x"] for row in group):
            continue
        stored = cv2.imread(str(data / name / file))
        if stored is None:
            raise PairsError(f"{data / name / file} is not a picture that can be read")
        pixels = np.asarray(cv2.cvtColor(stored, cv2.COLOR_BGR2RGB), dtype=np.uint8)
        kinds = {row.get("kind") or "face" for row in group}
        kind = "several-faces" if len(group) > 1 else kinds.pop()
        yield LabelledPhoto(file, kind, pixels, tuple(_person(row, measured) for row in group))


def _part_of(name: str, file: str, row: dict[str, str]) -> Part:
    if row.get("split") == "val":
        return "val"
    place = part_of_hash(0, file)
    if place < DEV_PART[name]:
        return "dev"
    return "fit" if place < DEV_PART[name] + FIT_PART[name] else "train"


def _person(row: dict[str, str], measured: bool) -> Person:
    names = ("right_eye", "left_eye", "nose")
    points = np.array([[float(row[f"{each}_x"]), float(row[f"{each}_y"])] for each in names], np.float32)
    allowed = SURE_SPREAD if measured else TRAINED_SPREAD.get(row.get("kind", ""), TRAINED_SPREAD_OTHERWISE)
    spread = float(row["label_spread"] or math.inf)  # labelled once only: nothing to compare with
    yaw = _yaw(points)
    agreed = spread <= allowed
    sure = agreed and yaw > -PROFILE_YAW, agreed and yaw < PROFILE_YAW
    return Person(points, sure, float(row["face_w"]))


def _yaw(points: NDArray[np.float32]) -> float:
    """How far the nose is from the middle between the eyes towards the left eye, in eye distances."""
    across = points[1] - points[0]
    return float((points[2] - points[:2].mean(0)) @ across / max(1e-6, float(across @ across)))
