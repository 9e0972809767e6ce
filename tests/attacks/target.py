"""A service under attack: connections to it, its memory, and the latency of /livez."""

import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.livez import measure_livez

HOST: Final = b"Host: localhost\r\n"
CHUNKED: Final = b"Content-Type: image/png\r\nTransfer-Encoding: chunked\r\n\r\n"
MAX_LIVEZ_S: Final = 0.05
MAX_GROWTH_MB: Final = 40


@dataclass(frozen=True)
class Target:
    """A service that runs."""

    port: int
    pid: int

    def connect(self, sent: bytes = b"") -> socket.socket:
        """A connection that has sent these bytes, or as many as it could."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=20)
        with contextlib.suppress(ConnectionError):
            connection.sendall(sent)
        return connection

    def ask(self, sent: bytes) -> bytes:
        """All that comes until the service closes the connection."""
        with self.connect(sent) as connection:
            return read_all(connection)

    def memory_mb(self) -> int:
        """Resident memory of the process."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) // 1024

    def num_connections(self) -> int:
        """Sockets of the process."""
        num_sockets = 0
        for link in Path(f"/proc/{self.pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                num_sockets += os.readlink(link).startswith("socket:")
        return num_sockets

    @contextmanager
    def stays_well(self, *, max_growth_mb: int = MAX_GROWTH_MB) -> Iterator[None]:
        """Asks /livez all the while: 9 of 10 answers must come in time; memory must not grow."""
        before = self.memory_mb()
        with measure_livez(self.port) as seconds:
            try:
                yield
            finally:
                time.sleep(0.3)
        assert seconds[len(seconds) * 9 // 10] < MAX_LIVEZ_S, seconds[-5:]
        assert self.memory_mb() - before < max_growth_mb


def read_all(connection: socket.socket) -> bytes:
    """What comes until the other end closes or resets; fails after the socket's time-out."""
    received = b""
    with contextlib.suppress(ConnectionError):
        while chunk := connection.recv(65536):
            received += chunk
    return received


def pour(connection: socket.socket, pieces: Iterable[bytes]) -> int:
    """Sends until the other end closes; how many bytes were sent."""
    sent = 0
    with contextlib.suppress(ConnectionError, TimeoutError):
        for piece in pieces:
            connection.sendall(piece)
            sent += len(piece)
    return sent


def drip(connection: socket.socket, piece: bytes, *, max_s: float) -> float:
    """Sends the piece ten times a second; the seconds until the other end closes."""
    begin = time.monotonic()
    connection.settimeout(0.1)
    while time.monotonic() - begin < max_s:
        try:
            connection.sendall(piece)
            if not connection.recv(65536):
                break
        except TimeoutError:
            continue
        except ConnectionError:
            break
    return time.monotonic() - begin


def at_once(attack: Callable[[], object], num: int) -> None:
    """Runs the attack in so many threads; raises what one of them raised."""
    with ThreadPoolExecutor(num) as threads:
        for running in [threads.submit(attack) for _ in range(num)]:
            running.result()
