"""A service in a process of its own, for the tests that talk to it over a real socket."""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parent.parent


def find_free_port() -> int:
    """A port of this machine that nobody listens on at the moment."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


def wait_until_ready(address: str, process: "subprocess.Popen[bytes]", *, max_wait_s: float = 60) -> None:
    """Returns once the service at `address` takes photos; fails if its process ends before."""
    end = time.monotonic() + max_wait_s
    while True:
        try:
            urllib.request.urlopen(f"{address}/readyz", timeout=2).close()
            return
        except (urllib.error.URLError, OSError):
            assert process.poll() is None, "the service ended before it was ready"
            assert time.monotonic() < end, f"the service was not ready after {max_wait_s} s"
            time.sleep(0.1)


@contextmanager
def serving(**settings: str) -> Iterator[str]:
    """The address of a service with the shipped model on the CPU, which runs until the end of the block."""
    port = find_free_port()
    # What Haar sees in the photos of these tests is known, whatever the default is.
    own = {"EYE2FACE_PORT": str(port), "EYE2FACE_DEVICE": "cpu", "EYE2FACE_EYE_FINDER": "haar"} | settings
    command = [sys.executable, "-m", "service", "serve"]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, cwd=ROOT, env=os.environ | own, stdout=quiet, stderr=quiet) as process:
        try:
            wait_until_ready(f"http://127.0.0.1:{port}", process, max_wait_s=300)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
