"""The manifest of a folder: what it keeps, what it forgets after a kill, and how it looks in Parquet."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet
import pytest

from service.folder.manifest import (
    NAME,
    FolderInUse,
    ForeignManifest,
    GuessFile,
    Row,
    RowError,
    open_manifest,
    write_parquet,
)
from service.vision.eyes import Eye, Quality

EYE = Eye(1.5, 2.0, 30.0, 0.0, "left", 0.9, 1)
QUALITY = Quality(0.5, 0.5, 0.5, 0.5, 0.5, 0.5)


def a_row(
    photo: str = "/a.jpg", *, sha256: str | None = "1", num_rows: int = 1, output: str | None = None
) -> Row:
    if output is None:
        return Row(photo, sha256, "r", num_rows, error=RowError("no_eye_found", "No eye."))
    guesses = [GuessFile(1, 2**32 - 1, output.replace(".png", ".guess-1.png"))]
    return Row(photo, sha256, "r", num_rows, EYE, QUALITY, output, 0.25, guesses, 20.5)


FOREIGN: list[dict[str, Any]] = [
    {"num_rows": "1"}, {"num_rows": 0}, {"num_rows": -1}, {"num_rows": True}, {"num_rows": 1.5},
    {"input": "a.jpg"}, {"input": "/a\0.jpg"}, {"input": None}, {"sha256": 1}, {"run": []}, {"more": 1},
    {"output": "../a.face.png"}, {"output": "/tmp/a.face.png"}, {"output": "a.face.png/.."},
    {"output": "a.face.png\n"}, {"output": "a\0.face.png"}, {"output": ".."}, {"output": ""}, {"output": 1},
    {"output": "a.png"}, {"eye": {"x": 1}}, {"eye": []}, {"quality": "good"}, {"error": {}},
    {"error": {"code": 1, "detail": ""}}, {"certainty": "high"}, {"guesses": ["a.face.guess-1.png"]},
    {"guesses": [{"guess": 1, "seed": 0, "output": "../a.face.guess-1.png"}]},
    {"input": "/\ud800.jpg"}, {"output": "\ud800.face.png"},
    {"guesses": [{"guess": 1, "seed": 0, "output": "\ud800.face.guess-1.png"}]},
]  # fmt: skip
"""Changes of a row that this program did not make."""


def as_json(row: Row, **changes: Any) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(row)
    return fields | changes


def test_rows_are_read_again(tmp_path: Path) -> None:
    rows = [a_row(num_rows=2, output="a.face.png"), a_row(num_rows=2)]
    with open_manifest(tmp_path) as manifest:
        manifest.add(rows)
    with open_manifest(tmp_path) as manifest:
        assert manifest.rows == {"/a.jpg": rows}
        assert manifest.outputs == {"a.face.png", "a.face.guess-1.png"}


def test_names_are_the_same_in_every_locale(tmp_path: Path) -> None:
    name = b"\xc3\xa4\xff.face.png"
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).touch()
    with open_manifest(tmp_path) as manifest:
        manifest.add([msgspec.structs.replace(a_row("/\xe4.jpg", output=os.fsdecode(name)), guesses=[])])
    script = (
        "import os, sys; from pathlib import Path; from service.folder.manifest import open_manifest\n"
        "with open_manifest(Path(sys.argv[1])) as manifest:\n"
        "    assert sys.getfilesystemencoding() == 'ascii'\n"
        "    print(manifest.done_sha256(os.fsdecode(b'/\\xc3\\xa4.jpg'), 'r'))"
    )
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, "-c", script, str(tmp_path)]
    done = subprocess.run(command, env=os.environ | ascii_only, capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"


def test_the_latest_rows_of_a_photo_count(tmp_path: Path) -> None:
    with open_manifest(tmp_path) as manifest:
        manifest.add([a_row(num_rows=2, output="a.face.png"), a_row(num_rows=2)])
        manifest.add([a_row("/b.jpg")])
        manifest.add([a_row(sha256="2")])
        assert list(manifest.rows.items()) == [("/b.jpg", [a_row("/b.jpg")]), ("/a.jpg", [a_row(sha256="2")])]
        before = dict(manifest.rows)
    with open_manifest(tmp_path) as manifest:
        assert manifest.rows == before


@pytest.mark.parametrize("cut", [1, 20, 400])
def test_what_a_kill_cut_off_is_forgotten(tmp_path: Path, cut: int) -> None:
    with open_manifest(tmp_path) as manifest:
        manifest.add([a_row()])
        whole = (tmp_path / NAME).read_bytes()
        manifest.add([a_row("/b.jpg", num_rows=2, output="b.face.png"), a_row("/b.jpg", num_rows=2)])
    (tmp_path / NAME).write_bytes((tmp_path / NAME).read_bytes()[:-cut])
    with open_manifest(tmp_path) as manifest:
        assert manifest.rows.keys() == {"/a.jpg"}
        assert (tmp_path / NAME).read_bytes() == whole
        manifest.add([a_row("/c.jpg")])
    with open_manifest(tmp_path) as manifest:
        assert manifest.rows.keys() == {"/a.jpg", "/c.jpg"}


def test_a_photo_is_done_with_its_bytes_while_its_run_and_its_faces_are_the_same(tmp_path: Path) -> None:
    row = a_row(output="a.face.png")
    with open_manifest(tmp_path) as manifest:
        manifest.add([row])
        for missing in row.outputs:
            for name in row.outputs:
                (tmp_path / name).touch()
            assert manifest.done_sha256("/a.jpg", "r") == "1"
            assert manifest.done_sha256("/a.jpg", "another run") is None
            assert manifest.done_sha256("/b.jpg", "r") is None
            (tmp_path / missing).unlink()
            assert manifest.done_sha256("/a.jpg", "r") is None


@pytest.mark.parametrize(
    "line",
    [
        "mine\n",
        "mine",
        "[]\n",
        '{"input": "/a.jpg"}\n',
        '{"input": ' + "[" * 70_000 + "\n",
        "[" * 200_000,
        *(json.dumps(as_json(a_row(output="a.face.png"), **changes)) + "\n" for changes in FOREIGN),
    ],
)
def test_a_file_of_somebody_else_is_left_alone(tmp_path: Path, line: str) -> None:
    (tmp_path / NAME).write_text(line)
    with (
        pytest.raises(ForeignManifest, match=r"line 1 of .*manifest\.jsonl is no row of our manifest"),
        open_manifest(tmp_path),
    ):
        pass
    assert (tmp_path / NAME).read_text() == line


def test_parquet_holds_the_same_rows(tmp_path: Path) -> None:
    rows = [a_row(output="a.face.png"), a_row("/b.jpg", sha256=None)]
    write_parquet(rows, tmp_path / "manifest.parquet")
    assert pyarrow.parquet.read_table(tmp_path / "manifest.parquet").to_pylist() == [*map(as_json, rows)]
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.parquet"]


def test_parquet_takes_a_name_that_is_no_text(tmp_path: Path) -> None:
    write_parquet([a_row("/caf\udce9.jpg")], tmp_path / "manifest.parquet")
    (row,) = pyarrow.parquet.read_table(tmp_path / "manifest.parquet").to_pylist()
    assert row["input"] == "/caf\ufffd.jpg"


def test_parquet_says_what_it_cannot_hold(tmp_path: Path) -> None:
    row = msgspec.convert(as_json(a_row(output="a.face.png"), num_rows=2**70), Row)
    with pytest.raises(ForeignManifest, match=r"manifest\.jsonl holds what Parquet cannot"):
        write_parquet([row], tmp_path / "manifest.parquet")
    assert not list(tmp_path.iterdir())


def test_rows_that_lie_about_their_number_lose_no_others(tmp_path: Path) -> None:
    lines = [json.dumps(as_json(row)) for row in (a_row("/a.jpg", num_rows=10**9), a_row("/b.jpg"))]
    (tmp_path / NAME).write_text("\n".join([*lines, ""]))
    with (
        pytest.raises(ForeignManifest, match=r"line 2 .*\(expected one of 1000000000 rows of /a\.jpg"),
        open_manifest(tmp_path),
    ):
        pass
    assert (tmp_path / NAME).read_text().splitlines() == lines


def test_a_folder_has_one_manifest_open_at_a_time(tmp_path: Path) -> None:
    with open_manifest(tmp_path) as manifest:
        manifest.add([a_row()])
        with pytest.raises(FolderInUse, match="Another run draws into"), open_manifest(tmp_path):
            pass
    with open_manifest(tmp_path) as manifest:
        assert manifest.rows.keys() == {"/a.jpg"}


@pytest.mark.parametrize("make", [
    os.mkfifo, Path.mkdir, lambda path: path.symlink_to("victim"), lambda path: path.symlink_to("nothing"),
])  # fmt: skip
def test_a_manifest_is_a_regular_file(tmp_path: Path, make: Any) -> None:
    (tmp_path / "victim").touch()
    make(tmp_path / NAME)
    with pytest.raises(OSError), open_manifest(tmp_path):
        pass
    assert {path.name for path in tmp_path.iterdir()} == {"victim", NAME}
    assert not (tmp_path / "victim").read_bytes()


def test_a_row_that_no_disk_has_room_for_is_told_with_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_some(fd: int, data: bytes) -> int:
        if len(data) < 20:
            raise OSError(28, "No space left on device")
        return write(fd, data[: len(data) // 2])

    write = os.write
    with open_manifest(tmp_path) as manifest:
        manifest.add([a_row()])
        monkeypatch.setattr(os, "write", write_some)
        with pytest.raises(OSError) as told:
            manifest.add([a_row("/b.jpg")])
    assert told.value.filename == str(tmp_path / NAME)
    with open_manifest(tmp_path) as manifest:
        assert manifest.rows.keys() == {"/a.jpg"}
