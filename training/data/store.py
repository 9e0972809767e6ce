"""A folder of pairs of eye and face: its files, how they are opened, and how they are written.

Letters of shapes: N rows (one face each), E = 2 eyes of a face (0 right, 1 left and mirrored), or 1 where the
folder holds mouths or noses in place of eyes, S side of the eye, W side of the wider eye, F side of the face.

    faces.npy      uint8 [N, F, F, 3]     the aligned face, not mirrored
    eyes.npy       uint8 [N, E, S, S, 3]  what service.vision.eyes.crop_eye gives
    eyes_wide.npy  uint8 [N, E, W, W, 3]  the same with context W / S, which augmentation cuts from
    rows.csv       one line a row: see ROW_COLUMNS
    rejected.csv   one line a photo that gave no row, with the reason
    manifest.json  written last: a folder without it is not complete

While a folder is written, `progress.json` says how many photos are done and how long each file was then.
Whoever goes on cuts all files to those lengths first, and so ends with the bytes of an undisturbed run.
"""

import csv
import hashlib
import io
import json
import tokenize
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NotRequired, TypedDict, TypeVar, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from service.vision.eyes import CROP_VERSION
from service.vision.images import Image
from training.data.face_alignment import FACE_FRAME_VERSION
from training.data.files import HEADER_BYTES, append_bytes, truncate, write_array_header, write_atomically
from training.data.photos import read_table
from training.errors import DataError

T = TypeVar("T")

Part = Literal["eye", "mouth", "nose"]
"""The part of the face that a model sees."""

MANIFEST, PROGRESS = "manifest.json", "progress.json"
ARRAYS = ("faces", "eyes", "eyes_wide")

ROW_COLUMNS = {
    "file": "U",
    "split": "U",
    "source": "U",
    "licence": "U",
    "person": "U",
    "monochrome": "?",
    "ai_made": "?",
    "eye_distance_px": "f4",
    "right_ok": "?",
    "left_ok": "?",
}
"""The columns of rows.csv and their NumPy types; an eye that is not `ok` shows nothing."""

REJECTED_COLUMNS = ("file", "split", "source", "reason")
TABLES = {"rows.csv": tuple(ROW_COLUMNS), "rejected.csv": REJECTED_COLUMNS}


class PairsSettings(TypedDict):
    """What decides the bytes of a folder: another value of any of these is another folder."""

    layout: str
    source: str
    points: str
    part: Part
    limit: int | None
    dev_part: float
    seed: int
    eye_size: int
    wide_size: int
    face_size: int
    face_frame_version: NotRequired[int]  # folders of the first version do not tell
    crop_version: int
    filter_version: int
    fingerprint: str


class Manifest(TypedDict):
    """What manifest.json holds: how the folder was made, and counts of its rows and of rejected photos."""

    settings: PairsSettings
    num_photos: int
    num_rows: int
    rows_by_split: dict[str, int]
    rows_by_licence: dict[str, int]
    rejected_by_reason: dict[str, int]
    rows_sha256: str


@dataclass(frozen=True, slots=True)
class Pairs:
    """A finished folder, its arrays mapped into memory and read only where they are touched."""

    faces: Image
    eyes: Image
    eyes_wide: Image
    rows: NDArray[np.void]
    manifest: Manifest

    @property
    def part(self) -> Part:
        """The part of the face that `eyes` show."""
        return self.manifest["settings"]["part"]


