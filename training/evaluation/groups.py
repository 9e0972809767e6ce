"""Numbers by the sex and the group that people were labeled with, and a judge of the sex that faces show.

The judge is a linear probe on features that no objective trains on.

Letters of shapes: N samples of a split, M labeled faces of `train`, E numbers of an embedding.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.data.dataset import EyeFacePairs
from training.data.photos import read_table
from training.data.store import Pairs
from training.errors import DataError
from training.evaluation.benchmark import Benchmark, PerSample, mean_values
from training.evaluation.embeddings import UNTRAINED, embed_true
from training.evaluation.metrics import Metrics

SEXES = ("female", "male")
"""As the labels name them; other labels are not judged."""

NUM_FACES = 3000
"""Labeled training faces that the judge learns from, at most."""

PENALTIES = (1.0, 10.0, 100.0, 1000.0)
"""Of the regression, over the mean squared length of an embedding from the middle."""


Groups = dict[str, Metrics]
"""Numbers of each group by its name, the sexes first."""


@dataclass(frozen=True, slots=True)
class Labels:
    """Labeled sex and group of each row or sample; empty where there is none."""

    sex: NDArray[np.str_]
    group: NDArray[np.str_]


@dataclass(frozen=True, slots=True)
class SexJudge:
    """A linear classifier of embeddings; `num_faces` are those it learned from."""

    middle: Tensor
    weights: Tensor
    threshold: float
    num_faces: int

    def __call__(self, embedded_NE: Tensor) -> NDArray[np.str_]:
        """The sex that each face shows."""
        male = (embedded_NE - self.middle) @ self.weights > self.threshold
        judged: NDArray[np.str_] = np.array(SEXES)[male.long().numpy()]
        return judged


@dataclass(frozen=True, slots=True)
class LabeledSplit:
    """The labels, rows and embedded true faces of a split's samples, and the judge of faces."""

    labels: Labels
    rows: NDArray[np.void]
    true: Tensor
    judge: SexJudge

    def agreement(self, embedded_NE: Tensor) -> NDArray[np.float64]:
        """1 where a face shows the labeled sex to the judge, 0 where it does not, NaN without a label."""
        sex = self.labels.sex
        return np.where(np.isin(sex, SEXES), self.judge(embedded_NE) == sex, np.nan)

    @property
    def accuracy(self) -> NDArray[np.float64]:
        """The agreement of true faces."""
        return self.agreement(self.true)

    def by_group(self, values: PerSample) -> Groups:
        """The mean of every number in every group, with its error, and the judge's accuracy there."""
        values = values | {"judge_accuracy": self.accuracy}
        found: Groups = {}
        for kind in (self.labels.sex, self.labels.group):
            for name in sorted(set(kind) - {""}):
                chosen = kind == name
                rows = self.rows[chosen]
                numbers = mean_values({key: each[chosen] for key, each in values.items()}, rows)
                counts = {"num_samples": len(rows), "num_persons": len(set(rows["person"]))}
                found[name] = counts | numbers
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
    rows = benchmark.dataset.samples[:, 0]
    of_samples = Labels(labels.sex[rows], labels.group[rows])
    return LabeledSplit(of_samples, benchmark.rows, space.true, judge)


def fit_judge(embedded_ME: Tensor, sexes: NDArray[np.str_]) -> SexJudge:
    """Ridge regression of −1 and 1; its penalty has the least error on faces left out one by one.

    The threshold lies midway between the sexes' means.
    """
    male = torch.from_numpy(sexes == SEXES[1])
    middle = embedded_ME.mean(0)
    centered = embedded_ME - middle
    weights = centered.T @ _dual_weights(centered @ centered.T, 2 * male.float() - 1)
    scores = centered @ weights
    threshold = (scores[male].mean() + scores[~male].mean()).item() / 2
    return SexJudge(middle, weights, threshold, len(sexes))


def _dual_weights(products_MM: Tensor, targets_M: Tensor) -> Tensor:
    """Those of the best penalty. Source of the error of one left out: Allen 1974, PRESS; its dual form."""
    values, vectors = torch.linalg.eigh(products_MM)
    turned = vectors.T @ targets_M
    found: list[tuple[float, Tensor]] = []
    for penalty in PENALTIES:
        inverse = 1 / (values.clamp_min(0) + penalty * products_MM.diagonal().mean())
        dual: Tensor = vectors @ (inverse * turned)
        left_out = dual / (vectors.square() @ inverse)
        found.append((left_out.square().mean().item(), dual))
    return min(found, key=lambda each: each[0])[1]
