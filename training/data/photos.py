"""Photos to prepare, from three layouts on disk, each with its split, person and, if labeled, eyes.

Knows file formats; decodes no pixel. Right and left are the subject's.

    csv     a labeled CSV (columns: see `from_csv`); its photos lie in a folder of its name, or beside it
    folder  any folder of photos; no labels, so the points come from an eye finder
    celeba  img_align_celeba/, identity_CelebA.txt, list_eval_partition.txt, list_landmarks_align_celeba.txt
"""

import csv
import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, cast, get_args

from service.system.files import read_regular_file
from service.vision.images import PHOTO_SUFFIXES
from training.data.splits import DEV_PART, VAL_PART, Split, hash_fraction, split_by_person
from training.errors import DataError

Layout = Literal["auto", "csv", "folder", "celeba"]
Point = tuple[float, float]

CSV_COLUMNS = ("file", "split", "right_eye_x", "right_eye_y", "left_eye_x", "left_eye_y")
CELEBA_FILES = ("identity_CelebA.txt", "list_eval_partition.txt", "list_landmarks_align_celeba.txt")
MAX_FILE_BYTES = 1 << 29
"""Of a photo: larger files are none."""

CELEBA_SPLITS: dict[str, Split] = {"0": "train", "1": "dev", "2": "val"}


@dataclass(frozen=True, slots=True)
class SourcePhoto:
    """One photo to prepare; `eyes` are the right and the left eye's center in its pixels, if known."""

    path: Path
    file: str
    split: Split
    source: str
    licence: str
    person: str
    eyes: tuple[Point, Point] | None = None
    labeled: bool = True
    label_spread: float | None = None
    ai_made: bool = False


def read_photo(path: Path) -> bytes:
    """The bytes of a photo's file.

    Raises:
        OSError: it cannot be read, is not a regular file, or has more than MAX_FILE_BYTES.
    """
    return read_regular_file(path, MAX_FILE_BYTES)


def find_layout(source: Path) -> Literal["csv", "folder", "celeba"]:
    """The layout that `source` has.

    Raises:
        DataError: there is nothing at `source`.
    """
    if source.is_file():
        return "csv"
    if not source.is_dir():
        raise DataError(f"{source} does not exist; expected a CSV, a folder of photos, or CelebA's folder")
    return "celeba" if all((source / name).is_file() for name in CELEBA_FILES) else "folder"


def list_photos(
    source: Path,
    layout: Literal["csv", "folder", "celeba"],
    *,
    dev_part: float = DEV_PART,
    seed: int = 0,
    limit: int | None = None,
    licences: Collection[str] = (),
) -> list[SourcePhoto]:
    """All photos of `source` in a fixed order; with `limit` that many, chosen by a hash of `seed` and file.

    With `licences` only those under one of them; the rest stay in the same splits.

    Raises:
        DataError: the source lacks files, columns, or photos under these licenses.
    """
    read = {"csv": from_csv, "folder": from_folder, "celeba": from_celeba}[layout]
    photos = list(read(source))
    splits = split_by_person(((photo.person, photo.split) for photo in photos), dev_part=dev_part)
    photos = [replace(photo, split=splits[photo.person]) for photo in photos]
    if not photos:
        raise DataError(f"{source} holds no photos (layout {layout})")
    if licences:
        there = sorted({photo.licence for photo in photos})
        photos = [photo for photo in photos if photo.licence in licences]
        if not photos:
            wanted, found = ", ".join(sorted(licences)), ", ".join(there)
            raise DataError(f"{source} holds no photos under the license {wanted}, only under {found}")
    if limit is not None:
        by_hash = sorted(photos, key=lambda photo: hash_fraction(photo.file, seed))
        chosen = {photo.file for photo in by_hash[:limit]}
        photos = [photo for photo in photos if photo.file in chosen]
    return photos


def from_csv(path: Path) -> Iterator[SourcePhoto]:
    """The rows of a labeled CSV: file, split (train, dev or val), right_eye_x … left_eye_y, and, where it
    has them, source, licence, person, label_spread and ai_made. Empty points: no eyes are known.

    A file is relative to the folder that is named like the CSV, without `.csv`, or else to the CSV's own.
    """
    folder = path.with_suffix("") if path.with_suffix("").is_dir() else path.parent
    for row in read_table(path, CSV_COLUMNS):
        file, source = row["file"], row.get("source") or path.stem
        spread, ai_made = read_number(row.get("label_spread"), file), row.get("ai_made") == "1"
        split, licence, person, eyes = read_split(row), read_licence(row), read_person(row), _read_eyes(row)
        yield SourcePhoto(
            folder / file, file, split, source, licence, person, eyes, label_spread=spread, ai_made=ai_made
        )


