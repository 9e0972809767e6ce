"""A service on a real socket, in its own process or in a thread of the test."""

import asyncio
import ctypes
import os
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Running:
    """A running service: its process, its address, and the file of its output."""

    process: "subprocess.Popen[bytes]"
    address: str
    log: Path


@contextmanager
def running_service(folder: Path, **settings: object) -> Iterator[Running]:
    """`eye2face serve` with these settings, ready; stopped at the end. Its output is written to `folder`."""
    port, log = find_free_port(), folder / "service.log"
    address = f"http{'s' * ('tls_cert_file' in settings)}://127.0.0.1:{port}"
    given = {"port": port, "device": "cpu", "eye_finder": "haar"} | settings
    own = {f"EYE2FACE_{name.upper()}": str(value) for name, value in given.items()}
    command = [sys.executable, "-m", "service", "serve"]
    with (
        log.open("wb") as said,
        subprocess.Popen(command, cwd=ROOT, env=os.environ | own, stdout=said, stderr=said) as process,
    ):
        try:
            wait_until_ready(address, process, max_wait_s=300)
            yield Running(process, address, log)
        finally:
            process.terminate()


@contextmanager
def run_service(**settings: object) -> Iterator[str]:
    """The same; gives its address alone."""
    with tempfile.TemporaryDirectory() as folder, running_service(Path(folder), **settings) as service:
        yield service.address


def find_free_port() -> int:
    """A port of this machine that nobody listens on at the moment."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


def wait_until_ready(
    address: str, process: "subprocess.Popen[bytes]", *, max_wait_s: float = 60, every_s: float = 0.1
) -> None:
    """Returns once the service at `address` takes photos; fails if its process ends before."""
    end = time.monotonic() + max_wait_s
    while True:
        try:
            trusting = ssl._create_unverified_context()
            urllib.request.urlopen(f"{address}/readyz", timeout=2, context=trusting).close()
            return
        except (urllib.error.URLError, OSError):
            assert process.poll() is None, "the service ended before it was ready"
            assert time.monotonic() < end, f"the service was not ready after {max_wait_s} s"
            time.sleep(every_s)


@contextmanager
def served_here(app: FastAPI, **config: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """The app behind a real uvicorn in a thread of this process; gives its address and what its start made.

    The state has `loop` beside what the lifespan put there; `config` is uvicorn's.
    """
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = _Server(uvicorn.Config(app, log_config=None, **config))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            while not server.started and thread.is_alive():
                time.sleep(0.01)
            yield (
                f"http://127.0.0.1:{listener.getsockname()[1]}",
                server.lifespan.state | {"loop": server.loop},
            )
        finally:
            server.should_exit = True
            thread.join()


@contextmanager
def serving(app: FastAPI) -> Iterator[str]:
    """The same; gives its address alone."""
    with served_here(app) as (address, _):
        yield address


class _Server(uvicorn.Server):
    loop: asyncio.AbstractEventLoop

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        self.loop = asyncio.get_running_loop()
        await super().serve(sockets)


def kill(thread: threading.Thread) -> None:
    """Raises SystemExit in the thread, wherever it is; it ends when it next runs."""
    assert thread.ident is not None
    killed = ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(thread.ident), ctypes.py_object(SystemExit)
    )
    assert killed == 1
