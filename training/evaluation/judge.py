"""Judge of the sex that a face shows: a linear probe on features that no objective trains on.

Letters of shapes: N faces to be judged, M labeled faces, E numbers of an embedding.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

SEXES = ("female", "male")
"""As the labels name them; other labels are not judged."""

NUM_FACES = 3000
"""Labeled training faces that the judge learns from, at most."""

PENALTIES = (1.0, 10.0, 100.0, 1000.0)
"""Of the regression, over the mean squared length of an embedding from the middle."""


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
