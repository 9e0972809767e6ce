"""Files that hold one secret and nothing else."""

import os
from pathlib import Path

import pytest

from service.settings import ConfigurationError
from service.system.operator_files import read_secret


def test_a_secret_is_the_content_of_its_file_without_the_final_newline(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("two words \r\n")
    assert read_secret(tmp_path / "secret") == "two words "
    assert read_secret(None) is None


@pytest.mark.parametrize(
    ("content", "said"), [(b"", "empty"), (b"\n", "empty"), (b"\xff\xfe", "not UTF-8 text")]
)
def test_an_unreadable_or_empty_secret_file_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "secret").write_bytes(content)
    with pytest.raises(ConfigurationError, match=said):
        read_secret(tmp_path / "secret")
    with pytest.raises(ConfigurationError, match=r"nowhere cannot be read \(No such file"):
        read_secret(tmp_path / "nowhere")


def test_a_fifo_holds_no_secret(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(ConfigurationError, match="Not a regular file"):
        read_secret(tmp_path / "fifo")
