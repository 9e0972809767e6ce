"""Throughput of this checkout beside others, in interleaved rounds.

    python -m bench.compare ../before --model cpu --photo 250px --connections 32

All servers live from the start to the end, and each is asked in each round. Prints one JSON object for each
checkout: medians over the rounds, and throughput in parts of this checkout's in the same round (first
quarter, median, last quarter).
"""

import argparse
import json
import statistics
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench.photos import write_photos
from bench.run import ask
from bench.servers import CONTENDERS, ROOT, start_server, wait_until_answering

OURS = CONTENDERS[0]


def measure(roots: list[Path], given: argparse.Namespace) -> list[list[dict[str, Any]]]:
    """For each checkout what each round gave."""
    told: list[list[dict[str, Any]]] = [[] for _ in roots]
    with tempfile.TemporaryDirectory() as folder, ExitStack() as servers:
        photo = write_photos(Path(folder))[given.photo]
        log = Path(folder) / "servers.log"
        living = [servers.enter_context(start_server(OURS, given.model, log, root=root)) for root in roots]
        for (port, pid), root in zip(living, roots, strict=True):
            if problem := wait_until_answering(port, pid):
                raise SystemExit(f"{root}: {problem}: {log.read_text()[-1000:]}")
        for _ in range(given.rounds):
            for served, rounds in zip(living, told, strict=True):
                told_now = ask(OURS, served, photo, connections=given.connections, warm_s=given.warm,
                               seconds=given.seconds)  # fmt: skip
                if told_now["num_bad"]:
                    raise SystemExit(f"{told_now['num_bad']} bad answers: {told_now['bad']}")
                rounds.append(told_now)
    return told


def describe(rounds: list[dict[str, Any]], ours: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians over the rounds, and the quarters of the throughput in parts of ours."""
    parts = [theirs["per_s"] / max(own["per_s"], 1e-9) for theirs, own in zip(rounds, ours, strict=True)]
    names = ("per_s", "p50_ms", "cpu_ms", "memory_mb")
    medians = {name: round(statistics.median(each[name] for each in rounds), 2) for name in names}
    quarters = statistics.quantiles(parts, n=4) if len(parts) > 1 else parts
    return medians | {"per_s_of_ours": [round(part, 3) for part in quarters]}


def main() -> None:
    """Prints what each checkout gave, this one first."""
    parser = argparse.ArgumentParser(description="This checkout beside others, in turns.")
    parser.add_argument("others", nargs="*", type=Path)
    parser.add_argument("--model", choices=["cpu", "standin"], default="cpu")
    parser.add_argument("--photo", choices=["250px", "1080p"], default="250px")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--warm", type=float, default=0.3)
    parser.add_argument("--seconds", type=float, default=1.5)
    given = parser.parse_args()
    for other in given.others:  # there this checkout, which is installed, would be measured against itself
        if not all((other / needed).is_dir() for needed in ("service", "bench/peers")):
            parser.error(f"{other} is no checkout of this repository")
    roots = [ROOT, *(other.resolve() for other in given.others)]
    told = measure(roots, given)
    for root, rounds in zip(roots, told, strict=True):
        print(json.dumps({"checkout": root.name} | describe(rounds, told[0])))


if __name__ == "__main__":
    main()
