"""Negatives: pictures split by name, parts of photos beside people, and drawn round objects."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from service.vision.images import Image
from tests.training.labeled_astronaut import photo
from training.data.splits import FinderSplit
from training.errors import DataError
from training.finder.negatives import (
    FITTED,
    LONG_SIDE_PX,
    MEASURED,
    SMALLEST_PART_PX,
    TRAINED,
    background,
    draw_round_object,
    from_folder,
    packaged,
    parts_without_people,
)
from training.finder.test_sets import NO_PEOPLE, folder_negatives

NUM_PICTURES = 60
SPLITS: tuple[FinderSplit, ...] = ("train", "calibration", "dev")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Gray pictures, each of its own level, some below the folder."""
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


@pytest.mark.parametrize(
    "make",
    [lambda path: path.write_bytes(b"no picture"), Path.touch, Path.mkdir, os.mkfifo],
    ids=["text", "empty", "folder", "FIFO"],
)
def test_a_picture_that_cannot_be_read_is_named(tmp_path: Path, make: Callable[[Path], object]) -> None:
    make(tmp_path / "broken.jpg")
    with pytest.raises(DataError, match=r"broken\.jpg is not a picture"):
        for split in SPLITS:
            list(from_folder(tmp_path, split))


def test_each_measured_picture_is_shown_whole_and_in_part(folder: Path) -> None:
    cases = folder_negatives(folder, "dev")
    assert {case.kind for case in cases} == {f"{NO_PEOPLE}a folder"}
    assert len(cases) == 2 * len(list(from_folder(folder, "dev")))
    assert all(case.picture.shape == (20, 30, 3) for case in cases[::2])
    assert all(max(case.picture.shape[:2]) <= 20 for case in cases[1::2])


SIDE = 200


def drawn(seed: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    picture = np.full((SIDE, SIDE, 3), 120, np.uint8)
    draw_round_object(picture, np.random.default_rng(seed))
    return picture


def test_the_same_number_draws_the_same_thing() -> None:
    assert np.array_equal(drawn(7), drawn(7))
    assert not np.array_equal(drawn(7), drawn(8))


def test_most_things_are_seen_and_hardly_one_fills_the_picture() -> None:
    changed = [float((drawn(seed) != 120).any(2).mean()) for seed in range(60)]
    assert np.mean([part > 0.002 for part in changed]) > 0.9
    assert np.mean([part > 0.95 for part in changed]) < 0.1


@pytest.mark.slow
def test_a_thing_is_as_wide_in_all_directions_as_its_slant_allows() -> None:
    seen = 0
    for seed in range(200):
        there = (np.abs(drawn(seed).astype(int) - 120) > 12).any(2)
        v, u = np.nonzero(there)
        inside = len(v) and v.min() > 0 and v.max() < SIDE - 1 and u.min() > 0 and u.max() < SIDE - 1
        if not inside or len(v) < 400:
            continue
        seen += 1
        spread = np.linalg.eigvalsh(np.cov(np.stack([u, v]).astype(float)))
        assert np.sqrt(spread[0] / spread[1]) > 0.5
    assert seen > 5


def test_packaged_pictures_serve_one_purpose_each() -> None:
    names = [*TRAINED, *FITTED, *MEASURED]
    assert len(set(names)) == len(names)
    assert all(each.ndim == 3 and each.dtype == np.uint8 for each in packaged(names))


def test_backgrounds_have_the_size_asked_for_and_most_are_parts_of_real_pictures() -> None:
    real: Image = np.full((80, 90, 3), (120, 7, 200), np.uint8)
    drawn = [background([real], 64, np.random.default_rng(seed)) for seed in range(60)]
    assert all(each.shape == (64, 64, 3) and each.dtype == np.uint8 for each in drawn)
    num_real = sum(set(np.unique(each)) == {7, 120, 200} for each in drawn)
    assert 30 < num_real < 55


def test_the_parts_beside_a_person_show_nothing_of_the_face() -> None:
    labeled = replace(photo(), pixels=photo().pixels.copy())
    (person,) = labeled.people
    x, y = (round(float(value)) for value in person.landmarks.mean(0))
    labeled.pixels[:] = (0, 0, 255)
    labeled.pixels[y - 60 : y + 60, x - 45 : x + 45] = (255, 0, 0)
    left, right, below = parts_without_people([labeled])
    height, width = labeled.pixels.shape[:2]
    assert left.shape[0] == right.shape[0] == height and left.shape[1] + right.shape[1] < width - 90
    assert below.shape[1] == width and below.shape[0] < height - y
    assert not any((part[..., 0] == 255).any() for part in (left, right, below))


def test_of_several_people_and_of_small_pictures_there_are_no_parts() -> None:
    assert list(parts_without_people([photo("several-faces"), photo(num_people=2)])) == []
    (person,) = photo().people
    top = int(person.landmarks[:2, 1].max() + 2.3 * person.distance) + SMALLEST_PART_PX - 5
    cut = replace(photo(), pixels=photo().pixels[:top])
    assert len(list(parts_without_people([cut]))) == 2


def test_pictures_of_a_folder_are_rgb(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "red.png"), np.full((20, 20, 3), (0, 0, 200), np.uint8))
    (shown,) = [each for split in SPLITS for each in from_folder(tmp_path, split)]
    assert shown[0, 0].tolist() == [200, 0, 0]