def open_pairs(folder: Path) -> Pairs:
    """The pairs that `prepare` wrote into `folder`; `rows` is a structured array of ROW_COLUMNS.

    Raises:
        DataError: the folder is missing, incomplete, damaged, or of another version.
    """
    manifest = read_manifest(folder)
    if manifest is None:
        state = "is not complete" if folder.is_dir() else "does not exist"
        raise DataError(f"{folder} {state}: make it with 'python -m training prepare SOURCE {folder}'")
    settings = manifest["settings"]
    versions = settings["crop_version"], settings.get("face_frame_version", 1)
    if versions != (CROP_VERSION, FACE_FRAME_VERSION):
        raise DataError(f"{folder} has other versions of crops and face frames, {versions}: prepare it anew")
    faces, eyes, eyes_wide = (
        _open_array(folder / f"{name}.npy", (manifest["num_rows"], *shape))
        for name, shape in zip(ARRAYS, _row_shapes(settings), strict=True)
    )
    rows = _read_rows(folder / "rows.csv")
    if len(rows) != manifest["num_rows"]:
        raise DataError(f"{folder}/rows.csv has {len(rows)} rows, its manifest says {manifest['num_rows']}")
    return Pairs(faces, eyes, eyes_wide, rows, manifest)


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a complete folder, None when there is none yet.

    Raises:
        DataError: it is damaged.
    """
    path = folder / MANIFEST
    return _read_json(path, Manifest) if path.exists() else None


def _read_json(path: Path, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is damaged ({error}): remove it and prepare it anew") from error


def _row_shapes(settings: PairsSettings) -> tuple[tuple[int, ...], ...]:
    """The shape of a row in each of ARRAYS."""
    face, eye, wide = settings["face_size"], settings["eye_size"], settings["wide_size"]
    num_eyes = 2 if settings["part"] == "eye" else 1
    return (face, face, 3), (num_eyes, eye, eye, 3), (num_eyes, wide, wide, 3)


def _open_array(path: Path, shape: tuple[int, ...]) -> Image:
    try:
        array = np.lib.format.open_memmap(path, mode="r")
    except (OSError, ValueError, tokenize.TokenError, RecursionError) as error:
        raise DataError(f"{path} cannot be read ({error}): remove the folder and prepare it anew") from error
    if array.shape != shape or array.dtype != np.uint8:
        found = f"{array.shape} of {array.dtype}"
        raise DataError(f"{path} holds {found}, the manifest says {shape} of uint8: prepare it anew")
    return cast(Image, array)


def _read_rows(path: Path) -> NDArray[np.void]:
    table = list(read_table(path, ROW_COLUMNS))
    columns = {name: _read_column(path, table, name) for name in ROW_COLUMNS}
    rows = np.empty(len(table), dtype=[(name, column.dtype) for name, column in columns.items()])
    for name, column in columns.items():
        rows[name] = column
    return rows


def _read_column(path: Path, table: list[dict[str, str]], name: str) -> NDArray[np.generic]:
    cells, kind = np.array([row[name] for row in table], "U"), ROW_COLUMNS[name]
    try:
        return cells if kind == "U" else cells.astype("f8").astype(kind)
    except ValueError as error:
        raise DataError(f"{path} has a wrong {name} ({error}): prepare the folder anew") from error


@dataclass(frozen=True, slots=True)
class Pair:
    """One face, E x S x S x 3 eyes (right first), the same wider, and the line of rows.csv."""

    face: Image
    eyes: Image
    eyes_wide: Image
    row: tuple[str, ...]


class Progress(TypedDict):
    """What progress.json holds: the photos and rows done, and the lengths of the files then."""

    settings: PairsSettings
    num_photos: int
    num_rows: int
    file_bytes: dict[str, int]


class PairsWriter:
    """Writes a folder of pairs, a chunk of photos at a time; the first `num_photos` photos are done.

    Raises:
        DataError: the folder is of other settings, holds other files, or lacks bytes.
    """

    def __init__(self, out: Path, settings: PairsSettings) -> None:
        self._out = out
        self._progress = _read_progress(out, settings)
        self._shapes = dict(zip(ARRAYS, _row_shapes(settings), strict=True))
        out.mkdir(parents=True, exist_ok=True)
        starts = {f"{name}.npy": bytes(HEADER_BYTES) for name in ARRAYS}
        starts |= {name: _csv_bytes([columns]) for name, columns in TABLES.items()}
        for name, start in starts.items():
            if name in self._progress["file_bytes"]:
                truncate(out / name, self._progress["file_bytes"][name])
            else:
                (out / name).write_bytes(start)

    @property
    def num_photos(self) -> int:
        """How many photos are done, taken or rejected."""
        return self._progress["num_photos"]

    def add(self, pairs: list[Pair], rejected: list[tuple[str, ...]]) -> None:
        """Adds what the next photos gave; once this returns, no kill undoes it."""
        added = {"rows.csv": _csv_bytes([pair.row for pair in pairs]), "rejected.csv": _csv_bytes(rejected)}
        for name, field in zip(ARRAYS, ("face", "eyes", "eyes_wide"), strict=True):
            added[f"{name}.npy"] = b"".join(getattr(pair, field).tobytes() for pair in pairs)
        self._progress = {
            "settings": self._progress["settings"],
            "num_photos": self._progress["num_photos"] + len(pairs) + len(rejected),
            "num_rows": self._progress["num_rows"] + len(pairs),
            "file_bytes": {name: append_bytes(self._out / name, data) for name, data in added.items()},
        }
        write_atomically(self._out / PROGRESS, json.dumps(self._progress))

    def finish(self) -> Manifest:
        """Makes the arrays readable, writes the manifest, and returns it."""
        for name, shape in self._shapes.items():
            write_array_header(self._out / f"{name}.npy", (self._progress["num_rows"], *shape))
        manifest = _count(self._out, self._progress)
        write_atomically(self._out / MANIFEST, json.dumps(manifest, indent=2) + "\n")
        (self._out / PROGRESS).unlink(missing_ok=True)
        return manifest


def refuse_change(found: PairsSettings, wanted: PairsSettings, out: Path) -> None:
    """Lets equal settings pass.

    Raises:
        DataError: they differ; the message names what does.
    """
    before, now = cast(dict[str, object], found), cast(dict[str, object], wanted)
    changed = [
        f"{key} was {before.get(key)!r}, is {now[key]!r}" for key in now if before.get(key) != now[key]
    ]
    if changed:
        raise DataError(f"{out} was made from other photos or settings ({'; '.join(changed)}): name another")


def _read_progress(out: Path, settings: PairsSettings) -> Progress:
    if not (out / PROGRESS).exists():
        ours = {*TABLES, *(f"{name}.npy" for name in ARRAYS), f"{PROGRESS}.new"}
        others = sorted(path.name for path in out.iterdir() if path.name not in ours) if out.is_dir() else []
        if others:
            raise DataError(f"{out} holds other files ({others[0]}, for one): name a new folder")
        return {"settings": settings, "num_photos": 0, "num_rows": 0, "file_bytes": {}}
    progress = _read_json(out / PROGRESS, Progress)
    refuse_change(progress["settings"], settings, out)
    return progress


def _count(out: Path, progress: Progress) -> Manifest:
    rows, rejected = (list(read_table(out / name, TABLES[name])) for name in ("rows.csv", "rejected.csv"))
    return {
        "settings": progress["settings"],
        "num_photos": progress["num_photos"],
        "num_rows": progress["num_rows"],
        "rows_by_split": _counted(row["split"] for row in rows),
        "rows_by_licence": _counted(row["licence"] for row in rows),
        "rejected_by_reason": _counted(row["reason"] for row in rejected),
        "rows_sha256": hashlib.sha256((out / "rows.csv").read_bytes()).hexdigest(),
    }


def _counted(values: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(values).items()))


def _csv_bytes(lines: list[tuple[str, ...]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue().encode()
