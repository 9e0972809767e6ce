"""The three layouts of photos, and splits by person."""

from collections import defaultdict
from pathlib import Path

import pytest

from tests.drawn_faces import write_celeba
from training.data.photos import SourcePhoto, find_layout, list_photos
from training.errors import DataError


def splits_of_persons(photos: list[SourcePhoto]) -> dict[str, set[str]]:
    splits: dict[str, set[str]] = defaultdict(set)
    for photo in photos:
        splits[photo.person].add(photo.split)
    return splits


def csv_of(folder: Path, rows: list[str], columns: str = "") -> Path:
    path = folder / "labels.csv"
    head = columns or "file,split,right_eye_x,right_eye_y,left_eye_x,left_eye_y,person,label_spread"
    path.write_text("\n".join([head, *rows]) + "\n")
    return path


def many_persons(folder: Path) -> Path:
    splits = ["train"] * 900 + ["val"] * 99
    return csv_of(folder, [f"{n}.jpg,{split},1,2,30,2,p{n // 3},0.05" for n, split in enumerate(splits)])


def test_dev_is_the_stated_part_of_the_training_persons(tmp_path: Path) -> None:
    photos = list_photos(many_persons(tmp_path), "csv", dev_part=0.2, seed=0)
    splits = splits_of_persons(photos)
    assert all(len(each) == 1 for each in splits.values())
    num_dev = sum("dev" in each for each in splits.values())
    # 300 persons at 0.2: 60, with a standard deviation of 7.
    assert 40 <= num_dev <= 80
    assert sum("val" in each for each in splits.values()) == 33


def test_the_seed_decides_the_sample_and_nobodys_split(tmp_path: Path) -> None:
    path = many_persons(tmp_path)
    one, other = (list_photos(path, "csv", dev_part=0.2, seed=seed) for seed in (0, 1))
    assert one == other
    few, others = (list_photos(path, "csv", dev_part=0.2, seed=seed, limit=50) for seed in (0, 1))
    assert {photo.file for photo in few} != {photo.file for photo in others}


def test_a_person_met_in_train_and_val_goes_to_val(tmp_path: Path) -> None:
    rows = ["a.jpg,train,1,2,30,2,ann,", "b.jpg,val,1,2,30,2,ann,", "c.jpg,train,1,2,30,2,bob,"]
    path = csv_of(tmp_path, rows)
    photos = list_photos(path, "csv", dev_part=0, seed=0)
    assert [photo.split for photo in photos] == ["val", "val", "train"]


def test_limit_takes_the_same_sample_whatever_the_order_of_the_rows(tmp_path: Path) -> None:
    path = many_persons(tmp_path)
    lines = path.read_text().splitlines()
    chosen = {photo.file for photo in list_photos(path, "csv", dev_part=0, seed=0, limit=50)}
    path.write_text("\n".join([lines[0], *lines[:0:-1]]) + "\n")
    assert {photo.file for photo in list_photos(path, "csv", dev_part=0, seed=0, limit=50)} == chosen
    assert len(chosen) == 50


def of_licences(tmp_path: Path) -> Path:
    path = tmp_path / "faces.csv"
    licences = ["open", "", "nc"] * 40
    lines = [f"{number}.jpg,train,1,2,30,2,{licence}" for number, licence in enumerate(licences)]
    path.write_text("\n".join(["file,split,right_eye_x,right_eye_y,left_eye_x,left_eye_y,licence", *lines]))
    return path


def test_only_the_photos_under_a_license_are_taken_and_stay_in_their_splits(tmp_path: Path) -> None:
    path = of_licences(tmp_path)
    every = list_photos(path, "csv", dev_part=0.3, seed=0)
    chosen = list_photos(path, "csv", dev_part=0.3, seed=0, licences=["open"])
    assert chosen == [photo for photo in every if photo.licence == "open"] and len(chosen) == 40
    assert len(list_photos(path, "csv", dev_part=0.3, seed=0, licences=["open", "nc"])) == 80


