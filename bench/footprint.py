"""Start-up time, memory and page faults of the service.

    python -m bench.footprint --rounds 5 --requests 1000

First it is started, in turns with a Python that imports the same packages and ends. Then it answers 1080p
photos on a few connections; page faults are counted once a fifth of them is answered. Prints one JSON object.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any, Final

import uvloop

from bench.load import read_answer, write_request
from bench.photos import NAMES, write_photos
from bench.servers import CONTENDERS, ROOT, free_port, measure_usage, start_server, stop, wait_until_answering

PACKAGES: Final = (
    "cv2", "fastapi", "httptools", "msgspec", "numpy", "onnxruntime", "prometheus_client", "pydantic",
    "pydantic_settings", "python_multipart", "rich.console", "rich.progress", "rich.table", "typer",
    "uvicorn.protocols.http.httptools_impl", "uvloop",
)  # fmt: skip
"""What a service has imported that is not its own code; `tests/bench/test_footprint.py` asks one."""

_QUIET: Final = {"EYE2FACE_DEVICE": "cpu", "EYE2FACE_LOG_LEVEL": "warning", "ORT_DISABLE_TELEMETRY": "1"}
_MAX_START_S: Final = 60.0


def time_imports() -> float:
    """Seconds that a Python takes which imports the packages and ends."""
    begin = time.monotonic()
    code = f"import {', '.join(PACKAGES)}"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=os.environ | _QUIET, check=True)
    return time.monotonic() - begin


def time_start() -> float:
    """Seconds from the command to the first 200 of `/readyz`.

    Raises:
        TimeoutError: there was none within a minute.
    """
    port, begin = free_port(), time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "service", "serve", "--port", str(port)], cwd=ROOT, env=os.environ | _QUIET,
        stdout=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        while not _is_ready(port):
            if time.monotonic() - begin > _MAX_START_S:
                raise TimeoutError(f"the service was not ready after {_MAX_START_S:.0f} s")
            time.sleep(0.002)
        return time.monotonic() - begin
    finally:
        stop(process)


def _is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:  # HTTPError is one
        return False


async def ask(port: int, request: bytes, num_connections: int, num_requests: int) -> int:
    """Sends so many requests and returns how many were not answered with 200."""
    left = num_requests

    async def send_requests() -> int:
        nonlocal left
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        num_bad = 0
        while left > 0:
            left -= 1
            writer.write(request)
            status, _ = await read_answer(reader)
            num_bad += status != 200
        writer.close()
        return num_bad

    return sum(await asyncio.gather(*(send_requests() for _ in range(num_connections))))


def measure_photos(photo: str, num_connections: int, num_requests: int) -> dict[str, Any]:
    """Page faults of one request, and the memory at the start and at the end."""
    with tempfile.TemporaryDirectory() as folder:
        request = write_request("/synthesize", write_photos(Path(folder))[photo].read_bytes(), "raw")
        with start_server(CONTENDERS[0], "cpu", Path(folder) / "log") as (port, session):
            if problem := wait_until_answering(port, session):
                raise SystemExit(problem)
            at_first = measure_usage(session)
            num_warm = num_requests // 5
            num_bad = uvloop.run(ask(port, request, num_connections, num_warm))
            warm = measure_usage(session)
            num_bad += uvloop.run(ask(port, request, num_connections, num_requests - num_warm))
            end = measure_usage(session)
    return {
        "photo": photo,
        "num_requests": num_requests,
        "num_bad": num_bad,
        "faults_per_request": round((end.num_faults - warm.num_faults) / (num_requests - num_warm), 2),
        "memory_mb_at_first": round(at_first.memory_mb, 1),
        "memory_mb_after": round(end.memory_mb, 1),
    }


def main() -> None:
    """Prints all of it."""
    parser = argparse.ArgumentParser(description="What the service takes to start, and in memory.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--photo", choices=NAMES, default="1080p")
    given = parser.parse_args()
    time_imports()  # the first reads the files from the disk
    rounds = [(time_start(), time_imports()) for _ in range(given.rounds)]
    told = {
        "start_s": round(statistics.median(start for start, _ in rounds), 3),
        "imports_s": round(statistics.median(imports for _, imports in rounds), 3),
        "start_of_imports": round(statistics.median(start / imports for start, imports in rounds), 3),
    }
    print(json.dumps(told | measure_photos(given.photo, given.connections, given.requests)))


if __name__ == "__main__":
    main()
