"""Which labels are learned from, which are measured on, and that no picture is both."""

from pathlib import Path

import numpy as np
import pytest

from tests.training.labelled_astronaut import write_scenes
from training.data.store import PairsError
from training.finder.labels import Part, licences, load_photos


def test_no_picture_is_both_learned_from_and_measured_on(tmp_path: Path) -> None:
    write_scenes(tmp_path, 40)
    parts: tuple[Part, ...] = ("train", "fit", "dev")
    files = [photo.file for part in parts for photo in load_photos(tmp_path, part)]
    assert len(set(files)) == len(files) == 40
    assert all(load_photos(tmp_path, part) for part in parts)


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


def test_a_picture_with_somebody_unlabelled_is_left_out(tmp_path: Path) -> None:
    write_scenes(tmp_path, 3, right_eye_x="")
    assert load_photos(tmp_path, "train") == []


def test_a_photo_has_its_pixels_in_rgb(tmp_path: Path) -> None:
    write_scenes(tmp_path, 1)
    (photo,) = load_photos(tmp_path, "train") or load_photos(tmp_path, "dev")
    orange_suit = photo.pixels[430:440, 120:130].reshape(-1, 3).mean(0)
    assert orange_suit[0] > orange_suit[2]
    assert photo.pixels.dtype == np.uint8


def test_licences_are_counted(tmp_path: Path) -> None:
    assert licences(write_scenes(tmp_path, 2)) == "2 open"


def test_a_folder_without_labels_is_named(tmp_path: Path) -> None:
    with pytest.raises(PairsError, match="holds neither"):
        load_photos(tmp_path, "train")
