"""What `evaluate` reports of each system on a split: its numbers, those by group, and its worst samples."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.evaluation import evaluate as evaluation
from training.evaluation.benchmark import UNTRAINED, Benchmark, Metrics, drawn_before, mean_values
from training.evaluation.evaluate import System
from training.evaluation.groups import Groups, LabeledSplit

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
    drawn = {name: benchmark.draw(system) for name, system in systems.items()}
    again = {name: drawn_before(faces) for name, faces in drawn.items()}
    scores = evaluation.evaluate(again, benchmark.dataset, benchmark.features)
    found = {}
    for name, faces in drawn.items():
        embeddings = benchmark.embed(faces)
        values = benchmark.per_sample(faces, embeddings)
        numbers = asdict(scores[name]) | benchmark.compare(faces, embeddings)
        if labeled:
            agreement = {"sex_agreement": labeled.agreement(embeddings[UNTRAINED])}
            values |= agreement
            numbers |= mean_values(agreement, benchmark.rows)
        groups = labeled.by_group(values) if labeled else {}
        found[name] = Report(numbers, groups, _worst(values[f"rank_{UNTRAINED}"], benchmark.rows["person"]))
    return found


def write_reports(
    path: Path, reports: Mapping[str, Report], benchmark: Benchmark, labeled: LabeledSplit | None, *,
    keep: bool,
) -> None:  # fmt: skip
    """Writes the numbers, see `evaluate.write_scores`, and what they were measured with.

    Raises:
        ResultsError: those that are to be kept were measured otherwise.
    """
    facts = {
        "split": benchmark.split,
        "layers": evaluation.describe(benchmark.features),
        "data": benchmark.dataset.pairs.manifest["settings"]["source"],
        "embeddings": {space.name: space.network for space in benchmark.spaces},
        **({"judge": labeled.describe()} if labeled else {}),
    }
    numbers = {name: each.numbers for name, each in reports.items()}
    groups = {name: each.groups for name, each in reports.items() if each.groups}
    evaluation.write_scores(path, facts, numbers, groups, keep=keep)


def _worst(ranks_N: NDArray[np.float64], persons_N: NDArray[np.str_]) -> list[int]:
    order = np.argsort(-ranks_N, kind="stable")
    _, first = np.unique(persons_N[order], return_index=True)
    return [int(i) for i in order[np.sort(first)[:NUM_WORST]]]
