"""The manifest of a folder of faces: JSON lines, by which later runs resume.

The rows of a photo are written at once, after its faces, so that a kill leaves no row without its face. Of
several runs over one photo the last rows count.
"""

import json
import os
from pathlib import Path
from typing import Final, Self, TypedDict, cast

from service.errors import Eye2FaceError

NAME: Final = "manifest.jsonl"


class Row(TypedDict):
    """One eye of a photo, with its face or the error in place of one."""

    input: str
    sha256: str | None  # of the photo's bytes; None: it could not be read
    run: str  # changes with the options, the settings and the model
    num_rows: int  # of this photo in this run
    eye: dict[str, float | str] | None  # as POST /eyes has it
    quality: dict[str, float] | None
    output: str | None  # the face's file, beside the manifest
    error: dict[str, str] | None  # code and detail


class ForeignManifest(Eye2FaceError):
    """The folder holds a manifest that this program did not write."""


class Manifest:
    """The rows of a folder by photo, in the order of the latest run; a context manager that appends rows."""

    def __init__(self, folder: Path) -> None:
        """Reads the file and truncates what a kill left incomplete: the last line, or the last photo's rows.

        Raises:
            ForeignManifest: the file was not written by this program.
        """
        self._folder = folder
        self.rows: dict[str, list[Row]] = {}
        self.outputs: set[str] = set()
        """The names of all faces that were ever written, those of other options included."""
        path = folder / NAME
        path.touch()
        lines = [line for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
        rows = [_parse(line, f"line {number} of {path}") for number, line in enumerate(lines, start=1)]
        kept = 0
        while kept < len(rows) and kept + rows[kept]["num_rows"] <= len(rows):
            self._take(rows[kept : kept + rows[kept]["num_rows"]])
            kept += rows[kept]["num_rows"]
        os.truncate(path, sum(map(len, lines[:kept])))
        self._file = path.open("ab", buffering=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def done_sha256(self, photo: str, run: str) -> str | None:
        """The SHA-256 of the photo's bytes if this run has drawn it and all its faces are there."""
        rows = self.rows.get(photo, [])
        same = bool(rows) and all(row["run"] == run for row in rows)
        there = all((self._folder / row["output"]).is_file() for row in rows if row["output"])
        return rows[0]["sha256"] if same and there else None

    def add(self, rows: list[Row]) -> None:
        """Appends all rows of one photo."""
        self._file.write("".join(f"{json.dumps(row)}\n" for row in rows).encode())
        self._take(rows)

    def _take(self, rows: list[Row]) -> None:
        self.rows.pop(rows[0]["input"], None)  # the latest run stands last
        self.rows[rows[0]["input"]] = rows
        self.outputs.update(row["output"] for row in rows if row["output"])


def write_parquet(rows: list[Row], path: Path) -> None:
    """Writes the rows as a Parquet table with nested columns; needs pyarrow."""
    import pyarrow
    import pyarrow.parquet

    number, text = pyarrow.float64(), pyarrow.string()
    eye = dict.fromkeys(("x", "y", "size_px", "roll_deg", "score"), number)
    quality = ("size_px", "sharpness", "brightness", "contrast", "light", "tilt_deg")
    schema = pyarrow.schema(
        {
            "input": text,
            "sha256": text,
            "run": text,
            "num_rows": pyarrow.int32(),
            "eye": pyarrow.struct(eye | {"side": text, "person": pyarrow.int32()}),
            "quality": pyarrow.struct(dict.fromkeys(quality, number)),
            "output": text,
            "error": pyarrow.struct({"code": text, "detail": text}),
        }
    )
    part = path.with_name(f".{path.name}.part")
    # A file's name may hold bytes that are no UTF-8, which Parquet's strings may not.
    readable = [{**row, "input": os.fsencode(row["input"]).decode(errors="replace")} for row in rows]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(readable, schema), part)
    part.replace(path)


def _parse(line: bytes, place: str) -> Row:
    try:
        row = json.loads(line)
    except ValueError:
        row = None
    names = Row.__annotations__.keys()
    if not isinstance(row, dict) or row.keys() != names or not isinstance(row["num_rows"], int):
        raise ForeignManifest(
            f"{place} is no row of our manifest: take that file away, or choose another folder"
        )
    return cast(Row, row)
