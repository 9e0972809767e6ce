"""The photo that the finder's tests learn from: the astronaut, her eyes and nose measured by hand."""

import csv
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np

from tests.fakes import ASTRONAUT_LEFT_EYE, ASTRONAUT_RIGHT_EYE, astronaut
from training.finder.labels import LabeledPhoto, Person

NOSE = (228.0, 130.0)

COLUMNS = (
    *("file", "kind", "source", "licence", "width", "height", "face_x", "face_y", "face_w", "face_h"),
    *("right_eye_x", "right_eye_y", "left_eye_x", "left_eye_y", "nose_x", "nose_y", "score", "label_spread"),
)


def photo(kind: str = "face", *, num_people: int = 1, sure: tuple[bool, bool] = (True, True)) -> LabeledPhoto:
    """The astronaut as a labeled photo."""
    points = np.array([ASTRONAUT_RIGHT_EYE, ASTRONAUT_LEFT_EYE, NOSE], np.float32)
    return LabeledPhoto("a.jpg", kind, astronaut(), (Person(points, sure, 90.0),) * num_people)


def write_scenes(folder: Path, num_photos: int, **changes: str) -> Path:
    """A folder with scenes.csv and its pictures, all of them the astronaut; `changes` replace cells."""
    (folder / "scenes").mkdir(parents=True, exist_ok=True)
    with (folder / "scenes.csv").open("w", newline="") as lines:
        writer = csv.DictWriter(lines, COLUMNS)
        writer.writeheader()
        for number in range(num_photos):
            file = f"{number}.jpg"
            cv2.imwrite(str(folder / "scenes" / file), cv2.cvtColor(astronaut(), cv2.COLOR_RGB2BGR))
            writer.writerow({**_row(file), **changes})
    return folder


def _row(file: str) -> Mapping[str, str]:
    right, left = ASTRONAUT_RIGHT_EYE, ASTRONAUT_LEFT_EYE
    values = ("other", "nasa", "open", "512", "512", "175", "60", "90", "120")
    points = (*right, *left, *NOSE, 0.9, 0.05)
    return dict(zip(COLUMNS, (file, *values, *map(str, points)), strict=True))
