"""CPU time of the HTTP layer: one request whose photo is neither decoded nor drawn.

    python -m bench.http_cost                     three rows: an empty route, raw bodies, forms
    python -m bench.http_cost --beside FOLDER     the service of another checkout too, in turns

A photo of 30 KB goes in and a face of 30 KB comes out; in between stands everything but picture and model
(`bench/peers/hollow.py`). The CPU time is that of all threads of the server, in the kernel too. Prints one
JSON object: the median and the spread over the rounds, in microseconds a request.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import cv2
import numpy as np
import skimage.data
import uvloop

from bench.load import read_answer, write_request
from bench.servers import ROOT, free_port, stop, wait_until_answering
from service.vision.images import encode

NUM_CONNECTIONS: Final = 16
_SIDE_PX: Final = 330
"""Of the astronaut, at quality 90: 30 KB."""


@dataclass(frozen=True, slots=True)
class Row:
    """One server and one form of request."""

    name: str
    route: Literal["empty", "hollow"]
    form: Literal["raw", "multipart"]
    root: Path = ROOT


ROWS: Final = (
    Row("empty route, raw", "empty", "raw"),
    Row("eye2face, raw", "hollow", "raw"),
    Row("eye2face, multipart", "hollow", "multipart"),
)


def measure(rows: list[Row], num_rounds: int, num_requests: int) -> dict[str, list[float]]:
    """The microseconds of CPU for one request, of each row in each round."""
    told: dict[str, list[float]] = {row.name: [] for row in rows}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as servers:
        photo, face = _write_pictures(Path(folder))
        running = {
            server: servers.enter_context(_started(*server, face, Path(folder) / "log"))
            for server in sorted({(row.route, row.root) for row in rows})
        }
        for number in range(num_rounds + 1):
            for row in rows:
                port, pid = running[row.route, row.root]
                request = write_request("/synthesize", photo, row.form)
                before = cpu_s(pid)
                uvloop.run(ask(port, request, num_requests))
                if number:  # the first round warms
                    told[row.name].append((cpu_s(pid) - before) / num_requests * 1e6)
    return told


async def ask(port: int, request: bytes, num_requests: int) -> None:
    """Sends so many requests over a few connections, each when the last one is answered.

    Raises:
        RuntimeError: one is not answered with a face.
    """
    left = iter(range(num_requests))

    async def send_requests() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            for _ in left:
                writer.write(request)
                status, body = await read_answer(reader)
                if status != 200 or not body.startswith(b"\x89PNG"):
                    raise RuntimeError(f"answered with {status}: {body[:200]!r}")
        finally:
            writer.close()

    await asyncio.gather(*(send_requests() for _ in range(NUM_CONNECTIONS)))


def cpu_s(pid: int) -> float:
    """Seconds of CPU that the threads of a process have used, to the nanosecond."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9


def _write_pictures(folder: Path) -> tuple[bytes, Path]:
    """The photo that is sent, and the file of the face that is answered."""
    astronaut = np.asarray(skimage.data.astronaut())[:_SIDE_PX, 100 : 100 + _SIDE_PX]  # type: ignore[no-untyped-call]
    done, photo = cv2.imencode(".jpg", astronaut[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])
    assert done
    face = folder / "face.png"
    pixels = np.ascontiguousarray(astronaut[60:188, 60:188])
    face.write_bytes(encode(pixels, "png"))
    return photo.tobytes(), face


@contextmanager
def _started(route: str, root: Path, face: Path, log: Path) -> Iterator[tuple[int, int]]:
    """Port and process of a server that answers."""
    port = free_port()
    own = {
        "BENCH_PORT": str(port), "BENCH_ROUTE": route, "BENCH_FACE": str(face), "PYTHONPATH": str(root),
        "EYE2FACE_DEVICE": "cpu", "EYE2FACE_LOG_LEVEL": "warning",
    }  # fmt: skip
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, str(root / "bench" / "peers" / "hollow.py")], cwd=root,
            env=os.environ | own, stdout=output, stderr=output,
        )  # fmt: skip
        try:
            if problem := wait_until_answering(port, process.pid):
                raise SystemExit(f"{route}: {problem}: {log.read_text()[-1000:]}")
            yield port, process.pid
        finally:
            stop(process)


def describe(told: dict[str, list[float]]) -> dict[str, Any]:
    """Median, least and most of each row, in microseconds of CPU."""
    return {
        name: {
            "median_us": round(statistics.median(each)),
            "least_us": round(min(each)),
            "most_us": round(max(each)),
        }
        for name, each in told.items()
    }


def main() -> None:
    """Prints the table as JSON."""
    parser = argparse.ArgumentParser(description="What HTTP costs, in microseconds of CPU a request.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=4000, help="of each row in each round")
    parser.add_argument("--beside", type=Path, help="another checkout of this project")
    given = parser.parse_args()
    rows = list(ROWS)
    if given.beside:
        rows += [
            Row(f"{given.beside.name}, {form}", "hollow", form, given.beside.resolve())
            for form in ("raw", "multipart")
        ]
    told = measure(rows, given.rounds, given.requests)
    print(json.dumps({"requests": given.requests, "rounds": given.rounds} | describe(told), indent=1))


if __name__ == "__main__":
    main()
