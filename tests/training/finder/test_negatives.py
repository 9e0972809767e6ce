"""A folder of pictures without people, divided by the names of its files."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from training.data.splits import FinderSplit
from training.errors import DataError
from training.finder.negatives import LONG_SIDE_PX, from_folder
from training.finder.test_sets import NOBODY, cases_of_a_folder

NUM_PICTURES = 60
SPLITS: tuple[FinderSplit, ...] = ("train", "calibration", "dev")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Grey pictures, each of its own level, some below the folder."""
    folder = tmp_path_factory.mktemp("nobody")
    (folder / "below").mkdir()
    for level in range(NUM_PICTURES):
        name = f"below/{level}.png" if level % 2 else f"{level}.png"
        cv2.imwrite(str(folder / name), np.full((20, 30, 3), level, np.uint8))
    return folder


def test_each_picture_serves_one_purpose(folder: Path) -> None:
    levels = [{int(each[0, 0, 0]) for each in from_folder(folder, split)} for split in SPLITS]
    assert set().union(*levels) == set(range(NUM_PICTURES))
    assert sum(map(len, levels)) == NUM_PICTURES
    assert all(levels)


def test_a_name_keeps_its_purpose_when_others_come(folder: Path, tmp_path: Path) -> None:
    (picture, *_) = from_folder(folder, "dev")
    name = f"{picture[0, 0, 0]}.png"
    cv2.imwrite(str(tmp_path / name), picture)
    alone = folder / name
    assert bool(list(from_folder(tmp_path, "dev"))) == alone.is_file()


def test_large_pictures_are_shrunk(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "large.jpg"), np.zeros((100, 2000, 3), np.uint8))
    (shown,) = [each for split in SPLITS for each in from_folder(tmp_path, split)]
    assert shown.shape == (32, LONG_SIDE_PX, 3)


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(DataError, match="holds no pictures"):
        list(from_folder(tmp_path, "train"))


def test_a_picture_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"broken\.jpg is not a picture"):
        for split in SPLITS:
            list(from_folder(tmp_path, split))


def test_each_measured_picture_is_shown_whole_and_in_part(folder: Path) -> None:
    cases = cases_of_a_folder(folder, "dev")
    assert {case.kind for case in cases} == {f"{NOBODY}a folder"}
    assert len(cases) == 2 * len(list(from_folder(folder, "dev")))
    assert all(case.picture.shape == (20, 30, 3) for case in cases[::2])
    assert all(max(case.picture.shape[:2]) <= 20 for case in cases[1::2])
