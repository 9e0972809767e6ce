"""Files that settings name: certificates, API keys, and secrets, of which each file holds one."""

from pathlib import Path
from typing import Final

from service.settings import ConfigurationError
from service.system.files import read_regular_file

_MAX_SECRET_BYTES: Final = 1 << 16


def read_operator_file(path: Path, max_bytes: int) -> bytes:
    """The content of a regular file.

    Raises:
        ConfigurationError: it cannot be read, or is larger.
    """
    try:
        return read_regular_file(path, max_bytes)
    except OSError as error:
        raise ConfigurationError(f"the file {path} cannot be read ({error.strerror})") from error


def read_operator_text(path: Path, max_bytes: int) -> str:
    """The text of a regular file.

    Raises:
        ConfigurationError: it cannot be read, is larger, or is not UTF-8.
    """
    try:
        return read_operator_file(path, max_bytes).decode()
    except UnicodeDecodeError:
        raise ConfigurationError(f"the file {path} is not UTF-8 text") from None


def read_secret(path: Path | None) -> str | None:
    """Content of the file without its final newline; None without a path.

    Raises:
        ConfigurationError: the file cannot be read, is empty, or is not UTF-8 text.
    """
    if path is None:
        return None
    secret = read_operator_text(path, _MAX_SECRET_BYTES).rstrip("\r\n")
    if not secret:
        raise ConfigurationError(f"the file {path} is empty; it must hold only the secret")
    return secret
