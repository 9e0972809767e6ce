"""Overhead of Ray Serve: the service by itself and as a replica of Ray's, in interleaved rounds.

    python -m bench.ray_cost --rounds 7 --seconds 4         prints the table
    python -m bench.ray_cost --into docs/scale-out.md       writes it between the marks there, too

Each has one worker, runs on this machine and is asked the same photos, by one caller and by several; Ray
twice, with HAProxy and with its own proxy. The CPU time is that of all processes of a server, Ray's own too.
Needs the extra `ray`.
"""

import argparse
import os
import platform
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Final, Literal, get_args

import uvloop

from bench.cluster import started_cluster
from bench.load import run_load, write_request
from bench.photos import NAMES, write_photos
from bench.servers import CONTENDERS, cpu_name, measure_usage, start_server, wait_until_answering
from service.system.host import count_cores
from training.markdown import put_between_marks

NUM_CALLERS: Final = (1, 8)

Server = Literal["by itself", "Ray, HAProxy", "Ray, its own proxy"]
SERVERS: Final[tuple[Server, ...]] = get_args(Server)
VALUES: Final = ("latency, ms", "CPU time of a photo, ms", "photos a second")
Told = dict[tuple[str, int], dict[Server, list[tuple[float, ...]]]]
"""For each photo and number of callers: the values of each round, in the order of VALUES."""


def measure(num_rounds: int, seconds: float) -> Told:
    """What each round tells.

    Raises:
        RuntimeError: a photo is answered with something else than a face, or nothing answers.
    """
    told: Told = {(photo, num): {each: [] for each in SERVERS} for photo in NAMES for num in NUM_CALLERS}
    with tempfile.TemporaryDirectory() as folder, _all_started(Path(folder)) as servers:
        photos = write_photos(Path(folder))
        requests = {name: write_request("/synthesize", photos[name].read_bytes(), "raw") for name in NAMES}
        for number in range(num_rounds + 1):
            for (photo, num_callers), rounds in told.items():
                for server in SERVERS:
                    values = _measure_one(*servers[server], requests[photo], num_callers, seconds)
                    if number:  # the first round warms
                        rounds[server].append(values)
    return told


def _measure_one(port: int, root: int, request: bytes, num_callers: int, seconds: float) -> tuple[float, ...]:
    before = measure_usage(root).cpu_s
    result = uvloop.run(run_load(port, request, num_callers, 0.0, seconds))
    if result.num_bad or not result.latencies_s:
        raise RuntimeError(f"no face: {result.bad or 'no answer'}")
    num = len(result.latencies_s)
    cpu_ms = (measure_usage(root).cpu_s - before) / num * 1000
    return statistics.median(result.latencies_s) * 1000, cpu_ms, num / seconds


@contextmanager
def _all_started(folder: Path) -> Iterator[dict[Server, tuple[int, int]]]:
    """Port and first process of each server."""
    os.environ["EYE2FACE_NUM_THREADS"] = "1"  # for all of them
    with (
        start_server(CONTENDERS[0], "cpu", folder / "log") as (port, session),
        started_cluster(folder / "haproxy.log", "haproxy", max_replicas=1) as haproxy,
        started_cluster(folder / "python.log", "python", max_replicas=1) as python,
    ):
        if problem := wait_until_answering(port, session):
            raise RuntimeError(problem)
        clusters = [(each.port, each.process.pid) for each in (haproxy, python)]
        yield dict(zip(SERVERS, [(port, session), *clusters], strict=True))


def write_table(told: Told) -> str:
    """Markdown: medians over the rounds; what Ray adds is the median of the differences within a round."""
    lines = [f"| photo, callers | | {' | '.join(VALUES)} |", "|---" * (2 + len(VALUES)) + "|"]
    for (photo, num_callers), rounds in told.items():
        alone = rounds[SERVERS[0]]
        for server, each in rounds.items():
            cells = [
                _cell(*pair) for pair in zip(zip(*alone, strict=True), zip(*each, strict=True), strict=True)
            ]
            lines.append(f"| {photo}, {num_callers} | {server} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(alone: tuple[float, ...], values: tuple[float, ...]) -> str:
    text = f"{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})"
    more = statistics.median(value - other for other, value in zip(alone, values, strict=True))
    return text if values == alone else f"{text}, {more:+.1f}"


def describe_method(num_rounds: int, seconds: float, load_before: float) -> str:
    """What the table was measured with, and on what."""
    versions = ", ".join(f"{name} {version(name)}" for name in ("ray", "uvicorn", "onnxruntime"))
    return (
        f"Medians of {num_rounds} rounds of {seconds:g} s each, one worker each, in turns; in brackets the "
        "least and the most, then what Ray adds within a round. Callers and servers share the machine: "
        f"{cpu_name()}, {count_cores()} cores, Python {platform.python_version()}, {versions}. "
        f"Load of the machine before: {load_before:.1f}."
    )


def main() -> None:
    """Prints the table, and writes it into a document if one is named."""
    parser = argparse.ArgumentParser(description="Latency, CPU time and rate without and with Ray's proxy.")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=4, help="of each row in each round")
    parser.add_argument("--into", type=Path, help="the document that has the marks")
    given = parser.parse_args()
    load_before = os.getloadavg()[0]
    told = measure(given.rounds, given.seconds)
    table = f"{write_table(told)}\n\n{describe_method(given.rounds, given.seconds, load_before)}"
    print(table)
    if given.into:
        put_between_marks(given.into, "RAY", table)


if __name__ == "__main__":
    main()
