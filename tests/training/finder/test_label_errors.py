"""Labels that a finder contradicts, on the astronaut with labels that are right and wrong."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from service.vision.eyes import EyeDetections
from service.vision.images import Image
from tests.fakes import ASTRONAUT_LEFT_EYE, ASTRONAUT_RIGHT_EYE, astronaut_eyes
from tests.training.labelled_astronaut import photo
from training.errors import DataError
from training.finder.label_errors import (
    draw_label_errors,
    find_label_errors,
    read_files,
    write_label_errors,
)
from training.finder.labels import LabelledPhoto, Person

DISTANCE = ASTRONAUT_LEFT_EYE[0] - ASTRONAUT_RIGHT_EYE[0]


class Knowing:
    """Finds the astronaut's eyes, as sure of them as it is told."""

    input_side_px = 10_000

    def __init__(self, score: float = 0.95) -> None:
        self.score = score

    def detect(self, photo: Image) -> EyeDetections:
        return EyeDetections([replace(eye, score=self.score) for eye in astronaut_eyes()])


def moved(eye_distances: float, *, sure: tuple[bool, bool] = (True, True)) -> LabelledPhoto:
    """The astronaut with her right eye's label moved down."""
    labelled = photo(sure=sure)
    points = labelled.people[0].landmarks + np.array(
        [[0, eye_distances * DISTANCE], [0, 0], [0, 0]], np.float32
    )
    return replace(labelled, people=(Person(points, sure, 90.0),))


def test_a_label_that_is_right_is_not_doubted() -> None:
    assert list(find_label_errors([photo(), moved(0.1)], Knowing())) == []


def test_a_label_beside_the_eye_is_doubted() -> None:
    (error,) = find_label_errors([moved(0.4)], Knowing())
    assert (error.file, error.found_x, error.found_y) == ("a.jpg", *ASTRONAUT_RIGHT_EYE)
    assert error.apart == pytest.approx(0.4, rel=0.1)  # the wrong label makes the eyes seem further apart


@pytest.mark.parametrize(
    ("labelled", "finder"),
    [
        (moved(3.0), Knowing()),
        (moved(0.4), Knowing(0.8)),
        (moved(0.4, sure=(False, True)), Knowing()),
    ],
    ids=["somebody else's eye", "a finder that is not sure", "a label that does not count"],
)
def test_what_says_nothing_against_a_label(labelled: LabelledPhoto, finder: Knowing) -> None:
    assert list(find_label_errors([labelled], finder)) == []


def test_doubts_are_written_read_and_drawn(tmp_path: Path) -> None:
    found = list(find_label_errors([moved(0.4)], Knowing()))
    write_label_errors(tmp_path / "new" / "doubted.csv", found)
    assert read_files(tmp_path / "new" / "doubted.csv") == {"a.jpg"}
    draw_label_errors([moved(0.4)], found, tmp_path / "other" / "doubted.png")
    drawn = cv2.imread(str(tmp_path / "other" / "doubted.png"))
    assert drawn is not None
    assert (drawn == (0, 255, 0)).all(axis=2).any() and (drawn == (0, 0, 255)).all(axis=2).any()


def test_no_doubts_are_no_picture(tmp_path: Path) -> None:
    draw_label_errors([photo()], [], tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()


def test_a_csv_that_is_not_there_or_another_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no file .*none\.csv"):
        read_files(tmp_path / "none.csv")
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="lacks the columns file"):
        read_files(tmp_path / "other.csv")
