"""Files that are replaced wholly or not at all, and arrays that rows are appended to."""

import os
from pathlib import Path

import numpy as np
import pytest

from training.data.files import AppendableArray, append_bytes, save_array, truncate, write_atomically
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
    with pytest.raises(PowerCut):
        save_array(path, np.zeros(3))
    assert path.read_text() == "old"


def test_a_replaced_file_holds_the_new_text_or_array_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    for text in ("old and long", "new €"):
        write_atomically(tmp_path / "a.txt", text)
    save_array(tmp_path / "b.npy", np.arange(3))
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


def test_an_appended_array_is_read_by_numpy_once_it_is_finished(tmp_path: Path) -> None:
    rows = [np.full((2, 3), value, np.uint8) for value in range(5)]
    array = AppendableArray(tmp_path / "a.npy", (2, 3))
    array.cut_to(0)
    array.append(rows[:3])
    array.append(rows[3:])
    assert array.num_rows == 5
    array.cut_to(4)
    array.finish(4)
    assert np.array_equal(np.load(tmp_path / "a.npy"), rows[:4])
    with pytest.raises(DataError, match="are needed to go on"):
        array.cut_to(5)
