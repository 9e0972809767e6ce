"""What outlives a bridge, in a SQLite database: events that are done, posted pictures, messages to send."""

import logging
import sqlite3
import threading
from pathlib import Path
from typing import Any, Final

from service.settings import ConfigurationError

MAX_REMEMBERED: Final = 20_000
"""Finished events and sent messages that are remembered: those of days, a few MB."""

# No write waits for the disk: what is written outlives a killed process, but a power cut may take the last.
_SCHEMA: Final = """
PRAGMA locking_mode = exclusive;
PRAGMA journal_mode = wal;
PRAGMA synchronous = normal;
PRAGMA secure_delete = on;
CREATE TABLE IF NOT EXISTS done (key TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS pictures (key TEXT PRIMARY KEY, camera TEXT, photo BLOB);
CREATE TABLE IF NOT EXISTS outgoing (
    id TEXT PRIMARY KEY, body BLOB, created_at REAL, due_at REAL, num_tries INTEGER DEFAULT 0
);
"""

_log = logging.getLogger(__name__)


class Database:
    """The database of one bridge; in memory without a file, or once that cannot be written. Thread-safe."""

    def __init__(self, file: Path | None = None) -> None:
        """Raises ConfigurationError: the file cannot be used."""
        self._lock = threading.Lock()
        self.is_lasting = file is not None
        """Whether there is a file."""
        try:
            self._connection = _connect(file or ":memory:")
            self._connection.executescript(_SCHEMA)
        except sqlite3.Error as error:
            raise ConfigurationError(f"EYE2FACE_BRIDGE_MEMORY_FILE: {file}: {error}") from error

    def execute(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """The rows of a statement, which is written when this returns."""
        with self._lock:
            try:
                return self._connection.execute(statement, values).fetchall()
            except sqlite3.Error as error:  # a full disk, for instance; the bridge goes on
                _log.error("EYE2FACE_BRIDGE_MEMORY_FILE: %s; a restart may repeat or lose events", error)
                self._move_to_memory()
                return self._connection.execute(statement, values).fetchall()

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            self._connection.close()

    def _move_to_memory(self) -> None:
        memory = _connect(":memory:")
        try:
            self._connection.backup(memory)
        except sqlite3.Error:  # it cannot even be read
            memory = _connect(":memory:")
        memory.executescript(_SCHEMA)
        self._connection.close()
        self._connection = memory


def _connect(file: Path | str) -> sqlite3.Connection:
    return sqlite3.connect(file, isolation_level=None, check_same_thread=False, timeout=1)
