"""Photos fetched by a table of URLs and SHA-256."""

import csv
import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from training.data import fetch
from training.data.fetch import fetch_photos
from training.data.photos import CSV_COLUMNS, SourcePhoto, list_photos, read_table
from training.errors import DataError

OPEN_PHOTOS = Path("training/open_photos.csv")


class Published:
    """A file server on this machine, and how often each path was asked for."""

    def __init__(self, folder: Path, url: str, requests: Counter[str]) -> None:
        self.folder, self.url, self.requests = folder, url, requests

    def table(self, path: Path, photos: dict[str, bytes], **other: dict[str, str]) -> Path:
        """Publishes photos, and writes their table; `other` are cells by file that differ."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="") as lines:
            columns = ("file", "split", "right_eye_x", "right_eye_y", "left_eye_x", "left_eye_y")
            writer = csv.DictWriter(lines, [*columns, "url", "sha256"])
            writer.writeheader()
            for name, photo in photos.items():
                (self.folder / name).write_bytes(photo)
                row = {"file": name, "split": "train", "url": f"{self.url}/{name}"}
                row |= dict.fromkeys(columns[2:], "10") | {"sha256": hashlib.sha256(photo).hexdigest()}
                writer.writerow(row | other.get(name.partition(".")[0], {}))
        return path


@pytest.fixture
def published(tmp_path: Path) -> Iterator[Published]:
    folder, requests = tmp_path / "published", Counter[str]()
    folder.mkdir()

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            requests[self.path] += 1

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder))) as server:
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}).start()
        yield Published(folder, f"http://127.0.0.1:{server.server_port}", requests)
        server.shutdown()


def test_photos_and_table_lie_as_prepare_takes_them(tmp_path: Path, published: Published) -> None:
    table = published.table(tmp_path / "open.csv", {"a.jpg": b"one", "b.jpg": b"two"})
    assert fetch_photos(table, tmp_path / "data" / "open") == {}
    photos = list_photos(tmp_path / "data" / "open.csv", "csv")
    assert [photo.path.read_bytes() for photo in photos] == [b"one", b"two"]


def test_a_second_call_fetches_what_is_missing_or_damaged(tmp_path: Path, published: Published) -> None:
    table = published.table(tmp_path / "open.csv", {"a.jpg": b"one", "b.jpg": b"two", "c.jpg": b"three"})
    folder = tmp_path / "data"
    fetch_photos(table, folder)
    (folder / "a.jpg").unlink()
    (folder / "b.jpg").write_bytes(b"torn")
    assert fetch_photos(table, folder) == {}
    assert (folder / "b.jpg").read_bytes() == b"two"
    assert published.requests == {"/a.jpg": 2, "/b.jpg": 2, "/c.jpg": 1}


def test_each_photo_that_cannot_be_had_is_named_and_the_others_are_fetched(
    tmp_path: Path, published: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "MAX_BYTES", 100)
    table = published.table(
        tmp_path / "open.csv",
        {
            "changed.jpg": b"one",
            "gone.jpg": b"two",
            "long.jpg": bytes(101),
            "nohost.jpg": b"",
            "good.jpg": b"g",
        },
        changed={"sha256": "0" * 64},
        gone={"url": f"{published.url}/not-there.jpg"},
        nohost={"url": "nonsense"},
    )
    reasons = fetch_photos(table, tmp_path / "data")
    assert set(reasons) == {"changed.jpg", "gone.jpg", "long.jpg", "nohost.jpg"}
    assert "SHA-256" in reasons["changed.jpg"] and "404" in reasons["gone.jpg"]
    assert reasons["long.jpg"] == "longer than 100 bytes" and "protocol" in reasons["nohost.jpg"]
    assert [each.name for each in (tmp_path / "data").iterdir()] == ["good.jpg"]


def test_a_table_writes_nothing_outside_of_the_folder(tmp_path: Path, published: Published) -> None:
    table = published.table(tmp_path / "open.csv", {"a.jpg": b"one"}, a={"file": "../a.jpg"})
    with pytest.raises(DataError, match="without a folder"):
        fetch_photos(table, tmp_path / "data")
    assert not (tmp_path / "a.jpg").exists()


def test_the_published_table_is_open_complete_and_fixed_to_commits() -> None:
    rows = list(read_table(OPEN_PHOTOS, (*CSV_COLUMNS, "url", "sha256", "attribution")))
    assert len({row["file"] for row in rows}) == len(rows) > 8000
    commit = re.compile(r"https://raw\.githubusercontent\.com/[^/]+/[^/]+/[0-9a-f]{40}/\S+")
    for row in rows:
        assert row["licence"] == "open" and row["licence_name"] and row["attribution"], row["file"]
        assert re.fullmatch("[0-9a-f]{64}", row["sha256"]) and commit.fullmatch(row["url"]), row["file"]
        assert float(row["left_eye_x"]) - float(row["right_eye_x"]) > 30, row["file"]
    photos = list_photos(OPEN_PHOTOS, "csv")
    assert all(len(splits) == 1 for splits in _splits_by_person(photos).values())


def _splits_by_person(photos: list[SourcePhoto]) -> dict[str, set[str]]:
    splits: dict[str, set[str]] = defaultdict(set)
    for photo in photos:
        splits[photo.person].add(photo.split)
    return splits
