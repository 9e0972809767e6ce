"""API keys, of which only hashes are stored: in the settings, and in a file that is reloaded when it changes:

# a comment; then one key a line: its SHA-256 in hex, and optionally a name
9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08 gate camera
"""

import hashlib
import hmac
import os
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from service.errors import Unauthorized
from service.settings import ConfigurationError, check_key_hash
from service.system.file_changes import FollowedFiles
from service.system.files import open_regular_file
from service.system.operator_files import read_operator_text

MAX_FILE_BYTES: Final = 1 << 20
"""Of a file of keys: some ten thousand, which take a millisecond to compare."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """One key: its SHA-256 in hex, and its name."""

    hash: str
    name: str = ""

    @property
    def log_name(self) -> str:
        """Its name in the log; without a name, the start of its hash."""
        return self.name or self.hash[:8]

    @property
    def line(self) -> str:
        """Its line in a file of keys."""
        return f"{self.hash} {self.name}".rstrip()


class KeyStore:
    """The accepted keys: those of the settings, and of a file that may change while the service runs."""

    def __init__(self, hashes: Iterable[str] = (), path: Path | None = None) -> None:
        """Raises ConfigurationError: there is a path, and its file cannot be used."""
        own = tuple(map(ApiKey, hashes))
        self.is_configured = bool(own) or path is not None
        """Whether there are keys, or a file of them."""
        files = [path] if path is not None else []
        self._newest = FollowedFiles(
            "API keys", lambda: (*own, *(key for each in files for key in read_key_file(each))), *files
        )

    @property
    def keys(self) -> tuple[ApiKey, ...]:
        """The current keys. A file that became invalid changes nothing, and is logged."""
        return self._newest.value()

    def check(self, *candidates: str | None) -> ApiKey | None:
        """The first candidate that is a key; None if there are no keys, and every request is accepted.

        Raises:
            Unauthorized: none is.
        """
        keys = self.keys
        if not keys:
            return None
        sent = [candidate for candidate in candidates if candidate]
        for digest in map(hash_key, sent):
            # All hashes are compared, each in constant time: the duration reveals nothing about the keys.
            if equal := [key for key in keys if hmac.compare_digest(digest, key.hash)]:
                return equal[0]
        found = "The key that was sent is not known." if sent else "No key was sent."
        raise Unauthorized(f"{found} Send Authorization: Bearer KEY or X-API-Key: KEY.")


def read_key_file(path: Path) -> tuple[ApiKey, ...]:
    """The keys of a file.

    Raises:
        ConfigurationError: it cannot be read, a line is invalid, or it has no key.
    """
    keys = tuple(_parse(read_operator_text(path, MAX_FILE_BYTES), path))
    if not keys:  # a file that was emptied must not open the service to everybody
        raise ConfigurationError(
            f"the file {path} holds no API key; add one with `eye2face new-key --file {path}`"
        )
    return keys


def generate_key(name: str = "") -> tuple[str, ApiKey]:
    """A new random key of 256 bits, URL-safe, and what is stored of it."""
    secret = secrets.token_urlsafe(32)
    return secret, ApiKey(hash_key(secret), name)


def hash_key(key: str) -> str:
    """The SHA-256 of a key in hex, as settings and files have it."""
    return hashlib.sha256(key.encode("latin-1")).hexdigest()  # the bytes of the header


def append_key(path: Path, key: ApiKey) -> None:
    """Appends a key to a file; a new file is readable for its owner only.

    Raises:
        OSError: the file cannot be written.
    """
    try:
        with open_regular_file(path, "r+b", flags=os.O_CREAT, permissions=0o600) as file:
            text = file.read()
            start = "\n" if text and not text.endswith(b"\n") else ""
            file.write(f"{start}{key.line}\n".encode())
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def _parse(text: str, path: Path) -> Iterator[ApiKey]:
    for number, line in enumerate(text.splitlines(), start=1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        digest, *name = line.split(maxsplit=1)
        try:
            yield ApiKey(check_key_hash(digest, f"line {number} of {path}"), "".join(name))
        except ValueError as error:
            raise ConfigurationError(str(error)) from None