def test_a_license_that_no_photo_has_is_named_beside_those_that_they_have(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no photos under the license cc0, only under nc, open, unstated"):
        list_photos(of_licences(tmp_path), "csv", dev_part=0, seed=0, licences=["cc0"])


def test_a_row_without_points_is_a_photo_whose_eyes_are_not_known(tmp_path: Path) -> None:
    (photo,) = list_photos(csv_of(tmp_path, ["a.jpg,train,,,,,ann,"]), "csv", dev_part=0, seed=0)
    assert photo.eyes is None and photo.labeled


def test_where_rows_are_dev_none_else_is(tmp_path: Path) -> None:
    rows = [f"{n}.jpg,{'dev' if n == 7 else 'train'},1,2,30,2,{n}," for n in range(20)]
    photos = list_photos(csv_of(tmp_path, rows), "csv", dev_part=0.5, seed=0)
    assert [photo.file for photo in photos if photo.split == "dev"] == ["7.jpg"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a.jpg,test,1,2,30,2,ann,", "split 'test', expected a file and train, dev or val"),
        ("a.jpg,train,1,2,left,2,ann,", "'left' where a number"),
        ("a.jpg,train,1,2,nan,2,ann,", "'nan' where a number"),
    ],
)
def test_a_wrong_row_is_named(tmp_path: Path, row: str, message: str) -> None:
    with pytest.raises(DataError, match=f"a.jpg.*{message}"):
        list_photos(csv_of(tmp_path, [row]), "csv", dev_part=0, seed=0)


def test_a_file_that_is_no_csv_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(bytes(range(256)))
    with pytest.raises(DataError, match=r"photo\.jpg is no CSV in UTF-8"):
        list_photos(path, "csv", dev_part=0, seed=0)


def test_a_csv_from_a_spreadsheet_is_read(tmp_path: Path) -> None:
    path = csv_of(tmp_path, ["a.jpg,train,1,2,30,2,Zoë,"])
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    (photo,) = list_photos(path, "csv", dev_part=0, seed=0)
    assert (photo.file, photo.person) == ("a.jpg", "Zoë")


def test_missing_columns_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="lacks the columns left_eye_x, left_eye_y"):
        list_photos(csv_of(tmp_path, [], "file,split,right_eye_x,right_eye_y"), "csv", dev_part=0, seed=0)


def test_a_source_without_photos_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no photos"):
        list_photos(tmp_path, "folder", dev_part=0, seed=0)
    with pytest.raises(DataError, match="does not exist"):
        find_layout(tmp_path / "nothing")


def test_celebas_partition_and_identities_decide_the_splits(tmp_path: Path) -> None:
    write_celeba(tmp_path, num_persons=6, photos_each=2)
    assert find_layout(tmp_path) == "celeba"
    photos = list_photos(tmp_path, "celeba", dev_part=0.05, seed=0)
    assert [photo.split for photo in photos] == ["train", "train", "dev", "dev", "val", "val"] * 2
    assert len({photo.person for photo in photos}) == 6
    assert {photo.licence for photo in photos} == {"non-commercial"}


def test_a_person_whom_celeba_has_in_two_partitions_goes_to_the_later_one(tmp_path: Path) -> None:
    write_celeba(tmp_path, num_persons=3, photos_each=2)
    partitions = tmp_path / "list_eval_partition.txt"
    partitions.write_text(partitions.read_text().replace("000002.jpg 0", "000002.jpg 2"))
    photos = list_photos(tmp_path, "celeba", dev_part=0.05, seed=0)
    assert [photo.split for photo in photos] == ["val", "val", "dev", "dev", "val", "val"]


def test_celebas_lefteye_is_the_subjects_right(tmp_path: Path) -> None:
    write_celeba(tmp_path, num_persons=1)
    photo = list_photos(tmp_path, "celeba", dev_part=0, seed=0)[0]
    # A subject's right eye is at the left of an unmirrored photo.
    assert photo.eyes == ((70, 111), (108, 111))


def test_a_celeba_tree_without_its_files_says_which(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"lacks identity_CelebA\.txt, list_eval_partition\.txt"):
        list_photos(tmp_path, "celeba", dev_part=0, seed=0)


def test_a_person_of_a_folder_is_the_sub_folder_or_the_photo(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.PNG", "notes.txt", "ann/1.jpg", "ann/2.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert find_layout(tmp_path) == "folder"
    photos = list_photos(tmp_path, "folder", dev_part=0.05, seed=0)
    assert [(photo.file, photo.person) for photo in photos] == [
        ("a.jpg", "a.jpg"),
        ("ann/1.jpg", "ann"),
        ("ann/2.jpg", "ann"),
        ("b.PNG", "b.PNG"),
    ]
    assert not any(photo.labeled for photo in photos)


def test_a_folder_keeps_a_twentieth_of_its_persons_for_val(tmp_path: Path) -> None:
    for number in range(400):
        (tmp_path / f"{number}.jpg").touch()
    splits = [photo.split for photo in list_photos(tmp_path, "folder", dev_part=0.05, seed=0)]
    # 20 expected, standard deviation 4.4.
    assert 7 <= splits.count("val") <= 33
    assert 7 <= splits.count("dev") <= 33
