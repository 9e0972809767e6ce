"""Opening a folder of pairs, and what is said when it cannot be opened."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from service.vision.eyes import CROP_VERSION
from training.data.store import ARRAYS, Pairs, open_pairs
from training.errors import DataError


@pytest.fixture
def own_folder(tmp_path: Path, drawn_folder: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(drawn_folder, tmp_path / "pairs"))


def test_a_finished_folder_opens_without_being_read_into_memory(drawn_pairs: Pairs) -> None:
    num = drawn_pairs.manifest["num_rows"]
    assert drawn_pairs.faces.shape == (num, 128, 128, 3)
    assert drawn_pairs.eyes.shape == (num, 2, 64, 64, 3)
    assert drawn_pairs.eyes_wide.shape == (num, 2, 96, 96, 3)
    assert all(isinstance(getattr(drawn_pairs, name), np.memmap) for name in ARRAYS)
    assert len(drawn_pairs.rows) == num > 20


def test_rows_have_the_types_of_their_columns(drawn_pairs: Pairs) -> None:
    rows = drawn_pairs.rows
    assert set(rows["split"]) <= {"train", "dev", "val"}
    assert set(rows["source"]) <= {"drawn-light", "drawn-dark"}
    assert rows["right_ok"].dtype == bool and rows["right_ok"].all()
    assert rows["eye_size_px"] == pytest.approx(0.62 * rows["eye_distance_px"], abs=0.01)
    assert ((rows["light"] > 0) & (rows["light"] < 1)).all()


def test_a_missing_folder_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist: make it with"):
        open_pairs(tmp_path / "nothing")


def test_a_folder_without_manifest_is_not_complete(own_folder: Path) -> None:
    (own_folder / "manifest.json").unlink()
    with pytest.raises(DataError, match="is not complete"):
        open_pairs(own_folder)


def test_another_crop_version_is_refused(own_folder: Path) -> None:
    manifest = json.loads((own_folder / "manifest.json").read_text())
    manifest["settings"]["crop_version"] = CROP_VERSION + 1
    (own_folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(
        DataError, match=f"crops of version {CROP_VERSION + 1}, this code makes {CROP_VERSION}"
    ):
        open_pairs(own_folder)


@pytest.mark.parametrize("damage", ["gone", "cut"])
def test_a_damaged_array_is_named(own_folder: Path, damage: str) -> None:
    path = own_folder / "eyes.npy"
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(DataError, match=r"eyes\.npy cannot be read"):
        open_pairs(own_folder)


def test_rows_that_do_not_match_the_arrays_are_refused(own_folder: Path) -> None:
    lines = (own_folder / "rows.csv").read_text().splitlines(keepends=True)
    (own_folder / "rows.csv").write_text("".join(lines[:-1]))
    with pytest.raises(DataError, match=r"rows\.csv has \d+ rows"):
        open_pairs(own_folder)


def test_a_damaged_manifest_is_named(own_folder: Path) -> None:
    (own_folder / "manifest.json").write_text("{")
    with pytest.raises(DataError, match="damaged"):
        open_pairs(own_folder)
