"""Files of every kind: regular ones are read up to a size, and nothing else is waited for."""

import os
import socket
from pathlib import Path

import pytest

from service.runtime.files import read_regular_file


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
