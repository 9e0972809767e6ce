"""A folder of pairs while it grows: files that rows are appended to, resumable after a kill -9.

Rows are appended to the arrays and tables, then `progress.json` says how many photos are done and
how long each file is. A run that finds it cuts the files to those lengths and goes on, so that it
ends with the same bytes as an undisturbed one. `manifest.json` is written last, then
`progress.json` goes.
"""

import csv
import hashlib
import io
import json
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict, cast

import numpy as np

from service.vision.eyes import Image
from training.data.store import ARRAYS, LEFT_OUT_COLUMNS, MANIFEST, ROW_COLUMNS, Manifest, Settings
from training.errors import DataError

PROGRESS = "progress.json"
COLUMNS = {"rows.csv": tuple(ROW_COLUMNS), "left_out.csv": LEFT_OUT_COLUMNS}

HEADER_BYTES = 128
"""Room for the header of an .npy file, whatever the number of rows: so it can be written last."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One face, E x S x S x 3 eyes (right first), the same wider, and the line of rows.csv."""

    face: Image
    eyes: Image
    eyes_wide: Image
    row: tuple[str, ...]


class Progress(TypedDict):
    """What progress.json holds: the photos and rows done, and the lengths of the tables then."""

    settings: Settings
    num_photos: int
    num_rows: int
    table_bytes: dict[str, int]


class GrowingFolder:
    """The files of a folder of pairs while it grows; the first `num_photos` photos are done.

    Raises:
        DataError: the folder was begun with other settings, or holds other files.
    """

    def __init__(self, out: Path, settings: Settings) -> None:
        self._out = out
        self._progress = _read_progress(out, settings)
        out.mkdir(parents=True, exist_ok=True)
        face, eye, wide = settings["face_size"], settings["eye_size"], settings["wide_size"]
        self._faces = GrowingArray(out / "faces.npy", (face, face, 3))
        self._eyes = GrowingArray(out / "eyes.npy", (2, eye, eye, 3))
        self._eyes_wide = GrowingArray(out / "eyes_wide.npy", (2, wide, wide, 3))
        for array in (self._faces, self._eyes, self._eyes_wide):
            array.cut_to(self._progress["num_rows"])
        for name in COLUMNS:
            self._cut_table(name)

    @property
    def num_photos(self) -> int:
        """How many photos are done, taken or left out."""
        return self._progress["num_photos"]

    def add(self, num_photos: int, pairs: list[Pair], left_out: list[tuple[str, ...]]) -> None:
        """Adds what the next `num_photos` photos gave; once this returns, no kill undoes it."""
        assert len(pairs) + len(left_out) == num_photos
        self._faces.append([pair.face for pair in pairs])
        self._eyes.append([pair.eyes for pair in pairs])
        self._eyes_wide.append([pair.eyes_wide for pair in pairs])
        lines = {"rows.csv": [pair.row for pair in pairs], "left_out.csv": left_out}
        self._progress = {
            "settings": self._progress["settings"],
            "num_photos": self._progress["num_photos"] + num_photos,
            "num_rows": self._progress["num_rows"] + len(pairs),
            "table_bytes": {name: self._append_lines(name, lines[name]) for name in lines},
        }
        write_atomically(self._out / PROGRESS, json.dumps(self._progress))

    def finish(self) -> Manifest:
        """Makes the arrays readable, writes the manifest, and answers it."""
        for array in (self._faces, self._eyes, self._eyes_wide):
            array.finish(self._progress["num_rows"])
        manifest = _count(self._out, self._progress)
        write_atomically(self._out / MANIFEST, json.dumps(manifest, indent=2) + "\n")
        (self._out / PROGRESS).unlink(missing_ok=True)
        return manifest

    def _cut_table(self, name: str) -> None:
        path = self._out / name
        size = self._progress["table_bytes"].get(name)
        if size is None:
            path.write_bytes(_csv_bytes([COLUMNS[name]]))
            return
        found = path.stat().st_size if path.exists() else 0
        if found < size:
            raise DataError(f"{path} has {found} bytes, {size} are needed to go on: remove its folder")
        os.truncate(path, size)

    def _append_lines(self, name: str, lines: list[tuple[str, ...]]) -> int:
        with (self._out / name).open("ab") as file:
            file.write(_csv_bytes(lines))
            file.flush()
            os.fsync(file.fileno())
            return file.tell()


