"""What `evaluate` reports: each system's numbers on a split, those by group, and its worst samples.

From eyes to numbers: `systems` draw a split's faces; `benchmark` measures them by `scores`, `metrics` and
`embeddings`, `groups` by labels of the people, `guesses` those of a file that draws many faces of an eye.
`tables` shows what is written here.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.inference.synthesizer import Synthesizer
from training.data.files import write_atomically
from training.data.store import Pairs
from training.errors import ResultsError
from training.evaluation import systems
from training.evaluation.benchmark import Benchmark, mean_values
from training.evaluation.embeddings import UNTRAINED
from training.evaluation.groups import Groups, LabeledSplit
from training.evaluation.guesses import measure_guesses
from training.evaluation.metrics import Metrics
from training.evaluation.systems import System
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


def open_systems(paths: Mapping[str, Path], pairs: Pairs) -> tuple[dict[str, System], dict[str, Synthesizer]]:
    """The systems of runs and of `.onnx` files by name, one random guess of each file, and two baselines.

    Beside them the files, by the names of their guesses. Faces are resized to those of the pairs.
    """
    opened: dict[str, System] = {}
    files: dict[str, Synthesizer] = {}
    for name, path in paths.items():
        if path.suffix == ".onnx":
            files[f"{name}, a guess"] = file = systems.load_synthesizer(path, pairs.part)
            opened[name] = systems.default_faces(file)
        else:
            opened[name] = systems.load_system(path)
    opened |= {name: systems.random_guess(file) for name, file in files.items()}
    opened = {name: systems.resized(each, pairs.faces.shape[1]) for name, each in opened.items()}
    baselines = {systems.MEAN_FACE: systems.mean_face(pairs), systems.NEAREST_EYE: systems.nearest_eye(pairs)}
    return opened | baselines, files


def evaluate(
    drawing: Mapping[str, System],
    benchmark: Benchmark,
    labeled: LabeledSplit | None = None,
    files: Mapping[str, Synthesizer] | None = None,
) -> dict[str, Report]:
    """Draws the split's faces by each system and measures them; by group, and by the judge, where labeled.

    Of systems that are guesses of files of the pairs' size, many guesses are measured, too.
    """
    reports = {}
    measured = benchmark.measure({name: benchmark.draw(system) for name, system in drawing.items()})
    for name, found in measured.items():
        numbers, groups = found.numbers, {}
        if labeled:
            agreement = {"sex_agreement": labeled.agreement(found.embeddings[UNTRAINED])}
            numbers = numbers | mean_values(agreement, benchmark.rows)
            groups = labeled.by_group(found.per_sample | agreement)
        file = (files or {}).get(name)
        if file and file.info.face_size == benchmark.true.shape[1]:
            numbers = numbers | measure_guesses(file, benchmark)
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
        "layers": benchmark.features.describe(),
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
            raise ResultsError(f"{path} has scores of {earlier}, these are of {facts}: write to another file")
    written = facts | {"scores": scores} | ({"groups": groups} if groups else {})
    write_atomically(path, json.dumps(written, indent=1) + "\n")


def _worst(ranks_N: NDArray[np.float64], persons_N: NDArray[np.str_]) -> list[int]:
    order = np.argsort(-ranks_N, kind="stable")
    _, first = np.unique(persons_N[order], return_index=True)
    return [int(i) for i in order[np.sort(first)[:NUM_WORST]]]
