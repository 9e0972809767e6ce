"""Labeled photos of the eye finder: pixels, people, and which of their eyes have sure labels.

Knows the two tables, scenes.csv of whole pictures and faces.csv of single faces; knows nothing of networks.
Letters of shapes: P = 3 landmarks of a person: right eye, left eye, nose; right and left are the subject's.
"""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from service.vision.images import Image
from training.data.face_alignment import EYE_DISTANCE, RIGHT_EYE_AT
from training.data.face_parts import PART_POSITIONS
from training.data.photos import (
    CSV_COLUMNS,
    read_licence,
    read_number,
    read_person,
    read_photo,
    read_point,
    read_split,
    read_table,
)
from training.data.splits import FinderSplit, split_with_calibration
from training.errors import DataError

DEV_PART = {"scenes": 0.2, "faces": 0.05}
CALIBRATION_PART = {"scenes": 0.06, "faces": 0.03}
"""Parts of the people of each table that are kept out of training: on `dev` the finder is measured, on
`calibration` its scores and threshold are fitted."""

COLUMNS = tuple(name for name in CSV_COLUMNS if name != "split")
"""What a table needs. It may have `split`, `person`, `kind`, `nose_x`, `nose_y`, `face_w`, `label_spread`."""

FACE_PER_EYE_DISTANCE = 2.15
"""Width of a face's box where the table has none: the median of 10,895 labeled faces."""

Row = Mapping[str, str]

MAX_EVALUATION_SPREAD = 0.08
"""In evaluation a label is sure if its repetitions agree so well, in eye distances."""

MAX_TRAINING_SPREAD_BY_KIND = {"masked": 0.2}
MAX_TRAINING_SPREAD = 0.15
"""In training a label is sure up to here. Labels of masked people spread more, because a detector of whole
faces made them; on contact sheets they are usable up to 0.2, the others up to 0.15."""

PROFILE_YAW = 0.45
"""With the nose so far from the middle between the eyes, in eye distances, the farther eye is hidden."""


@dataclass(frozen=True, slots=True)
class Person:
    """Landmarks P x 2 in pixels, whether the right and left one of the eyes are sure, and the width of the
    face's box in pixels."""

    landmarks: NDArray[np.float32]
    sure: tuple[bool, bool]
    face_px: float

    @property
    def distance(self) -> float:
        """From eye to eye, in pixels."""
        return float(np.hypot(*(self.landmarks[1] - self.landmarks[0])))


@dataclass(frozen=True, slots=True)
class LabeledPhoto:
    """One picture and everybody labeled in it; `kind` is that of the table, "face" where it has none."""

    file: str
    kind: str
    pixels: Image
    people: tuple[Person, ...]
    licence: str = "unstated"


def load_photos(
    data: Path,
    split: FinderSplit,
    *,
    measured: bool = False,
    limit: int | None = None,
    licences: Collection[str] = (),
) -> list[LabeledPhoto]:
    """All usable photos of one split, decoded; `limit` takes the first so many of each table.

    `measured` asks for the stricter rule of what is sure. A picture of which any row has no points is left
    out: somebody without a label may be in it. With `licences` only those under one of them are loaded; the
    rest stay in the same splits.

    Raises:
        DataError: the folder holds neither scenes.csv nor faces.csv, or one of them cannot be used.
    """
    tables = {
        name: sorted(read_table(data / f"{name}.csv", COLUMNS), key=lambda row: row["file"])
        for name in ("scenes", "faces")
        if (data / f"{name}.csv").is_file()
    }
    if not tables:
        raise DataError(f"{data} holds neither scenes.csv nor faces.csv")
    splits = _split_people(tables)
    photos: list[LabeledPhoto] = []
    for name, rows in tables.items():
        grouped = (list(group) for _, group in groupby(rows, key=lambda row: row["file"]))
        chosen = [
            group
            for group in grouped
            if _furthest(splits[read_person(row)] for row in group) == split
            and (not licences or all(read_licence(row) in licences for row in group))
        ]
        complete = (group for group in chosen[:limit] if all(row["right_eye_x"] for row in group))
        photos += [_read_photo(data / name, group, measured) for group in complete]
    return photos


def _split_people(tables: Mapping[str, Sequence[Row]]) -> dict[str, FinderSplit]:
    """Everybody's split; whom one table holds out is held out of all."""
    splits: dict[str, FinderSplit] = {}
    for name, rows in tables.items():
        named = [(read_person(row), read_split(row)) for row in rows]
        of_table = split_with_calibration(
            named, dev_part=DEV_PART[name], calibration_part=CALIBRATION_PART[name]
        )
        for person, split in of_table.items():
            splits[person] = _furthest([split, splits.get(person, "train")])
    return splits


def _furthest(splits: Iterable[FinderSplit]) -> FinderSplit:
    return max(splits, key=get_args(FinderSplit).index)


def _read_photo(folder: Path, rows: Sequence[Row], measured: bool) -> LabeledPhoto:
    file = rows[0]["file"]
    kind = "several-faces" if len(rows) > 1 else rows[0].get("kind") or "face"
    people = tuple(_read_person(row, measured) for row in rows)
    return LabeledPhoto(file, kind, read_picture(folder / file), people, read_licence(rows[0]))


def read_picture(path: Path) -> Image:
    """A picture H x W x 3 uint8 RGB.

    Raises:
        DataError: it cannot be read.
    """
    try:
        stored = cv2.imdecode(np.frombuffer(read_photo(path), np.uint8), cv2.IMREAD_COLOR_RGB)
    except (OSError, cv2.error):  # the latter of no bytes
        stored = None
    if stored is None:
        raise DataError(f"{path} is not a picture that can be read")
    return np.asarray(stored, dtype=np.uint8)


def _read_person(row: Row, measured: bool) -> Person:
    right, left = (read_point(row, name) for name in ("right_eye", "left_eye"))
    if right is None or left is None:
        raise DataError(f"{row['file']} has only some coordinates of an eye")
    points = np.array([right, left, read_point(row, "nose") or _usual_nose(right, left)], np.float32)
    distance = math.dist(right, left)
    face_px = read_number(row.get("face_w"), row["file"]) or FACE_PER_EYE_DISTANCE * distance
    learned = MAX_TRAINING_SPREAD_BY_KIND.get(row.get("kind", ""), MAX_TRAINING_SPREAD)
    allowed = MAX_EVALUATION_SPREAD if measured else learned
    spread = read_number(row.get("label_spread"), row["file"])
    # An empty cell: labeled once only, with nothing to compare. No such column: all labels are exact.
    agreed = "label_spread" not in row or (spread is not None and spread <= allowed)
    yaw = _yaw(points)
    return Person(points, (agreed and yaw > -PROFILE_YAW, agreed and yaw < PROFILE_YAW), face_px)


def _usual_nose(right: tuple[float, float], left: tuple[float, float]) -> tuple[float, float]:
    """Where the tip of the nose is in a face that looks straight ahead."""
    down = (PART_POSITIONS["nose"].y - RIGHT_EYE_AT[1]) / EYE_DISTANCE
    dx, dy = left[0] - right[0], left[1] - right[1]
    return (right[0] + left[0]) / 2 - down * dy, (right[1] + left[1]) / 2 + down * dx


def _yaw(points: NDArray[np.float32]) -> float:
    """How far the nose is from the middle between the eyes towards the left eye, in eye distances."""
    across = points[1] - points[0]
    return float((points[2] - points[:2].mean(0)) @ across / max(1e-6, float(across @ across)))
