"""Each sighting once: in work, done, forgotten, and remembered in a file."""

from pathlib import Path

import pytest

from service.bridge.deduplication import Deduplicator, PendingEvent
from service.bridge.mqtt import DeliveryTag
from service.bridge.sources import CameraEvent


def job(key: str, mid: int = 1) -> PendingEvent:
    return PendingEvent(CameraEvent(key, "yard", "person"), DeliveryTag(mid, 1, 1))


def do(once: Deduplicator, *keys: str) -> None:
    for key in keys:
        each = job(key)
        assert once.accept(each) is None
        once.complete(each)


def test_a_sighting_in_work_keeps_the_newest_receipt_and_gives_back_the_older() -> None:
    once, first, again = Deduplicator(), job("a", 1), job("a", 2)
    assert once.accept(first) is None
    assert once.accept(again) == DeliveryTag(1, 1, 1)
    assert once.complete(first) == again.tag
    assert once.accept(job("a", 3)) == DeliveryTag(3, 1, 1)


def test_what_was_given_up_can_be_taken_again() -> None:
    once, refused = Deduplicator(), job("a")
    once.accept(refused)
    once.release(refused)
    assert once.accept(job("a")) is None


def test_the_oldest_that_is_done_is_forgotten_and_what_is_in_work_never() -> None:
    once = Deduplicator(max_remembered=2)
    once.accept(job("working"))
    do(once, "a", "b")
    assert once.accept(job("a")) is not None  # asked for again, so it is no longer the oldest
    do(once, "c")
    assert once.accept(job("a")) is not None
    assert once.accept(job("working")) is not None
    assert once.accept(job("b")) is None


def test_a_file_remembers_over_a_restart_and_does_not_grow_for_ever(tmp_path: Path) -> None:
    file = tmp_path / "done"
    once = Deduplicator(file, max_remembered=5)
    do(once, *(f"{n}" for n in range(8)))
    assert file.read_text().split() == [f"{n}" for n in range(8)]
    do(once, *(f"{n}" for n in range(8, 30)))
    assert len(file.read_text().split()) <= 11
    once.close()
    again = Deduplicator(file, max_remembered=5)
    assert [again.accept(job(f"{n}")) is not None for n in range(23, 30)] == [False] * 2 + [True] * 5
    again.close()


def test_a_line_that_was_cut_off_is_none(tmp_path: Path) -> None:
    (tmp_path / "done").write_bytes(b"a\nb\n\xffc")
    once = Deduplicator(tmp_path / "done")
    assert once.accept(job("b")) is not None
    assert once.accept(job("c")) is None
    once.close()


def test_a_file_that_cannot_be_made_is_the_systems_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="nowhere"):
        Deduplicator(tmp_path / "nowhere" / "done")


def test_a_full_disk_ends_the_memory_and_not_the_work(caplog: pytest.LogCaptureFixture) -> None:
    once = Deduplicator()
    once._file = open("/dev/full", "a")  # noqa: SIM115
    do(once, "a", "b")
    assert "cannot write finished events" in caplog.text
    assert once.accept(job("a")) is not None
