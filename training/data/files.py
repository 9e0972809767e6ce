"""Crash-safe files: replaced atomically, or appended to and cut back to a length that was noted."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import IO

import numpy as np

from training.errors import DataError

HEADER_BYTES = 128
"""Of NumPy's header of an .npy file, whatever the number of rows: so it can be written last."""


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


def write_array_header(path: Path, shape: tuple[int, ...]) -> None:
    """Makes a file of HEADER_BYTES and the bytes of a uint8 array of that shape readable by np.load."""
    with path.open("r+b") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        assert file.tell() == HEADER_BYTES
        file.flush()
        os.fsync(file.fileno())
