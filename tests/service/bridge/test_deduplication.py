"""Each event once: in work, done, forgotten, and remembered in a file."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from service.bridge.database import Database
from service.bridge.deduplication import Deduplicator, PendingEvent
from service.bridge.mqtt import DeliveryTag
from service.bridge.sources import CameraEvent
from service.settings import ConfigurationError


def job(key: str, mid: int = 1) -> PendingEvent:
    return PendingEvent(CameraEvent(key, "yard", "person"), DeliveryTag(mid, 1, 1))


def do(once: Deduplicator, *keys: str) -> None:
    for key in keys:
        each = job(key)
        assert once.accept(each) is None
        once.complete(each)


@contextmanager
def remembering(file: Path | None = None, max_remembered: int = 20_000) -> Iterator[Deduplicator]:
    database = Database(file)
    yield Deduplicator(database, max_remembered=max_remembered)
    database.close()


def test_an_event_in_work_keeps_the_newest_receipt_and_gives_back_the_older() -> None:
    first, again = job("a", 1), job("a", 2)
    with remembering() as once:
        assert once.accept(first) is None
        assert once.accept(again) == DeliveryTag(1, 1, 1)
        assert once.complete(first) == again.tag
        assert once.accept(job("a", 3)) == DeliveryTag(3, 1, 1)


def test_a_message_that_cannot_be_acknowledged_leaves_the_receipt_of_the_first() -> None:
    first, again = job("a", 1), PendingEvent(job("a").event, DeliveryTag(2, 0, 1))
    with remembering() as once:
        assert once.accept(first) is None
        assert once.accept(again) == again.tag
        assert once.complete(first) == DeliveryTag(1, 1, 1)


def test_what_was_given_up_can_be_taken_again() -> None:
    refused = job("a")
    with remembering() as once:
        once.accept(refused)
        once.release(refused)
        assert once.accept(job("a")) is None


def test_the_oldest_that_is_done_is_forgotten_and_what_is_in_work_never() -> None:
    with remembering(max_remembered=2) as once:
        once.accept(job("working"))
        do(once, "a", "b")
        assert once.accept(job("a")) is not None  # asked for again, so it is no longer the oldest
        do(once, "c")
        assert once.accept(job("a")) is not None
        assert once.accept(job("working")) is not None
        assert once.accept(job("b")) is None


def test_a_file_remembers_over_a_restart_and_does_not_grow_for_ever(tmp_path: Path) -> None:
    file = tmp_path / "memory"
    with remembering(file, 5) as once:
        do(once, *(f"{n}" for n in range(30)))
        assert once._database.execute("SELECT count(*) FROM done") == [(5,)]
    with remembering(file, 5) as again:
        assert [again.accept(job(f"{n}")) is not None for n in range(23, 30)] == [False] * 2 + [True] * 5


@pytest.mark.parametrize("content", [b"1607123955.475377-mxklsc\n" * 100, None], ids=["text", "folder"])
def test_a_file_that_is_no_database_is_said_to_be_none(tmp_path: Path, content: bytes | None) -> None:
    if content:
        (tmp_path / "memory").write_bytes(content)
    else:
        (tmp_path / "memory").mkdir()
    with pytest.raises(ConfigurationError, match=f"EYE2FACE_BRIDGE_MEMORY_FILE: {tmp_path}/memory: "):
        Database(tmp_path / "memory")


def test_a_second_bridge_cannot_have_the_same_file(tmp_path: Path) -> None:
    first = Database(tmp_path / "memory")
    with pytest.raises(ConfigurationError, match="database is locked"):
        Database(tmp_path / "memory")
    first.close()


def test_a_full_disk_ends_the_file_and_not_the_work(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with remembering(tmp_path / "memory") as once:
        do(once, "before")
        ((num_pages,),) = once._database.execute("PRAGMA page_count")
        once._database.execute(f"PRAGMA max_page_count = {num_pages}")
        keys = [f"{n}-{'x' * 500}" for n in range(20)]
        do(once, *keys)
        assert "EYE2FACE_BRIDGE_MEMORY_FILE: database or disk is full" in caplog.text
        assert all(once.accept(job(key)) is not None for key in ("before", *keys))
