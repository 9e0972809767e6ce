"""Folders of pairs are opened, refused where they are damaged, and survive a kill at any moment."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from service.vision.eyes import CROP_VERSION
from training.data.face_alignment import FACE_FRAME_VERSION
from training.data.prepare import PrepareSettings, prepare
from training.data.store import (
    ARRAYS,
    PROGRESS,
    Pair,
    Pairs,
    PairsSettings,
    PairsWriter,
    open_pairs,
    read_manifest,
)
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
    assert rows["eye_distance_px"].dtype == np.float32 and (rows["eye_distance_px"] > 24).all()


def test_a_missing_folder_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist: make it with"):
        open_pairs(tmp_path / "nothing")


def test_a_folder_without_manifest_is_not_complete(own_folder: Path) -> None:
    (own_folder / "manifest.json").unlink()
    with pytest.raises(DataError, match="is not complete"):
        open_pairs(own_folder)


@pytest.mark.parametrize("version", ["crop_version", "face_frame_version"])
def test_crops_and_faces_of_another_version_are_refused(own_folder: Path, version: str) -> None:
    manifest = json.loads((own_folder / "manifest.json").read_text())
    manifest["settings"][version] += 1
    (own_folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DataError, match="prepare it anew"):
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


@pytest.mark.parametrize("name", ["faces", "eyes", "eyes_wide"])
def test_an_array_of_another_shape_or_type_is_named(own_folder: Path, name: str) -> None:
    array = np.load(own_folder / f"{name}.npy")
    for other in (array.astype(np.float32), array[:-1], array[:, :-1], array[0], np.uint8(7)):
        np.save(own_folder / f"{name}.npy", other)
        with pytest.raises(DataError, match=rf"/{name}\.npy holds .* the manifest says .* of uint8"):
            open_pairs(own_folder)


@pytest.mark.parametrize("header", [b"{'descr': (((", b"0" * 50, b"-" * 5000 + b"1"])
def test_an_array_with_a_damaged_header_is_named(own_folder: Path, header: bytes) -> None:
    start = b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little")
    (own_folder / "eyes.npy").write_bytes(start + header + bytes(5000))
    with pytest.raises(DataError, match=r"eyes\.npy cannot be read"):
        open_pairs(own_folder)


@pytest.mark.parametrize(
    ("column", "text"),
    [("right_ok", "yes"), ("ai_made", ""), ("eye_distance_px", "wide"), ("eye_distance_px", "")],
)
def test_a_value_of_another_kind_is_named(own_folder: Path, column: str, text: str) -> None:
    lines = (own_folder / "rows.csv").read_text().splitlines()
    values = lines[2].split(",")
    values[lines[0].split(",").index(column)] = text
    lines[2] = ",".join(values)
    (own_folder / "rows.csv").write_text("\n".join(lines))
    with pytest.raises(DataError, match=rf"rows\.csv has a wrong {column} .*'{text}'"):
        open_pairs(own_folder)


@pytest.mark.parametrize(
    ("content", "told"), [("a,b\n1,2\n", "lacks the columns file, split"), ("\udcff", "no CSV in UTF-8")]
)
def test_rows_of_another_table_are_named(own_folder: Path, content: str, told: str) -> None:
    (own_folder / "rows.csv").write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(DataError, match=rf"rows\.csv.* {told}"):
        open_pairs(own_folder)


def test_rows_that_do_not_match_the_arrays_are_refused(own_folder: Path) -> None:
    lines = (own_folder / "rows.csv").read_text().splitlines(keepends=True)
    (own_folder / "rows.csv").write_text("".join(lines[:-1]))
    with pytest.raises(DataError, match=r"rows\.csv has \d+ rows"):
        open_pairs(own_folder)


@pytest.mark.parametrize("damage", [b"{", b"\xff\xfe", b"[" * 100_000, b"[]", b'{"num_rows": "3"}'])
def test_a_damaged_manifest_is_named(own_folder: Path, damage: bytes) -> None:
    (own_folder / "manifest.json").write_bytes(damage)
    with pytest.raises(DataError, match="damaged"):
        open_pairs(own_folder)


ROOT = Path(__file__).parents[3]

PREPARE = """
import os, signal, sys
from pathlib import Path
from training.data.prepare import PrepareSettings, prepare

dies_at, calls, really_sync = int(sys.argv[3]), 0, os.fsync
def fsync(file):
    global calls
    calls += 1
    if calls == dies_at:
        os.kill(os.getpid(), signal.SIGKILL)
    really_sync(file)
