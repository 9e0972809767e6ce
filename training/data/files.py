"""Crash-safe files: text and arrays replaced atomically, and .npy files that rows are appended to."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from training.errors import DataError

HEADER_BYTES = 128
"""What NumPy's header of an .npy file takes, whatever the number of rows: so it can be written last."""


def write_atomically(path: Path, write: str | Callable[[IO[bytes]], object]) -> None:
    """Replaces `path` by text, or by what `write` writes, wholly or not at all, even if killed meanwhile.

    Makes the folder where there is none.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".new")
    with beside.open("wb") as file:
        if isinstance(write, str):
            file.write(write.encode())
        else:
            write(file)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def save_array(path: Path, array: NDArray[Any]) -> None:
    """Writes an .npy file atomically."""
    write_atomically(path, lambda file: np.save(file, array))


def append_bytes(path: Path, data: bytes) -> int:
    """Appends to a file, sees it on the disk, and returns the file's length."""
    with path.open("ab") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
        return file.tell()


def truncate(path: Path, size: int) -> None:
    """Cuts a file to `size` bytes; one that is not there is made where `size` is 0.

    Raises:
        DataError: it has fewer.
    """
    found = path.stat().st_size if path.exists() else 0
    if found < size:
        raise DataError(f"{path} has {found} bytes, {size} are needed to go on: remove its folder")
    with path.open("ab") as file:
        file.truncate(size)


class AppendableArray:
    """A uint8 .npy file that rows are appended to; only `finish` makes it readable."""

    def __init__(self, path: Path, row_shape: tuple[int, ...]) -> None:
        self._path, self._row_shape = path, row_shape
        self._row_bytes = int(np.prod(row_shape))

    @property
    def num_rows(self) -> int:
        """How many whole rows the file holds."""
        size = self._path.stat().st_size if self._path.exists() else 0
        return max(0, size - HEADER_BYTES) // self._row_bytes

    def cut_to(self, num_rows: int) -> None:
        """Drops everything after the first `num_rows` rows (an earlier run may have been killed there).

        Raises:
            DataError: the file holds fewer rows.
        """
        if num_rows:
            truncate(self._path, HEADER_BYTES + num_rows * self._row_bytes)
        else:
            self._path.write_bytes(bytes(HEADER_BYTES))

    def append(self, rows: list[NDArray[np.uint8]]) -> None:
        """Adds rows at the end and sees them on the disk."""
        assert all(row.shape == self._row_shape and row.dtype == np.uint8 for row in rows)
        append_bytes(self._path, b"".join(row.tobytes() for row in rows))

    def finish(self, num_rows: int) -> None:
        """Writes the header, so that np.load reads `num_rows` rows; may be repeated."""
        header = {"descr": "|u1", "fortran_order": False, "shape": (num_rows, *self._row_shape)}
        with self._path.open("r+b") as file:
            np.lib.format.write_array_header_1_0(file, header)
            assert file.tell() == HEADER_BYTES
            file.flush()
            os.fsync(file.fileno())
