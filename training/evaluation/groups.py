"""Numbers by the sex and the group that people were labeled with, and a judge of the sex that faces show.

Letters of shapes: N samples of a split, E numbers of an embedding.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from training.data.dataset import EyeFacePairs
from training.data.photos import read_table
from training.data.store import Pairs
from training.errors import DataError
from training.evaluation.benchmark import UNTRAINED, Benchmark, PerSample, embed_true, mean_values
from training.evaluation.evaluate import Metrics
from training.evaluation.judge import NUM_FACES, SEXES, SexJudge, fit_judge

Groups = dict[str, Metrics]
"""Numbers of each group by its name, the sexes first."""


@dataclass(frozen=True, slots=True)
class Labels:
    """Labeled sex and group of each row or sample; empty where there is none."""

    sex: NDArray[np.str_]
    group: NDArray[np.str_]

    def of(self, chosen: NDArray[np.intp]) -> "Labels":
        """Those of the chosen ones."""
        return Labels(self.sex[chosen], self.group[chosen])


@dataclass(frozen=True, slots=True)
class LabeledSplit:
    """The labels and rows of a split's samples, and the judge with what it says of their true faces."""

    labels: Labels
    rows: NDArray[np.void]
    judge: SexJudge
    accuracy: NDArray[np.float64]

    def agreement(self, embedded_NE: Tensor) -> NDArray[np.float64]:
        """1 where a face shows the labeled sex to the judge, 0 where it does not, NaN without a label."""
        return _agreement(self.judge, embedded_NE, self.labels)

    def by_group(self, values: PerSample) -> Groups:
        """The mean of every number in every group, with its error, and the judge's accuracy there."""
        values = values | {"judge_accuracy": self.accuracy}
        found: Groups = {}
        for kind in (self.labels.sex, self.labels.group):
            for name in sorted(set(kind) - {""}):
                chosen = kind == name
                rows = self.rows[chosen]
                numbers = mean_values({key: each[chosen] for key, each in values.items()}, rows)
                found[name] = {
                    "num_samples": len(rows), "num_persons": len(set(rows["person"])), **numbers,
                }  # fmt: skip
        return found

    def describe(self) -> dict[str, Any]:
        """What the judge learned from and how often it is right, as JSON."""
        return {
            "num_faces": self.judge.num_faces,
            **mean_values({"judge_accuracy": self.accuracy}, self.rows),
        }


def read_labels(path: Path, pairs: Pairs) -> Labels:
    """What a CSV with the columns `file`, `sex` and `group` says of each row of the pairs.

    Raises:
        DataError: there is no such CSV, or it does not name both sexes of photos of `train`.
    """
    table = {row["file"]: row for row in read_table(path, ("file", "sex", "group"))}
    found = [table.get(file, {"sex": "", "group": ""}) for file in pairs.rows["file"]]
    sex, group = (np.array([row[column] for row in found]) for column in ("sex", "group"))
    if missing := set(SEXES) - set(sex[pairs.rows["split"] == "train"]):
        raise DataError(f"{path} labels no photo of `train` as {' or '.join(sorted(missing))}")
    return Labels(sex, group)


def label_split(benchmark: Benchmark, labels: Labels) -> LabeledSplit:
    """Trains the judge on labeled true faces of `train`, and joins the labels to the split's samples."""
    space = next(space for space in benchmark.spaces if space.name == UNTRAINED)
    train = EyeFacePairs(benchmark.dataset.pairs, "train")
    row, side = train.samples.T
    sexes = labels.sex[row]
    labeled = np.flatnonzero(np.isin(sexes, SEXES) & (side == row % 2))  # one a photo, half of them mirrored
    chosen = np.sort(np.random.default_rng(0).permutation(labeled)[:NUM_FACES])
    judge = fit_judge(embed_true(space.embed, train, chosen), sexes[chosen])
    of_samples = labels.of(benchmark.dataset.samples[:, 0])
    return LabeledSplit(of_samples, benchmark.rows, judge, _agreement(judge, space.true, of_samples))


def _agreement(judge: SexJudge, embedded_NE: Tensor, labels: Labels) -> NDArray[np.float64]:
    return np.where(np.isin(labels.sex, SEXES), judge(embedded_NE) == labels.sex, np.nan)