def refuse_change(found: Settings, wanted: Settings, out: Path) -> None:
    """Lets equal settings pass.

    Raises:
        DataError: they differ; the message names what does.
    """
    before, now = cast(dict[str, object], found), cast(dict[str, object], wanted)
    changed = [
        f"{key} was {before.get(key)!r}, is {now[key]!r}" for key in now if before.get(key) != now[key]
    ]
    if changed:
        raise DataError(
            f"{out} was made from other photos or settings ({'; '.join(changed)}): "
            "name another folder, or remove this one"
        )


def _read_progress(out: Path, settings: Settings) -> Progress:
    try:
        progress = cast(Progress, json.loads((out / PROGRESS).read_text(encoding="utf-8")))
    except FileNotFoundError:
        ours = {*COLUMNS, *(f"{name}.npy" for name in ARRAYS), f"{PROGRESS}.new"}
        others = sorted(path.name for path in out.iterdir() if path.name not in ours) if out.is_dir() else []
        if others:
            raise DataError(f"{out} holds other files ({others[0]}, for one): name a new folder") from None
        return {"settings": settings, "num_photos": 0, "num_rows": 0, "table_bytes": {}}
    refuse_change(progress["settings"], settings, out)
    return progress


def _count(out: Path, progress: Progress) -> Manifest:
    rows, left_out = _read_table(out / "rows.csv"), _read_table(out / "left_out.csv")
    return {
        "settings": progress["settings"],
        "num_photos": progress["num_photos"],
        "num_rows": progress["num_rows"],
        "num_eyes_not_ok": sum((row["right_ok"], row["left_ok"]).count("0") for row in rows),
        "rows_by_split": _counted(row["split"] for row in rows),
        "rows_by_source": _counted_by(rows, "source", "split"),
        "rows_by_licence": _counted(row["licence"] for row in rows),
        "left_out_by_reason": _counted(row["reason"] for row in left_out),
        "left_out_by_source": _counted_by(left_out, "source", "reason"),
        "rows_sha256": hashlib.sha256((out / "rows.csv").read_bytes()).hexdigest(),
    }


def _read_table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def _counted(values: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(values).items()))


def _counted_by(rows: list[dict[str, str]], outer: str, inner: str) -> dict[str, dict[str, int]]:
    names = sorted({row[outer] for row in rows})
    return {name: _counted(row[inner] for row in rows if row[outer] == name) for name in names}


def _csv_bytes(lines: list[tuple[str, ...]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue().encode()


class GrowingArray:
    """A uint8 .npy file that rows are appended to; only `finish` makes it readable."""

    def __init__(self, path: Path, row_shape: tuple[int, ...]) -> None:
        self._path = path
        self._row_shape = row_shape

    @property
    def num_rows(self) -> int:
        """How many whole rows the file holds."""
        size = self._path.stat().st_size if self._path.exists() else 0
        return max(0, size - HEADER_BYTES) // int(np.prod(self._row_shape))

    def cut_to(self, num_rows: int) -> None:
        """Drops everything after the first `num_rows` rows (an earlier run may have been killed there).

        Raises:
            DataError: the file holds fewer rows than that.
        """
        size = HEADER_BYTES + num_rows * int(np.prod(self._row_shape))
        found = self._path.stat().st_size if self._path.exists() else 0
        if num_rows and found < size:
            raise DataError(f"{self._path} has {found} bytes, {size} are needed to go on: remove its folder")
        with self._path.open("ab") as file:
            file.truncate(size)

    def append(self, rows: list[Image]) -> None:
        """Adds rows at the end and sees them on the disk."""
        assert all(row.shape == self._row_shape and row.dtype == np.uint8 for row in rows)
        with self._path.open("ab") as file:
            for row in rows:
                file.write(row.tobytes())
            file.flush()
            os.fsync(file.fileno())

    def finish(self, num_rows: int) -> None:
        """Writes the header, so that np.load reads `num_rows` rows; may be repeated."""
        shape = (num_rows, *self._row_shape)
        header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}"
        start = np.lib.format.magic(1, 0)
        room = HEADER_BYTES - len(start) - 2
        with self._path.open("r+b") as file:
            file.write(start + room.to_bytes(2, "little") + header.ljust(room - 1).encode("latin1") + b"\n")
            file.flush()
            os.fsync(file.fileno())


def write_atomically(path: Path, text: str) -> None:
    """Puts `text` where `path` is, wholly or not at all, even if the process is killed meanwhile."""
    beside = path.with_name(path.name + ".new")
    with beside.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)
