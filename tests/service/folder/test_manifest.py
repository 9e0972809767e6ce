"""The manifest of a folder: what it keeps, what it forgets after a kill, and how it looks in Parquet."""

import json
from pathlib import Path

import pyarrow.parquet
import pytest

from service.folder.manifest import NAME, ForeignManifest, Manifest, Row, write_parquet

EYE: dict[str, float | str] = {
    "x": 1.5,
    "y": 2.0,
    "size_px": 30.0,
    "roll_deg": 0.0,
    "side": "left",
    "score": 0.9,
    "person": 1,
}
QUALITY = dict.fromkeys(("size_px", "sharpness", "brightness", "contrast", "light", "tilt_deg"), 0.5)


def a_row(
    photo: str = "/a.jpg", *, sha256: str | None = "1", num_rows: int = 1, output: str | None = None
) -> Row:
    error = None if output else {"code": "no_eye_found", "detail": "No eye."}
    return Row(
        input=photo, sha256=sha256, run="r", num_rows=num_rows, eye=EYE if output else None,
        quality=QUALITY if output else None, output=output, error=error,
    )  # fmt: skip


def test_rows_are_read_again(tmp_path: Path) -> None:
    rows = [a_row(num_rows=2, output="a.face.png"), a_row(num_rows=2)]
    with Manifest(tmp_path) as manifest:
        manifest.add(rows)
    with Manifest(tmp_path) as manifest:
        assert manifest.rows == {"/a.jpg": rows}
        assert manifest.outputs == {"a.face.png"}


def test_the_latest_rows_of_a_photo_count(tmp_path: Path) -> None:
    with Manifest(tmp_path) as manifest:
        manifest.add([a_row(num_rows=2, output="a.face.png"), a_row(num_rows=2)])
        manifest.add([a_row("/b.jpg")])
        manifest.add([a_row(sha256="2")])
        assert list(manifest.rows.items()) == [("/b.jpg", [a_row("/b.jpg")]), ("/a.jpg", [a_row(sha256="2")])]
        before = dict(manifest.rows)
    with Manifest(tmp_path) as manifest:
        assert manifest.rows == before


@pytest.mark.parametrize("cut", [1, 20, 400])
def test_what_a_kill_cut_off_is_forgotten(tmp_path: Path, cut: int) -> None:
    with Manifest(tmp_path) as manifest:
        manifest.add([a_row()])
        whole = (tmp_path / NAME).read_bytes()
        manifest.add([a_row("/b.jpg", num_rows=2, output="b.face.png"), a_row("/b.jpg", num_rows=2)])
    (tmp_path / NAME).write_bytes((tmp_path / NAME).read_bytes()[:-cut])
    with Manifest(tmp_path) as manifest:
        assert manifest.rows.keys() == {"/a.jpg"}
        assert (tmp_path / NAME).read_bytes() == whole
        manifest.add([a_row("/c.jpg")])
    with Manifest(tmp_path) as manifest:
        assert manifest.rows.keys() == {"/a.jpg", "/c.jpg"}


def test_a_photo_is_done_with_its_bytes_while_its_run_and_its_face_are_the_same(tmp_path: Path) -> None:
    rows = [a_row(output="a.face.png")]
    (tmp_path / "a.face.png").touch()
    with Manifest(tmp_path) as manifest:
        manifest.add(rows)
        assert manifest.done_sha256("/a.jpg", "r") == "1"
        assert manifest.done_sha256("/a.jpg", "another run") is None
        assert manifest.done_sha256("/b.jpg", "r") is None
        (tmp_path / "a.face.png").unlink()
        assert manifest.done_sha256("/a.jpg", "r") is None


@pytest.mark.parametrize(
    "line", ["mine\n", "[]\n", '{"input": "/a.jpg"}\n', json.dumps(a_row() | {"num_rows": "1"}) + "\n"]
)
def test_a_file_of_somebody_else_is_left_alone(tmp_path: Path, line: str) -> None:
    (tmp_path / NAME).write_text(line)
    with pytest.raises(ForeignManifest, match=r"line 1 of .*manifest\.jsonl is no row of our manifest"):
        Manifest(tmp_path)
    assert (tmp_path / NAME).read_text() == line


def test_parquet_holds_the_same_rows(tmp_path: Path) -> None:
    rows = [a_row(output="a.face.png"), a_row("/b.jpg", sha256=None)]
    write_parquet(rows, tmp_path / "manifest.parquet")
    assert pyarrow.parquet.read_table(tmp_path / "manifest.parquet").to_pylist() == rows
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.parquet"]


def test_parquet_takes_a_name_that_is_no_text(tmp_path: Path) -> None:
    write_parquet([a_row("/caf\udce9.jpg")], tmp_path / "manifest.parquet")
    (row,) = pyarrow.parquet.read_table(tmp_path / "manifest.parquet").to_pylist()
    assert row["input"] == "/caf\ufffd.jpg"
