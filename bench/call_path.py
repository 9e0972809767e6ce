"""Call path of one raw-JPEG request: the modules of the service it passes through, and the transitions.

    python -m bench.call_path

Traces `POST /synthesize` with `sys.setprofile` in all threads of a real server, on a connection that was used
before. A change is a call whose function lies in another module of `service` than the call before it in the
same thread.
"""

import argparse
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
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


class CallPath:
    """A profiler's hook: counts calls by module and changes of module, while it is switched on."""

    def __init__(self) -> None:
        self.is_on = False
        self.calls: Counter[str] = Counter()
        self.changes: Counter[tuple[str, str]] = Counter()
        self._last: dict[int, str] = {}

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        """Notes a call; called by Python."""
        if not self.is_on or event != "call" or not frame.f_code.co_filename.startswith(_SERVICE):
            return
        module = frame.f_code.co_filename.removeprefix(_SERVICE)[1:-3].replace("/", ".")
        last = self._last.get(threading.get_ident(), "")
        self._last[threading.get_ident()] = module
        self.calls[module] += 1
        if module != last:
            self.changes[last, module] += 1


def trace(photo: bytes) -> CallPath:
    """The path of one request, after a few that warm the service up."""
    path = CallPath()
    threading.setprofile(path)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        app = create_app(Settings(device="cpu", num_threads=1))
        server = uvicorn.Server(uvicorn.Config(app, http=HttpProtocol, log_config=None))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        request = write_request("/synthesize", photo, "raw")
        try:
            while not server.started and thread.is_alive():
                time.sleep(0.01)
            with socket.create_connection(listener.getsockname(), timeout=60) as client:
                for path.is_on in (*[False] * _NUM_WARM, True):
                    client.sendall(request)
                    answer = HTTPResponse(client)
                    answer.begin()
                    answer.read()
                time.sleep(0.1)  # a worker may still note what it took
                path.is_on = False
        finally:
            server.should_exit = True
            thread.join()
    return path


def main() -> None:
    """Prints the two numbers, and the modules by their calls."""
    parser = argparse.ArgumentParser(description="The way of one raw-JPEG request through the service.")
    parser.add_argument("--photo", choices=["250px", "1080p"], default="250px")
    parser.add_argument("--changes", action="store_true", help="print every change, the most frequent first")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = trace(write_photos(Path(folder))[given.photo].read_bytes())
    print(
        f"{len(path.calls)} modules, {sum(path.changes.values())} changes, {sum(path.calls.values())} calls"
    )
    for module, number in path.calls.most_common():
        print(f"{number:5} {module}")
    if given.changes:
        for (last, module), number in path.changes.most_common():
            print(f"{number:5} {last or '(start)'} -> {module}", file=sys.stdout)


if __name__ == "__main__":
    main()
