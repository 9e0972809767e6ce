"""Files that are replaced wholly or not at all, and those that bytes are appended to."""

import os
from pathlib import Path

import numpy as np
import pytest

from training.data.files import (
    HEADER_BYTES,
    append_bytes,
    truncate,
    write_array_header,
    write_atomically,
)
from training.errors import DataError


class PowerCut(Exception):
    pass


def test_a_replacement_that_is_cut_off_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "new" / "run.json"
    write_atomically(path, "old")

    def cut(_: int) -> None:
        raise PowerCut

    monkeypatch.setattr(os, "fsync", cut)
    with pytest.raises(PowerCut):
        write_atomically(path, "a new text")
    assert path.read_text() == "old"


def test_a_replaced_file_holds_the_new_text_or_array_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    for text in ("old and long", "new €"):
        write_atomically(tmp_path / "a.txt", text)
    write_atomically(tmp_path / "b.npy", lambda file: np.save(file, np.arange(3)))
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "new €"
    assert np.load(tmp_path / "b.npy").tolist() == [0, 1, 2]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "b.npy"]


def test_appending_tells_the_length_and_cutting_takes_it_back(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    length = append_bytes(path, b"a,b\n")
    assert append_bytes(path, b"1,2\n") == 8
    truncate(path, length)
    assert path.read_bytes() == b"a,b\n"
    with pytest.raises(DataError, match="has 4 bytes, 5 are needed"):
        truncate(path, 5)


@pytest.mark.parametrize("num_rows", [0, 4])
def test_appended_rows_are_read_by_numpy_once_they_have_a_header(tmp_path: Path, num_rows: int) -> None:
    rows = np.arange(num_rows * 6, dtype=np.uint8).reshape(num_rows, 2, 3)
    path = tmp_path / "a.npy"
    path.write_bytes(bytes(HEADER_BYTES))
    append_bytes(path, rows.tobytes())
    for _ in range(2):  # again after a kill
        write_array_header(path, (num_rows, 2, 3))
        assert np.array_equal(np.load(path), rows)
