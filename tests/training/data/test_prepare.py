"""From photos to pairs: what is taken, what is rejected and why, and parity with the service's crops."""

import csv
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from service.inference.haar import HaarEyeFinder
from service.vision.eyes import Eye, crop_eye, eyes_from_points
from service.vision.images import decode, encode, read_header
from tests.drawn_faces import DrawnPhoto, draw_photo, write_celeba, write_csv
from tests.drawn_people import Shot, make_person
from tests.fakes import KnownEyes, astronaut
from training.data.face_alignment import align_face
from training.data.photos import MAX_FILE_BYTES
from training.data.prepare import PrepareSettings, prepare
from training.data.store import Pairs, open_pairs
from training.errors import DataError


def rejected(folder: Path) -> dict[str, str]:
    with (folder / "rejected.csv").open(newline="") as lines:
        return {row["file"]: row["reason"] for row in csv.DictReader(lines)}


def test_the_eyes_on_disk_are_the_services_crops_byte_for_byte(drawn_csv: Path, drawn_pairs: Pairs) -> None:
    with drawn_csv.open(newline="") as lines:
        labels = {row["file"]: row for row in csv.DictReader(lines)}
    for index, row in enumerate(drawn_pairs.rows):
        data = (drawn_csv.with_suffix("") / row["file"]).read_bytes()
        photo = decode(data, read_header(data, max_pixels=10**6))
        label = labels[row["file"]]
        right = (float(label["right_eye_x"]), float(label["right_eye_y"]))
        left = (float(label["left_eye_x"]), float(label["left_eye_y"]))
        for number, eye in enumerate(eyes_from_points(right, left)):
            assert (drawn_pairs.eyes[index, number] == crop_eye(photo, eye, 64)).all()
            assert (drawn_pairs.eyes_wide[index, number] == crop_eye(photo, eye, 96, context=1.5)).all()
        assert (drawn_pairs.faces[index] == align_face(photo, right, left, 128)[0]).all()


def test_every_photo_is_a_row_or_rejected(drawn_csv: Path, drawn_folder: Path, drawn_pairs: Pairs) -> None:
    with drawn_csv.open(newline="") as lines:
        files = [row["file"] for row in csv.DictReader(lines)]
    taken, left = list(drawn_pairs.rows["file"]), rejected(drawn_folder)
    assert sorted([*taken, *left]) == sorted(files)
    assert taken == [file for file in files if file in set(taken)]


def test_the_manifest_counts_what_is_there_and_names_no_path(drawn_folder: Path, drawn_pairs: Pairs) -> None:
    manifest, rows = drawn_pairs.manifest, drawn_pairs.rows
    assert manifest["num_photos"] == 24
    assert manifest["num_rows"] == len(rows) == sum(manifest["rows_by_split"].values())
    assert manifest["rows_by_licence"] == {"open": len(rows)}
    assert sum(manifest["rejected_by_reason"].values()) == 24 - len(rows)
    digest = hashlib.sha256((drawn_folder / "rows.csv").read_bytes()).hexdigest()
    assert manifest["rows_sha256"] == digest
    assert str(drawn_folder.parent) not in json.dumps(manifest)
    assert manifest["settings"]["source"] == "faces.csv"


def test_a_second_run_does_nothing_and_says_so(
    drawn_csv: Path, drawn_folder: Path, drawn_pairs: Pairs, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in drawn_folder.iterdir()}
    assert prepare(PrepareSettings(drawn_csv, drawn_folder, face_size=128)) == drawn_pairs.manifest
    assert {path: path.stat().st_mtime_ns for path in drawn_folder.iterdir()} == before
    assert "nothing to do" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1}, "seed was 0, is 1"),
        ({"eye_size": 48}, "eye_size was 64, is 48"),
        ({"limit": 9}, "limit was"),
    ],
)
def test_other_settings_are_refused(
    drawn_csv: Path, drawn_folder: Path, change: dict[str, int], message: str
) -> None:
    settings = PrepareSettings(drawn_csv, drawn_folder, face_size=128)
    with pytest.raises(DataError, match=message):
        prepare(replace(settings, **change))  # type: ignore[arg-type]


