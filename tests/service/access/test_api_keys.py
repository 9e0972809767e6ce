"""API keys: which are accepted, the errors of the others, and key files that change."""

import hashlib
import logging
import os
import threading
import time
from pathlib import Path

import pytest

from service.access import api_keys
from service.access.api_keys import (
    MAX_FILE_BYTES,
    ApiKey,
    KeyStore,
    append_key,
    generate_key,
    hash_key,
    read_key_file,
)
from service.errors import Unauthorized
from service.settings import ConfigurationError
from service.system import file_changes as changes

HASHES = [hashlib.sha256(key).hexdigest() for key in (b"first", b"second", "sch\u00fcssel".encode("latin-1"))]
KEYS = KeyStore(HASHES)


def test_without_keys_everybody_is_let_in() -> None:
    assert KeyStore().check(None, None) is None
    assert KeyStore().check("anything") is None


@pytest.mark.parametrize(("key", "number"), [("first", 0), ("second", 1), ("sch\u00fcssel", 2)])
def test_every_key_opens_and_is_told_apart(key: str, number: int) -> None:
    assert KEYS.check(key) == ApiKey(HASHES[number])


def test_one_good_key_of_several_is_enough() -> None:
    KEYS.check("wrong", "second")
    KEYS.check(None, "first")


@pytest.mark.parametrize("key", ["First", "third", " ", HASHES[0]])
def test_another_key_does_not_open(key: str) -> None:
    with pytest.raises(Unauthorized, match="not known"):
        KEYS.check(key, None)


@pytest.mark.parametrize("key", [None, ""])
def test_no_key_is_told_apart_from_a_wrong_one(key: str | None) -> None:
    with pytest.raises(Unauthorized, match="No key was sent"):
        KEYS.check(key, None)


def test_a_file_holds_hashes_names_and_comments(tmp_path: Path) -> None:
    file = tmp_path / "keys.txt"
    first, second = hash_key("first"), hash_key("second")
    file.write_text(f"# ours\n\n  {first}  gate camera, north \r\n{second.upper()}\n")
    assert read_key_file(file) == (ApiKey(first, "gate camera, north"), ApiKey(second))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no API key"),
        (b"# nothing but a comment\n", "no API key"),
        (b"my secret\n", "line 1 "),
        (b"\n" + b"0" * 63 + b" name\n", "line 2 "),
        (b"0" * 64 + b"name\n", "line 1 "),
        (b"\xff\xfe", "not UTF-8"),
        (hash_key("").upper().encode(), "line 1 .* empty key"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_and_not_shown(
    tmp_path: Path, content: bytes, message: str
) -> None:
    file = tmp_path / "keys.txt"
    file.write_bytes(content)
    with pytest.raises(ConfigurationError, match=message) as refused:
        KeyStore((), file)
    assert "secret" not in str(refused.value)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="No such file"):
        KeyStore((), tmp_path / "keys.txt")


def test_the_keys_of_the_settings_and_of_the_file_both_count(tmp_path: Path) -> None:
    file = tmp_path / "keys.txt"
    append_key(file, ApiKey(hash_key("second"), "two"))
    store = KeyStore([hash_key("first")], file)
    assert store.check("first") == ApiKey(hash_key("first"))
    assert store.check("second") == ApiKey(hash_key("second"), "two")


def test_added_lines_stand_each_on_their_own(tmp_path: Path) -> None:
    file = tmp_path / "keys.txt"
    append_key(file, ApiKey(hash_key("first"), "one"))
    assert os.stat(file).st_mode & 0o777 == 0o600
    file.write_text(file.read_text().rstrip("\n"))  # as an editor may leave it
    append_key(file, ApiKey(hash_key("second")))
    assert read_key_file(file) == (ApiKey(hash_key("first"), "one"), ApiKey(hash_key("second")))


def test_a_new_key_is_long_and_never_the_same() -> None:
    keys = {generate_key()[0] for _ in range(100)}
    assert len(keys) == 100
    assert all(len(key) == 43 and key.isascii() for key in keys)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file with the key `old`, checked at each request."""
    monkeypatch.setattr(changes, "CHECK_EVERY_S", 0.0)
    path = tmp_path / "keys.txt"
    path.write_text(hash_key("old"))
    return path


def replace(file: Path, text: str) -> None:
    """The file as most programs write it: beside it, then in its place."""
    beside = file.with_suffix(".new")
    beside.write_text(text)
    beside.replace(file)


def wait_for(store: KeyStore, *keys: str) -> None:
    """Returns once these keys alone are valid."""
    end = time.monotonic() + 10
    while {key.hash for key in store.keys} != set(map(hash_key, keys)):
        assert time.monotonic() < end
        time.sleep(0.01)


def wait_for_check(store: KeyStore) -> None:
    """Returns when the file was checked."""
    _ = store.keys
    for thread in threading.enumerate():
        if thread.name.endswith("(_check)"):
            thread.join(10)


def test_keys_are_rotated_while_the_service_runs(file: Path) -> None:
    store = KeyStore((), file)
    replace(file, f"{hash_key('old')}\n{hash_key('new')}\n")
    wait_for(store, "old", "new")
    file.write_text(hash_key("new"))  # in place, too
    wait_for(store, "new")


def break_file(file: Path, how: str) -> None:
    """Replaces the file by one without keys."""
    file.unlink()
    if how == "fifo":
        os.mkfifo(file)
    elif how == "folder":
        file.mkdir()
    elif how == "endless":
        file.symlink_to("/dev/zero")
    elif how == "large":
        file.write_text(f"{hash_key('new')}\n" * (MAX_FILE_BYTES // 65 + 1))
    elif how != "gone":
        replace(file, how)


@pytest.mark.parametrize("how", ["", "rubbish", "gone", "fifo", "folder", "endless", "large"])
def test_a_file_that_breaks_keeps_the_old_keys_says_so_once_and_recovers(
    file: Path, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    store = KeyStore((), file)
    break_file(file, how)
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            wait_for_check(store)
            store.check("old")
            with pytest.raises(Unauthorized):
                store.check("rubbish")
    assert len(caplog.records) == 1
    assert "cannot reload the API keys, keeping the previous" in caplog.text
    file.rmdir() if how == "folder" else file.unlink(missing_ok=True)
    replace(file, hash_key("new"))
    wait_for(store, "new")


def test_who_asks_for_the_keys_does_not_wait_for_the_file(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a network file system that does not answer."""
    store, answers = KeyStore((), file), threading.Event()
    monkeypatch.setattr(api_keys, "read_operator_text", lambda *_: answers.wait(60) and "")
    replace(file, hash_key("new"))
    begin = time.monotonic()
    for _ in range(100):
        store.check("old")
    assert time.monotonic() - begin < 10
    assert sum(thread.name.endswith("(_check)") for thread in threading.enumerate()) == 1
    answers.set()


def test_the_file_is_looked_at_at_most_once_a_second(tmp_path: Path) -> None:
    file = tmp_path / "keys.txt"
    file.write_text(hash_key("old"))
    store = KeyStore((), file)
    wait_for_check(store)
    replace(file, hash_key("new"))
    wait_for_check(store)
    store.check("old")
    store._newest._next_check -= changes.CHECK_EVERY_S  # a second later
    wait_for(store, "new")
