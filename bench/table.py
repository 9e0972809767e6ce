"""The table of docs/benchmarks.md from bench/results.json: medians over rounds, relative to the floor.

python -m bench.table            prints it
python -m bench.table --into     writes it between the marks in docs/benchmarks.md
"""

import argparse
import json
import statistics
from pathlib import Path
from typing import Any, Final

from bench.run import RESULTS
from bench.servers import ROOT
from training.markdown import put_between_marks

Records = list[dict[str, Any]]
Case = tuple[str, str]

_MODELS: Final = {"standin": "stand-in accelerator", "cpu": "the model on the CPU"}


def write_table(results: dict[str, Any]) -> str:
    """The table as Markdown, the fastest first; what failed says so."""
    records = results["records"]
    cases = [(model, photo) for model in _MODELS for photo in ("250px", "1080p")]
    cases = [case for case in cases if any((each["model"], each["photo"]) == case for each in records)]
    most = max(each["connections"] for each in records)
    head = [f"{_MODELS[model]}, {photo}" for model, photo in cases]
    lines = ["| part of the floor's throughput | " + " | ".join(head) + " |", "|---" * (len(cases) + 1) + "|"]
    names = sorted(
        {each["contender"] for each in records} - {"floor"},
        key=lambda name: -_ratio(records, name, cases[0], most) if cases else 0,
    )
    for name in names:
        cells = [_cell(records, name, case, most) for case in cases]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    floors = [f"{_median(records, 'floor', case, 0, 'per_s'):.0f}" for case in cases]
    lines.append("| *the floor, photos a second* | " + " | ".join(floors) + " |")
    return "\n".join([*lines, "", _describe_method(results, most)])


def _describe_method(results: dict[str, Any], most: int) -> str:
    machine = results["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["peers"].items())
    return (
        f"Median of {results['rounds']} rounds of {results['seconds']:g} s each, {most} connections; in "
        "brackets the median latency with one connection, in parts of the in-process call. "
        f"{machine['cpu']}, {machine['cores']} cores, Python {machine['python']}; "
        f"{versions or 'peers not installed'}. Load of the machine before: {machine['load_before']:.1f}."
    )


def _of(records: Records, name: str, case: Case, connections: int) -> Records:
    wanted = (name, *case, connections)
    keys = ("contender", "model", "photo", "connections")
    return [each for each in records if tuple(each[key] for key in keys) == wanted and "failed" not in each]


def _median(records: Records, name: str, case: Case, connections: int, value: str) -> float:
    values = [each[value] for each in _of(records, name, case, connections)]
    return statistics.median(values) if values else 0.0


def _ratio(records: Records, name: str, case: Case, connections: int) -> float:
    """The median over the rounds of throughput beside the floor's in the same round."""
    floors = {each["round"]: each["per_s"] for each in _of(records, "floor", case, 0)}
    ratios = [
        each["per_s"] / floors[each["round"]]
        for each in _of(records, name, case, connections)
        if floors.get(each["round"])
    ]
    return statistics.median(ratios) if ratios else 0.0


def _cell(records: Records, name: str, case: Case, most: int) -> str:
    if not _of(records, name, case, most):
        return "failed"
    bad = sum(each["num_bad"] for each in _of(records, name, case, most))
    alone = _median(records, "floor", case, 0, "alone_p50_ms")
    one = _median(records, name, case, 1, "p50_ms")
    latency = f" ({one / alone:.2f} ×)" if alone and one else ""
    return f"{_ratio(records, name, case, most):.2f}{latency}" + (f", {bad} failed" if bad else "")


def main() -> None:
    """Prints the table, or writes it into docs/benchmarks.md."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--into", action="store_true")
    given = parser.parse_args()
    table = write_table(json.loads(given.results.read_text()))
    if given.into:
        put_between_marks(ROOT / "docs" / "benchmarks.md", "BENCH", table)
    else:
        print(table)


if __name__ == "__main__":
    main()
