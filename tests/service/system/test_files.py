"""Files: regular ones are read up to a size, others are refused without waiting, and writes are atomic."""

import errno
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from service.system.files import open_regular_file, read_regular_file, remove_parts, replace_file


def test_a_file_is_read_up_to_its_limit_through_links_too(tmp_path: Path) -> None:
    path, link = tmp_path / "file", tmp_path / "link"
    path.write_bytes(b"12345")
    link.symlink_to(path)
    assert read_regular_file(path, 5) == read_regular_file(link, 5) == b"12345"
    with pytest.raises(OSError, match=r"Larger than 4 bytes.*file'"):
        read_regular_file(path, 4)


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/tty", "fifo", "socket", "folder", "loop", "none"])
def test_what_is_no_regular_file_is_told_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("fifo")
    os.mkdir("folder")
    os.symlink("loop", "loop")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("socket")
        with pytest.raises(OSError) as met:
            read_regular_file(Path(path), 5)
    assert met.value.strerror and met.value.filename == path


def test_files_that_have_no_size_or_a_huge_one_are_bounded_too(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="Larger than 5 bytes"):
        read_regular_file(Path("/proc/cpuinfo"), 5)
    sparse = tmp_path / "sparse"
    with sparse.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(OSError, match="Larger than"):
        read_regular_file(sparse, 1 << 20)


def test_a_link_is_not_followed_where_that_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError):
        open_regular_file(tmp_path / "link", "ab", flags=os.O_NOFOLLOW)
    assert not (tmp_path / "elsewhere").exists()


def test_a_file_is_replaced_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 255)
    path.write_bytes(b"old")
    with pytest.raises(KeyError), replace_file(path) as file:
        file.write(b"half")
        raise KeyError
    assert [each.read_bytes() for each in tmp_path.iterdir()] == [b"old"]
    with replace_file(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert [each.read_bytes() for each in tmp_path.iterdir()] == [b"new"]
    assert stat.S_IMODE(path.stat().st_mode) & 0o444


@pytest.mark.parametrize("make", [
    os.mkfifo, Path.mkdir, lambda path: path.symlink_to("victim"), lambda path: path.symlink_to("nothing"),
])  # fmt: skip
def test_only_regular_files_are_replaced(tmp_path: Path, make: Callable[[Path], None]) -> None:
    (tmp_path / "victim").write_bytes(b"mine")
    make(tmp_path / "it")
    with pytest.raises(OSError, match="Not a regular file"), replace_file(tmp_path / "it") as file:
        file.write(b"theirs")
    assert (tmp_path / "victim").read_bytes() == b"mine"
    assert {each.name for each in tmp_path.iterdir()} == {"victim", "it"}


def test_an_error_names_the_file_that_was_to_be(tmp_path: Path) -> None:
    path = tmp_path / "gone" / "face.png"
    with pytest.raises(OSError) as refused, replace_file(path):
        pass
    assert (refused.value.errno, refused.value.filename) == (errno.ENOENT, str(path))
    with pytest.raises(OSError) as refused, replace_file(tmp_path / "face.png"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert (refused.value.errno, refused.value.filename) == (errno.ENOSPC, str(tmp_path / "face.png"))


def test_what_a_killed_process_was_writing_is_removed(tmp_path: Path) -> None:
    (tmp_path / "user's.part").touch()
    with pytest.raises(FileNotFoundError), replace_file(tmp_path / "face.png"):
        assert len(list(tmp_path.iterdir())) == 2
        remove_parts(tmp_path)
        assert [each.name for each in tmp_path.iterdir()] == ["user's.part"]


def test_a_link_in_the_place_of_what_is_written_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Although its random name were known."""
    monkeypatch.setattr("secrets.token_hex", lambda _: "0")
    target = tmp_path / "target"
    target.write_text("kept")
    (tmp_path / ".eye2face-0.part").symlink_to(target)
    with pytest.raises(FileExistsError), replace_file(tmp_path / "face.png") as file:
        file.write(b"face")
    assert target.read_text() == "kept" and not (tmp_path / "face.png").exists()