os.fsync = fsync
prepare(PrepareSettings(Path(sys.argv[1]), Path(sys.argv[2]), face_size=128, chunk=8))
"""
"""Prepares in chunks of 8; the process kills itself at the given call of fsync, -1 for never."""


def start_prepare(source: Path, out: Path, dies_at: int = -1) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", PREPARE, str(source), str(out), str(dies_at)], cwd=ROOT)


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# A chunk of 8 makes six calls: three arrays, two tables, progress. 24 photos make 18, then come
# three headers and the manifest.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("dies_at", "moment"),
    [(2, "first array"), (12, "progress"), (20, "headers"), (22, "manifest")],
)
def test_killed_between_any_two_writes_it_resumes_to_the_same_bytes(
    tmp_path: Path, drawn_csv: Path, drawn_folder: Path, dies_at: int, moment: str
) -> None:
    out = tmp_path / "pairs"
    assert start_prepare(drawn_csv, out, dies_at).wait() == -signal.SIGKILL, moment
    assert read_manifest(out) is None
    prepare(PrepareSettings(drawn_csv, out, face_size=128, chunk=8))
    assert bytes_of(out) == bytes_of(drawn_folder)


@pytest.mark.slow
def test_killed_from_outside_again_and_again_it_resumes_to_the_same_bytes(
    tmp_path: Path, drawn_csv: Path
) -> None:
    source = many_photos(tmp_path, drawn_csv, copies=5)
    out, undisturbed = tmp_path / "out", tmp_path / "undisturbed"
    num_kills = 0
    for seconds in (0.0, 0.03):
        child = start_prepare(source, out)
        before = (out / PROGRESS).stat().st_mtime_ns if (out / PROGRESS).exists() else 0
        while child.poll() is None and (
            not (out / PROGRESS).exists() or (out / PROGRESS).stat().st_mtime_ns == before
        ):
            time.sleep(0.002)
        time.sleep(seconds)
        child.kill()
        num_kills += child.wait() == -signal.SIGKILL
    assert num_kills >= 1
    prepare(PrepareSettings(source, out, face_size=128))
    # Another chunk size on purpose: it decides nothing but when progress is noted.
    prepare(PrepareSettings(source, undisturbed, face_size=128, chunk=50))
    assert bytes_of(out) == bytes_of(undisturbed)


def many_photos(tmp_path: Path, drawn_csv: Path, copies: int) -> Path:
    """The same photos under many names: enough work to be killed in."""
    lines = drawn_csv.read_text().splitlines()
    folder = tmp_path / "many"
    folder.mkdir()
    rows = [lines[0]]
    for line in lines[1:]:
        name, rest = line.split(",", 1)
        for copy in range(copies):
            shutil.copyfile(drawn_csv.with_suffix("") / name, folder / f"{copy}-{name}")
            rows.append(f"{copy}-{name},{rest}")
    source = tmp_path / "many.csv"
    source.write_text("\n".join(rows) + "\n")
    return source


SMALL: PairsSettings = {
    "layout": "csv",
    "source": "small.csv",
    "points": "labels",
    "part": "eye",
    "limit": None,
    "dev_part": 0.05,
    "seed": 0,
    "eye_size": 2,
    "wide_size": 3,
    "face_size": 4,
    "face_frame_version": FACE_FRAME_VERSION,
    "crop_version": CROP_VERSION,
    "filter_version": 1,
    "fingerprint": "0",
}
BAD = ("bad.jpg", "train", "small", "no_eye")


def small_pair(value: int) -> Pair:
    shapes = ((4, 4, 3), (2, 2, 2, 3), (2, 3, 3, 3))
    face, eyes, wide = (np.full(shape, value, np.uint8) for shape in shapes)
    measures = ("0", "0", "9", "1", "1")
    row = (f"{value}.jpg", "train", "small", "open", f"person, {value}", *measures)
    return Pair(face, eyes, wide, row)


def test_what_was_written_after_the_last_note_is_dropped(tmp_path: Path) -> None:
    PairsWriter(tmp_path, SMALL).add([small_pair(7)], [BAD])
    noted = bytes_of(tmp_path)
    for name in ("faces.npy", "eyes.npy", "eyes_wide.npy", "rows.csv", "rejected.csv"):
        with (tmp_path / name).open("ab") as file:
            file.write(b"half a row")
    again = PairsWriter(tmp_path, SMALL)
    assert again.num_photos == 2
    assert bytes_of(tmp_path) == noted
    again.add([small_pair(9)], [])
    manifest = again.finish()
    assert (manifest["num_photos"], manifest["num_rows"]) == (3, 2)
    assert manifest["rejected_by_reason"] == {"no_eye": 1}
    pairs = open_pairs(tmp_path)
    assert list(pairs.rows["person"]) == ["person, 7", "person, 9"]
    assert (pairs.eyes_wide[:, 0, 0, 0, 0] == [7, 9]).all()


@pytest.mark.parametrize("name", ["eyes.npy", "rows.csv"])
def test_a_file_shorter_than_its_note_is_refused(tmp_path: Path, name: str) -> None:
    PairsWriter(tmp_path, SMALL).add([small_pair(7)], [])
    with (tmp_path / name).open("ab") as file:
        file.truncate(20)
    with pytest.raises(DataError, match=rf"{name} has 20 bytes, \d+ are needed"):
        PairsWriter(tmp_path, SMALL)


def test_an_unfinished_folder_goes_on_only_with_the_same_settings(tmp_path: Path) -> None:
    PairsWriter(tmp_path, SMALL).add([small_pair(7)], [])
    with pytest.raises(DataError, match="seed was 0, is 1"):
        PairsWriter(tmp_path, {**SMALL, "seed": 1})


def test_a_folder_with_other_files_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"mine")
    with pytest.raises(DataError, match=r"holiday\.jpg"):
        PairsWriter(tmp_path, SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.jpg"]


def test_a_folder_without_a_single_face_is_finished_too(tmp_path: Path) -> None:
    folder = PairsWriter(tmp_path, SMALL)
    folder.add([], [BAD])
    assert folder.finish()["num_rows"] == 0
    assert np.load(tmp_path / "faces.npy").shape == (0, 4, 4, 3)
