"""Call path of one raw-JPEG request: the modules of the service it passes through, and the transitions.

    python -m bench.call_path

Traces `POST /synthesize` with `sys.setprofile` in all threads of a real server, on a connection that was used
before. A change is a call whose function lies in another module of `service` than the call before it in the
same thread. The request with the fewest changes counts: on a busy machine a body comes in more parts.
"""

import argparse
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.client import HTTPResponse
from pathlib import Path
from types import FrameType
from typing import Any, Final

import uvicorn

from bench.load import write_request
from bench.photos import write_photos
from service.http.app import create_app
from service.http.protocol import HttpProtocol
from service.settings import Settings

_SERVICE: Final = str(Path(create_app.__code__.co_filename).parents[1])
_NUM_WARM: Final = 3
_NUM_TRACED: Final = 3


@dataclass(frozen=True, slots=True)
class CallPath:
    """What one request called: its calls by module, and its changes of module."""

    calls: Counter[str] = field(default_factory=Counter)
    changes: Counter[tuple[str, str]] = field(default_factory=Counter)
    last: dict[int, str] = field(default_factory=dict)
    """The last module of each thread."""

    def note(self, module: str, thread: int) -> None:
        """Counts a call."""
        last = self.last.get(thread, "")
        self.last[thread] = module
        self.calls[module] += 1
        if module != last:
            self.changes[last, module] += 1


class Profiler:
    """A hook for `threading.setprofile`, which notes the calls of `service` in `path` while there is one."""

    path: CallPath | None = None

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        """Notes a call; called by Python."""
        path, file = self.path, frame.f_code.co_filename
        if path is not None and event == "call" and file.startswith(_SERVICE):
            path.note(file.removeprefix(_SERVICE)[1:-3].replace("/", "."), threading.get_ident())


def trace(photo: bytes) -> CallPath:
    """The path of one request, after a few that warm the service up."""
    profiler = Profiler()
    request = write_request("/synthesize", photo, "raw")
    with _serving(profiler) as address, socket.create_connection(address, timeout=60) as client:
        paths = [CallPath() for _ in range(_NUM_TRACED)]
        for path in (*[None] * _NUM_WARM, *paths):
            profiler.path = path
            client.sendall(request)
            answer = HTTPResponse(client)
            answer.begin()
            assert answer.status == HTTPStatus.OK, answer.read()
            answer.read()
            time.sleep(0.1)  # a worker may still note what it took
        profiler.path = None
    return min(paths, key=lambda path: path.changes.total())


@contextmanager
def _serving(profiler: Profiler) -> Iterator[tuple[str, int]]:
    """The address of the service, whose threads are profiled."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        app = create_app(Settings(device="cpu", num_threads=1))
        server = uvicorn.Server(uvicorn.Config(app, http=HttpProtocol, log_config=None))
        thread = threading.Thread(target=server.run, args=([listener],))
        threading.setprofile(profiler)
        thread.start()
        try:
            while not server.started and thread.is_alive():
                time.sleep(0.01)
            yield listener.getsockname()
        finally:
            threading.setprofile(None)
            server.should_exit = True
            thread.join()


def main() -> None:
    """Prints the two numbers, and the modules by their calls."""
    parser = argparse.ArgumentParser(description="The way of one raw-JPEG request through the service.")
    parser.add_argument("--photo", choices=["250px", "1080p"], default="250px")
    parser.add_argument("--changes", action="store_true", help="print every change, the most frequent first")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = trace(write_photos(Path(folder))[given.photo].read_bytes())
    print(f"{len(path.calls)} modules, {path.changes.total()} changes, {path.calls.total()} calls")
    for module, number in path.calls.most_common():
        print(f"{number:5} {module}")
    if given.changes:
        for (last, module), number in path.changes.most_common():
            print(f"{number:5} {last or '(start)'} -> {module}", file=sys.stdout)


if __name__ == "__main__":
    main()
