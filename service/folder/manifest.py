"""The manifest of a folder of faces: JSON lines, by which later runs resume.

The rows of a photo are written at once, after its faces, so that a kill leaves no row without its face. Of
several runs over one photo the last rows count.
"""

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import IO, Annotated, Final

import msgspec

from service.errors import Eye2FaceError
from service.system.files import open_regular_file, replace_file
from service.vision.eyes import Eye, Quality

NAME: Final = "manifest.jsonl"

FACE_NAME: Final = r"\A([^/\0]+)\.face(-\d+)?(\.guess-\d+)?\.(png|jpg|webp)\Z"
"""The names of faces, which lead to no other folder; the first group is the stem."""

_FaceName = Annotated[str, msgspec.Meta(pattern=FACE_NAME)]

_ROW_START: Final = b'{"input": "'
_MAX_ROW_BYTES: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class RowError:
    """Why an eye, or a whole photo, has no face."""

    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class GuessFile:
    """A further face of an eye: its number from 1, and its file beside the manifest."""

    guess: int
    seed: int
    output: _FaceName


class Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One eye of a photo, with its face or the error in place of one."""

    input: Annotated[str, msgspec.Meta(pattern=r"\A/[^\0]*\Z")]
    sha256: str | None  # of the photo's bytes; None: the next run tries it again
    run: str  # changes with the options, the settings and the model
    num_rows: Annotated[int, msgspec.Meta(ge=1)] = 1  # of this photo in this run
    eye: Eye | None = None  # as POST /eyes has it
    quality: Quality | None = None
    output: _FaceName | None = None  # the face, beside the manifest
    certainty: float | None = None  # as POST /synthesize has it, and spread
    guesses: list[GuessFile] = []
    spread: float | None = None
    error: RowError | None = None

    @property
    def outputs(self) -> list[str]:
        """The names of its faces, the default one first."""
        return [name for name in (self.output, *(each.output for each in self.guesses)) if name]


class ForeignManifest(Eye2FaceError):
    """The folder holds a manifest that this program did not write."""


class FolderInUse(Eye2FaceError):
    """Another run draws into the folder."""


class Manifest:
    """The rows of a folder by photo, in the order of the latest run."""

    def __init__(self, folder: Path, file: IO[bytes]) -> None:
        """Reads the file and truncates what a kill left incomplete: the last line, or the last photo's rows.

        Raises:
            ForeignManifest: the file was not written by this program.
        """
        self._folder = folder
        self._file = file
        self.rows: dict[str, list[Row]] = {}
        self.outputs: set[str] = set()
        """The names of all faces that were ever written, those of other options included."""
        file.truncate(self._read())

    def done_sha256(self, photo: str, run: str) -> str | None:
        """The SHA-256 of the photo's bytes if this run has drawn it and all its faces are there."""
        rows = self.rows.get(photo, [])
        is_done = all(
            row.run == run and row.sha256 and all(os.path.isfile(self._folder / name) for name in row.outputs)
            for row in rows
        )
        return rows[0].sha256 if rows and is_done else None

    def add(self, rows: list[Row]) -> None:
        """Appends all rows of one photo.

        Raises:
            OSError: the disk is full, for instance; a later run truncates what is incomplete.
        """
        data = "".join(f"{render_row(row)}\n" for row in rows).encode()
        try:
            while data:
                data = data[os.write(self._file.fileno(), data) :]
        except OSError as error:
            raise OSError(error.errno, error.strerror, self._file.name) from error
        self._take(rows)

    def _read(self) -> int:
        """Takes the rows of the file; returns how many of its bytes are those of complete photos."""
        end, complete, rows = 0, 0, list[Row]()
        self._file.seek(0)
        for number, line in enumerate(iter(partial(self._file.readline, _MAX_ROW_BYTES), b""), start=1):
            is_incomplete = len(line) < _MAX_ROW_BYTES and not line.endswith(b"\n")
            if is_incomplete and line[: len(_ROW_START)] == _ROW_START[: len(line)]:
                break
            try:
                row = _with_names(msgspec.convert(json.loads(line), Row), _from_utf8)
                if rows and (row.input, row.num_rows) != (rows[0].input, rows[0].num_rows):
                    raise ValueError(f"expected one of {rows[0].num_rows} rows of {rows[0].input}")
            except (ValueError, RecursionError) as error:
                raise ForeignManifest(
                    f"line {number} of {self._file.name} is no row of our manifest ({error}): take that file "
                    "away, or choose another folder"
                ) from error
            rows.append(row)
            end += len(line)
            if len(rows) == row.num_rows:
                self._take(rows)
                complete, rows = end, []
        return complete

    def _take(self, rows: list[Row]) -> None:
        self.rows.pop(rows[0].input, None)  # the latest run stands last
        self.rows[rows[0].input] = rows
        self.outputs.update(name for row in rows for name in row.outputs)