def test_other_photos_are_refused(tmp_path: Path, drawn_photos: list[DrawnPhoto]) -> None:
    source = write_csv(tmp_path / "source", drawn_photos[:3])
    prepare(PrepareSettings(source, tmp_path / "out"))
    (tmp_path / "source" / "faces" / "drawn-00001.jpg").write_bytes(encode(drawn_photos[4].pixels, "jpeg"))
    with pytest.raises(DataError, match="fingerprint was"):
        prepare(PrepareSettings(source, tmp_path / "out"))


def test_each_flaw_is_rejected_under_its_own_name(tmp_path: Path) -> None:
    shot = Shot()
    good = draw_photo(make_person(1), shot)
    photos = {
        "good": good,
        "small": draw_photo(make_person(1), Shot(90, 100, eye_distance_px=22, middle=(45, 42))),
        "outside": draw_photo(make_person(1), replace(shot, middle=(40.0, 105.0))),
        "blurred": replace(good, pixels=np.asarray(cv2.GaussianBlur(good.pixels, (0, 0), 3.5), np.uint8)),
        "sunglasses": draw_photo(make_person(1), replace(shot, sunglasses=True)),
        **dict.fromkeys(("far", "doubtful", "unlabeled", "missing", "broken", "cut", "large"), good),
    }
    source = write_csv(tmp_path, list(photos.values()))
    named = dict(zip(photos, sorted(path.name for path in (tmp_path / "faces").iterdir()), strict=True))
    with source.open(newline="") as lines:
        rows = {row["file"]: row for row in csv.DictReader(lines)}
    rows[named["doubtful"]]["label_spread"] = "0.1501"
    rows[named["good"]]["label_spread"] = "0.15"
    rows[named["far"]]["left_eye_x"] = "1e12"
    rows[named["unlabeled"]]["left_eye_x"] = ""
    rewrite(source, list(rows.values()))
    (tmp_path / "faces" / named["missing"]).unlink()
    (tmp_path / "faces" / named["broken"]).write_bytes(b"no photo at all")
    whole = (tmp_path / "faces" / named["cut"]).read_bytes()
    (tmp_path / "faces" / named["cut"]).write_bytes(whole[: len(whole) // 3])
    os.truncate(tmp_path / "faces" / named["large"], MAX_FILE_BYTES + 1)
    manifest = prepare(PrepareSettings(source, tmp_path / "out"))
    reasons = rejected(tmp_path / "out")
    assert {flaw: reasons.get(file) for flaw, file in named.items()} == {
        "good": None,
        "small": "too_small",
        "outside": "outside_photo",
        "blurred": "blurred",
        "far": "outside_photo",
        "sunglasses": "eyes_occluded",
        "doubtful": "inconsistent_label",
        "unlabeled": "no_eye",
        "missing": "photo_missing",
        "broken": "unreadable",
        "cut": "unreadable",
        "large": "unreadable",
    }
    assert manifest["rejected_by_reason"]["unreadable"] == 3


def test_photos_of_which_none_is_there_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    source = write_csv(tmp_path, [draw_photo(make_person(1), Shot())])
    elsewhere = source.rename(tmp_path / "other.csv")
    with pytest.raises(DataError, match=f"none of the 1 photos is there; the first were {tmp_path}/"):
        prepare(PrepareSettings(elsewhere, tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def rewrite(path: Path, rows: Sequence[dict[str, str]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def test_celeba_prepares_with_its_labels(tmp_path: Path) -> None:
    write_celeba(tmp_path / "celeba", num_persons=6, photos_each=2)
    prepare(PrepareSettings(tmp_path / "celeba", tmp_path / "out"))
    pairs = open_pairs(tmp_path / "out")
    assert pairs.manifest["settings"]["layout"] == "celeba"
    assert pairs.manifest["rows_by_split"] == {"dev": 4, "train": 4, "val": 4}
    assert pairs.manifest["rows_by_licence"] == {"non-commercial": 12}


def test_limit_takes_that_many_photos(tmp_path: Path, drawn_csv: Path) -> None:
    manifest = prepare(PrepareSettings(drawn_csv, tmp_path / "out", limit=5))
    assert manifest["num_photos"] == 5


def folder_of_photos(folder: Path, num: int) -> list[DrawnPhoto]:
    """Photos of persons 0, 1, ...; all with their eyes at the same place."""
    folder.mkdir()
    photos = [draw_photo(make_person(number), Shot()) for number in range(num)]
    for number, photo in enumerate(photos):
        (folder / f"{number}.png").write_bytes(encode(photo.pixels, "png"))
    return photos


def test_a_plain_folder_takes_its_points_from_the_finder(tmp_path: Path) -> None:
    photo = folder_of_photos(tmp_path / "photos", 3)[0]
    finder = KnownEyes([in_parts(eye) for eye in eyes_from_points(photo.right, photo.left)])
    settings = PrepareSettings(tmp_path / "photos", tmp_path / "out")
    manifest = prepare(settings, finder=finder)
    assert (manifest["num_rows"], manifest["settings"]["points"]) == (3, "KnownEyes")
    expected = align_face(photo.pixels, photo.right, photo.left, 192)[0]
    # The finder's parts of width and height are rounded numbers: a level or two at edges.
    assert np.abs(open_pairs(tmp_path / "out").faces[0].astype(int) - expected).max() <= 2


def in_parts(eye: Eye) -> Eye:
    return replace(eye, x=eye.x / Shot().width, y=eye.y / Shot().height, size_px=eye.size_px / Shot().width)


@pytest.mark.parametrize(("num_eyes", "reason"), [(0, "no_eye"), (1, "one_eye_only")])
def test_a_photo_of_a_folder_needs_both_eyes(tmp_path: Path, num_eyes: int, reason: str) -> None:
    photo = folder_of_photos(tmp_path / "photos", 1)[0]
    finder = KnownEyes([in_parts(eye) for eye in eyes_from_points(photo.right, photo.left)][:num_eyes])
    manifest = prepare(PrepareSettings(tmp_path / "photos", tmp_path / "out"), finder=finder)
    assert manifest["rejected_by_reason"] == {reason: 1}


def test_a_folder_is_looked_at_by_the_same_eyes_as_in_serving(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "astronaut.png").write_bytes(encode(astronaut(), "png"))
    (tmp_path / "photos" / "sky.png").write_bytes(encode(np.full((200, 200, 3), 180, np.uint8), "png"))
    manifest = prepare(PrepareSettings(tmp_path / "photos", tmp_path / "out"), finder=HaarEyeFinder())
    assert manifest["settings"]["points"] == "HaarEyeFinder"
    assert manifest["rejected_by_reason"] == {"no_eye": 1}
    expected = [crop_eye(astronaut(), eye, 64) for eye in HaarEyeFinder().detect(astronaut()).eyes]
    assert (open_pairs(tmp_path / "out").eyes[0] == np.stack(expected)).all()


def test_drawn_photos_are_the_same_for_the_same_seed(drawn_photos: list[DrawnPhoto]) -> None:
    again = draw_photo(drawn_photos[5].person, drawn_photos[5].shot)
    assert (again.pixels == drawn_photos[5].pixels).all()
    assert again.right == drawn_photos[5].right


def test_a_photo_without_color_is_noted_as_monochrome(tmp_path: Path) -> None:
    colored = draw_photo(make_person(1), Shot())
    luma = colored.pixels.mean(axis=2, keepdims=True)
    gray = replace(colored, pixels=np.repeat(luma, 3, axis=2).astype(np.uint8))
    source = write_csv(tmp_path, [colored, gray])
    prepare(PrepareSettings(source, tmp_path / "out"))
    assert open_pairs(tmp_path / "out").rows["monochrome"].tolist() == [False, True]