def read_table(path: Path, columns: Collection[str]) -> Iterator[dict[str, str]]:
    """The rows of a CSV in UTF-8 that has at least these columns.

    Raises:
        DataError: there is no such file, it is no CSV, or it lacks columns.
    """
    try:
        # utf-8-sig: spreadsheets begin their files with a mark.
        with path.open(newline="", encoding="utf-8-sig") as lines:
            reader = csv.DictReader(lines, restval="")
            missing = [name for name in columns if name not in (reader.fieldnames or [])]
            if missing:
                raise DataError(f"{path} lacks the columns {', '.join(missing)}")
            yield from reader
    except FileNotFoundError as error:
        raise DataError(f"there is no file {path}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is no CSV in UTF-8: {error}") from error


def read_person(row: Mapping[str, str]) -> str:
    """Who a row says is shown; the file stands for somebody without a name."""
    return row.get("person") or row["file"]


def read_licence(row: Mapping[str, str]) -> str:
    """The license that a row names."""
    return row.get("licence") or "unstated"


def read_split(row: Mapping[str, str]) -> Split:
    """The split that a row names, `train` where the table has no such column.

    Raises:
        DataError: it names another one, or no file; the message names the file.
    """
    split = row.get("split", "train")
    if not row["file"] or split not in get_args(Split):
        raise DataError(f"{row['file']!r} has the split {split!r}, expected a file and train, dev or val")
    return cast(Split, split)


def _read_eyes(row: Mapping[str, str]) -> tuple[Point, Point] | None:
    right, left = (read_point(row, name) for name in ("right_eye", "left_eye"))
    return (right, left) if right and left else None


def read_point(row: Mapping[str, str], name: str) -> Point | None:
    """The point in two cells of a row, such as `nose_x` and `nose_y`; None if one is empty or missing.

    Raises:
        DataError: one is no finite number; the message names the file.
    """
    x, y = (read_number(row.get(f"{name}_{axis}"), row["file"]) for axis in "xy")
    return None if x is None or y is None else (x, y)


def read_number(text: str | None, file: str) -> float | None:
    """The number in a cell of the row of `file`; None for an empty cell.

    Raises:
        DataError: it is no finite number; the message names the file.
    """
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{file} has {text!r} where a number or nothing was expected")
    return value


def from_folder(folder: Path) -> Iterator[SourcePhoto]:
    """The photos below a folder; a person is the sub-folder a photo lies in, or else the photo itself."""
    paths = sorted(
        path for path in folder.rglob("*") if path.suffix.lower() in PHOTO_SUFFIXES and path.is_file()
    )
    for path in paths:
        file = path.relative_to(folder).as_posix()
        person = Path(file).parent.as_posix() if "/" in file else file
        split: Split = "val" if hash_fraction(f"val {person}") < VAL_PART else "train"
        yield SourcePhoto(path, file, split, folder.resolve().name, "unstated", person, labeled=False)


def from_celeba(folder: Path) -> Iterator[SourcePhoto]:
    """The photos of CelebA's own layout, with its identities, partition and landmarks.

    Its `lefteye` is the viewer's left, so the subject's right.
    """
    missing = [name for name in CELEBA_FILES if not (folder / name).is_file()]
    if missing:
        raise DataError(f"{folder} lacks {', '.join(missing)} of CelebA's layout")
    persons, parts, landmarks = (dict(_named_lines(folder / name)) for name in CELEBA_FILES)
    for file in sorted(parts):
        points = dict(zip(CSV_COLUMNS[2:], landmarks.get(file, ()), strict=False))
        if parts[file][0] not in CELEBA_SPLITS:
            raise DataError(f"{file} is in partition {parts[file][0]!r}, expected 0, 1 or 2")
        person = persons[file][0] if file in persons else file
        split = CELEBA_SPLITS[parts[file][0]]
        eyes = _read_eyes({"file": file, **points})
        path = folder / "img_align_celeba" / file
        yield SourcePhoto(path, file, split, "celeba", "non-commercial", person, eyes)


def _named_lines(path: Path) -> Iterator[tuple[str, tuple[str, ...]]]:
    # The landmarks begin with a count and column names; only a photo's line begins with a file name.
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            name, *values = line.split() or [""]
            if Path(name).suffix.lower() in PHOTO_SUFFIXES and values:
                yield name, tuple(values)
