"""Labels for training and for evaluation; no picture is in both."""

import csv
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import get_args

import cv2
import numpy as np
import pytest

from tests.drawn_faces import DrawnPhoto
from tests.training.labeled_astronaut import write_scenes
from training.data.photos import CSV_COLUMNS, list_photos
from training.data.splits import FinderSplit
from training.errors import DataError
from training.finder.labels import load_photos


def test_no_picture_is_both_learned_from_and_measured_on(tmp_path: Path) -> None:
    write_scenes(tmp_path, 40)
    splits: tuple[FinderSplit, ...] = ("train", "calibration", "dev")
    files = [photo.file for split in splits for photo in load_photos(tmp_path, split)]
    assert len(set(files)) == len(files) == 40
    assert all(load_photos(tmp_path, split) for split in splits)


def test_labels_that_disagree_are_not_measured_on_but_learned_from(tmp_path: Path) -> None:
    write_scenes(tmp_path, 1, label_spread="0.1")
    (photo,) = load_photos(tmp_path, "train") or load_photos(tmp_path, "dev")
    (strict,) = load_photos(tmp_path, "train", measured=True) or load_photos(tmp_path, "dev", measured=True)
    assert photo.people[0].sure == (True, True)
    assert strict.people[0].sure == (False, False)


def test_a_label_made_only_once_is_not_sure(tmp_path: Path) -> None:
    write_scenes(tmp_path, 1, label_spread="")
    (photo,) = load_photos(tmp_path, "train") or load_photos(tmp_path, "dev")
    assert photo.people[0].sure == (False, False)


@pytest.mark.parametrize(("nose_x", "sure"), [("250", (True, False)), ("200", (False, True))])
def test_the_hidden_eye_of_a_profile_is_not_sure(
    tmp_path: Path, nose_x: str, sure: tuple[bool, bool]
) -> None:
    write_scenes(tmp_path, 1, nose_x=nose_x)
    (photo,) = load_photos(tmp_path, "train") or load_photos(tmp_path, "dev")
    assert photo.people[0].sure == sure


def test_a_picture_with_somebody_unlabeled_is_left_out(tmp_path: Path) -> None:
    write_scenes(tmp_path, 3, right_eye_x="")
    assert load_photos(tmp_path, "train") == []


def test_a_photo_has_its_pixels_in_rgb(tmp_path: Path) -> None:
    write_scenes(tmp_path, 1)
    (photo,) = load_photos(tmp_path, "train") or load_photos(tmp_path, "dev")
    orange_suit = photo.pixels[430:440, 120:130].reshape(-1, 3).mean(0)
    assert orange_suit[0] > orange_suit[2]
    assert photo.pixels.dtype == np.uint8


def test_a_photo_has_the_license_of_its_row(tmp_path: Path) -> None:
    assert {photo.licence for photo in load_photos(write_scenes(tmp_path, 3), "train")} == {"open"}
    write_scenes(tmp_path, 3, licence="")
    assert {photo.licence for photo in load_photos(tmp_path, "train")} == {"unstated"}


def test_only_photos_of_the_licenses_asked_for_are_loaded(tmp_path: Path) -> None:
    rows = [{"file": f"{n}.png", "licence": ("open", "non-commercial", "")[n % 3]} for n in range(60)]
    twice = [{"file": "all.png", "licence": licence} for licence in ("open", "non-commercial")]
    data = write_tables(tmp_path, scenes=[*rows, *twice])
    for split in get_args(FinderSplit):
        every = load_photos(data, split)
        chosen = {photo.file for photo in load_photos(data, split, licences=("open",))}
        assert chosen == {photo.file for photo in every if photo.licence == "open"} - {"all.png"}
        of_two = {photo.file for photo in load_photos(data, split, licences=("open", "unstated"))}
        assert of_two == {photo.file for photo in every if photo.licence != "non-commercial"} - {"all.png"}


def test_a_folder_without_labels_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds neither"):
        load_photos(tmp_path, "train")