def render_row(row: Row) -> str:
    """The row as a line of JSON."""
    return json.dumps(msgspec.to_builtins(_with_names(row, _to_utf8)))


def _with_names(row: Row, change: Callable[[str], str]) -> Row:
    """The row with its files' names changed."""
    guesses = [replace(each, output=change(each.output)) for each in row.guesses]
    output = row.output and change(row.output)
    return msgspec.structs.replace(row, input=change(row.input), output=output, guesses=guesses)


def _to_utf8(name: str) -> str:
    """The name of a file as the manifest has it, the same in every locale."""
    return os.fsencode(name).decode(errors="surrogateescape")


def _from_utf8(name: str) -> str:
    """The name of a file here. Raises ValueError: no file is called so."""
    return os.fsdecode(name.encode(errors="surrogateescape"))


@contextmanager
def open_manifest(folder: Path) -> Iterator[Manifest]:
    """The manifest of the folder, which no other run can open at the same time.

    Raises:
        ForeignManifest: its file was not written by this program.
        FolderInUse: another run has opened it.
        OSError: its file is a link or no regular file, or cannot be opened.
    """
    with open_regular_file(folder / NAME, "a+b", flags=os.O_NOFOLLOW) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            advice = "let it end, or choose another folder"
            raise FolderInUse(f"Another run draws into {folder}: {advice}.") from None
        yield Manifest(folder, file)


def write_parquet(rows: list[Row], path: Path) -> None:
    """Writes the rows as a Parquet table with nested columns; needs pyarrow.

    Raises:
        ForeignManifest: Parquet has no place for a value, which is not one of ours.
        OSError: the table cannot be written.
    """
    import pyarrow
    import pyarrow.parquet

    text, number, integer = pyarrow.string(), pyarrow.float64(), pyarrow.int64()
    types: dict[object, object] = {float: number, int: integer}

    def struct(kind: type[Eye | Quality | GuessFile | RowError]) -> object:
        return pyarrow.struct({each.name: types.get(each.type, text) for each in fields(kind)})

    columns = {"input": text, "sha256": text, "run": text, "num_rows": integer, "eye": struct(Eye)}
    columns |= {"quality": struct(Quality), "output": text, "certainty": number}
    columns |= {"guesses": pyarrow.list_(struct(GuessFile)), "spread": number, "error": struct(RowError)}
    # A file's name may hold bytes that are no UTF-8, which Parquet's strings may not.
    named = [msgspec.to_builtins(_with_names(row, _to_utf8)) for row in rows]
    text = json.dumps(named, ensure_ascii=False)
    try:
        readable = json.loads(text.encode(errors="surrogateescape").decode(errors="replace"))
        table = pyarrow.Table.from_pylist(readable, pyarrow.schema(columns))
    except (ValueError, OverflowError) as error:
        raise ForeignManifest(f"{NAME} holds what Parquet cannot: {error}") from error
    with replace_file(path) as file:
        pyarrow.parquet.write_table(table, file)
