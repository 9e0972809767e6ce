"""What Ray's proxy costs: the service by itself and the same service as a replica of Ray's, in turns.

    python -m bench.ray_cost --rounds 5 --seconds 5

Both have one worker, run on this machine and are asked the same photos, by one caller and by several. Prints
one JSON object: medians over the rounds, with the least and the most. The CPU time is that of all processes of
a server, Ray's own among them. Needs the extra `ray`.
"""

import argparse
import json
import os
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import uvloop

from bench.cluster import started_cluster
from bench.load import run_load, write_request
from bench.photos import NAMES, write_photos
from bench.servers import CONTENDERS, started, usage, wait_until_answering

NUM_CALLERS: Final = (1, 8)
SERVERS: Final = ("by itself", "behind Ray")
Row = tuple[str, int, str]
"""Photo, number of callers, server."""


def measure(num_rounds: int, seconds: float) -> dict[Row, dict[str, list[float]]]:
    """What each round tells of each row: latency, CPU time of a photo, and photos a second.

    Raises:
        RuntimeError: a photo is answered with something else than a face.
    """
    rows = [(photo, num, server) for photo in NAMES for num in NUM_CALLERS for server in SERVERS]
    told: dict[Row, dict[str, list[float]]] = {row: {} for row in rows}
    with tempfile.TemporaryDirectory() as folder, _both(Path(folder)) as servers:
        photos = write_photos(Path(folder))
        for number in range(num_rounds + 1):
            for row in rows:
                photo, num_callers, server = row
                port, root = servers[server]
                request = write_request("/synthesize", photos[photo].read_bytes(), "raw")
                before = usage(root).cpu_s
                tally = uvloop.run(run_load(port, request, num_callers, 0.0, seconds))
                if tally.num_bad or not tally.latencies_s:
                    raise RuntimeError(f"{row}: {tally.bad or 'no answer'}")
                num = len(tally.latencies_s)
                if number:  # the first round warms
                    told[row].setdefault("p50_ms", []).append(statistics.median(tally.latencies_s) * 1000)
                    told[row].setdefault("cpu_ms", []).append((usage(root).cpu_s - before) / num * 1000)
                    told[row].setdefault("per_s", []).append(num / seconds)
    return told


@contextmanager
def _both(folder: Path) -> Iterator[dict[str, tuple[int, int]]]:
    """Port and first process of each server."""
    os.environ["EYE2FACE_NUM_THREADS"] = "1"  # for both of them
    with (
        started(CONTENDERS[0], "cpu", folder / "log") as (port, session),
        started_cluster(folder / "ray.log", max_replicas=1) as cluster,
    ):
        if problem := wait_until_answering(port, session):
            raise RuntimeError(problem)
        yield dict(zip(SERVERS, [(port, session), (cluster.port, cluster.process.pid)], strict=True))


def main() -> None:
    """Prints the table as JSON."""
    parser = argparse.ArgumentParser(description="Latency, CPU time and rate without and with Ray's proxy.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5, help="of each row in each round")
    given = parser.parse_args()
    table = [
        {"photo": photo, "callers": num_callers, "server": server}
        | {name: {key: round(of(each), 1) for key, of in _OF.items()} for name, each in told.items()}
        for (photo, num_callers, server), told in measure(given.rounds, given.seconds).items()
    ]
    print(json.dumps({"rounds": given.rounds, "seconds": given.seconds, "rows": table}, indent=1))


_OF: Final = {"median": statistics.median, "least": min, "most": max}


if __name__ == "__main__":
    main()