def write_tables(folder: Path, **tables: Sequence[Mapping[str, object]]) -> Path:
    """Tables with the columns that README names, and a tiny picture for every file."""
    columns = ("file", "split", "person", "licence", "right_eye_x", "right_eye_y", "left_eye_x", "left_eye_y")
    for name, rows in tables.items():
        (folder / name).mkdir(parents=True)
        with (folder / f"{name}.csv").open("w", newline="") as lines:
            writer = csv.DictWriter(lines, columns)
            writer.writeheader()
            for row in rows:
                cv2.imwrite(str(folder / name / str(row["file"])), np.zeros((4, 4, 3), np.uint8))
                eyes = {"right_eye_x": 10, "right_eye_y": 20, "left_eye_x": 30, "left_eye_y": 20}
                writer.writerow({"split": "train", **eyes, **row})
    return folder


def files_of(data: Path, split: FinderSplit) -> set[str]:
    return {photo.file for photo in load_photos(data, split)}


def test_finder_and_synthesizer_hold_out_the_same_people(tmp_path: Path) -> None:
    splits = ["train"] * 270 + ["val"] * 30
    rows = [{"file": f"{n}.png", "person": f"p{n % 90}", "split": split} for n, split in enumerate(splits)]
    data = write_tables(tmp_path, faces=rows)
    photos = list_photos(data / "faces.csv", "csv", seed=7)
    held_out = {split: {photo.file for photo in photos if photo.split == split} for split in ("dev", "val")}
    assert held_out["dev"] and held_out["val"]
    assert files_of(data, "dev") == held_out["dev"]
    assert files_of(data, "val") == held_out["val"]
    assert not files_of(data, "train") & files_of(data, "calibration")


def test_whom_one_table_holds_out_is_held_out_of_all(tmp_path: Path) -> None:
    people = [{"file": f"{n}.png", "person": f"p{n}"} for n in range(60)]
    data = write_tables(tmp_path, faces=people, scenes=[{**row, "file": f"s{row['file']}"} for row in people])
    trained = {file.removeprefix("s") for file in files_of(data, "train")}
    held_out = {file.removeprefix("s") for file in files_of(data, "dev") | files_of(data, "calibration")}
    assert trained and held_out and not trained & held_out


def test_a_photo_is_held_out_with_anybody_whom_any_table_holds_out(tmp_path: Path) -> None:
    scenes = [
        {"file": "a.png", "person": "a", "split": "val"},
        {"file": "b.png", "person": "b"},
        {"file": "both.png", "person": "c"},
        {"file": "both.png", "person": "b"},
    ]
    faces = [
        {"file": "a2.png", "person": "a"},
        {"file": "b2.png", "person": "b", "split": "val"},
        {"file": "c2.png", "person": "c", "split": "dev"},
    ]
    data = write_tables(tmp_path, scenes=scenes, faces=faces)
    assert files_of(data, "val") == {"a.png", "b.png", "both.png", "a2.png", "b2.png"}
    assert files_of(data, "dev") == {"c2.png"}


def test_a_csv_without_nose_box_and_spread_gives_sure_eyes_and_the_usual_face(
    tmp_path: Path, drawn_csv: Path, drawn_photos: list[DrawnPhoto]
) -> None:
    shutil.copytree(drawn_csv.with_suffix(""), tmp_path / "faces")
    with drawn_csv.open() as lines, (tmp_path / "faces.csv").open("w") as fewer:
        writer = csv.DictWriter(fewer, CSV_COLUMNS, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(csv.DictReader(lines))
    photos = load_photos(tmp_path, "train")
    assert photos
    people = [person for photo in photos for person in photo.people]
    assert all(person.sure == (True, True) for person in people)
    assert all(person.face_px == pytest.approx(2.15 * person.distance) for person in people)
    noses = {f"drawn-{number:05}.jpg": photo.nose for number, photo in enumerate(drawn_photos)}
    offs = [person.landmarks[2] - noses[photo.file] for photo in photos for person in photo.people]
    assert np.median([np.hypot(*off) for off in offs]) < 0.15 * people[0].distance


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"split": "test"}, "has the split 'test'"),
        ({"right_eye_y": ""}, "only some coordinates"),
        ({"left_eye_x": "far"}, "'far' where a number"),
    ],
)
def test_a_wrong_row_is_named(tmp_path: Path, changes: Mapping[str, object], said: str) -> None:
    data = write_tables(tmp_path, faces=[{"file": "7.png", "person": "ann", **changes}])
    with pytest.raises(DataError, match=f"7.png.*{said}"):
        load_photos(data, "train")
