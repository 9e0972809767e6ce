"""What `evaluate` reports of each system on a split: its numbers, those by group, and its worst samples."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.data.files import write_atomically
from training.errors import ResultsError
from training.evaluation import evaluate as evaluation
from training.evaluation.benchmark import UNTRAINED, Benchmark, mean_values
from training.evaluation.evaluate import Metrics, System
from training.evaluation.groups import Groups, LabeledSplit
from training.evaluation.tables import read_scores

NUM_WORST = 10


@dataclass(frozen=True, slots=True)
class Report:
    """A system's numbers, over all people and by group.

    worst: the samples, one a person, whose true face ranks worst, worst first.
    """

    numbers: Metrics
    groups: Groups
    worst: list[int]


def report_systems(
    systems: Mapping[str, System], benchmark: Benchmark, labeled: LabeledSplit | None = None
) -> dict[str, Report]:
    """Draws the split's faces by each system and measures them; by group, and by the judge, where labeled."""
    reports = {}
    for name, found in benchmark.measure(
        {name: benchmark.draw(each) for name, each in systems.items()}
    ).items():
        numbers, groups = found.numbers, {}
        if labeled:
            agreement = {"sex_agreement": labeled.agreement(found.embeddings[UNTRAINED])}
            numbers = numbers | mean_values(agreement, benchmark.rows)
            groups = labeled.by_group(found.per_sample | agreement)
        worst = _worst(found.per_sample[f"rank_{UNTRAINED}"], benchmark.rows["person"])
        reports[name] = Report(numbers, groups, worst)
    return reports


def write_reports(
    path: Path, reports: Mapping[str, Report], benchmark: Benchmark, labeled: LabeledSplit | None, *,
    keep: bool,
) -> None:  # fmt: skip
    """Writes the numbers, and what they were measured with, as JSON; `keep` leaves other systems there.

    Raises:
        ResultsError: those that are to be kept were measured otherwise, or the file is damaged.
    """
    facts: dict[str, Any] = {
        "split": benchmark.split,
        "layers": evaluation.describe(benchmark.features),
        "data": benchmark.dataset.pairs.manifest["settings"]["source"],
        "embeddings": {space.name: space.network for space in benchmark.spaces},
        **({"judge": labeled.describe()} if labeled else {}),
    }
    scores = {name: each.numbers for name, each in reports.items()}
    groups = {name: each.groups for name, each in reports.items() if each.groups}
    if keep and path.exists():
        earlier = read_scores(path)
        scores, groups = earlier.pop("scores") | scores, earlier.pop("groups", {}) | groups
        if earlier != facts:
            raise ResultsError(
                f"the scores in {path} are of {earlier}, these of {facts}: write to another file"
            )
    written = facts | {"scores": scores} | ({"groups": groups} if groups else {})
    write_atomically(path, json.dumps(written, indent=1) + "\n")


def _worst(ranks_N: NDArray[np.float64], persons_N: NDArray[np.str_]) -> list[int]:
    order = np.argsort(-ranks_N, kind="stable")
    _, first = np.unique(persons_N[order], return_index=True)
    return [int(i) for i in order[np.sort(first)[:NUM_WORST]]]
