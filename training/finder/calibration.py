"""Makes the eye finder's scores mean what they say, and finds the score from which an eye counts.

A logistic regression on what the finder knows of a candidate (see `service.inference.eye_finder.FinderInfo`),
and a threshold that allows so many false eyes a picture; both are fitted on pictures kept out of training.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from service.inference.eye_finder import NUM_CALIBRATION_FEATURES, LearnedEyeFinder
from training.finder.evaluate import is_right
from training.finder.test_sets import NOBODY, Case

FALSE_EYES_PER_PICTURE = 1 / 100
"""Fewer than the one in 50 that is promised, for the next pictures will not be these."""

SMALLEST_THRESHOLD = 0.2


@dataclass(frozen=True, slots=True)
class Judged:
    """Candidates of whom it is known whether they are eyes.

    `features` N x NUM_CALIBRATION_FEATURES: see `service.inference.eye_finder.ScoredEye`. `nobody`: of which
    kind of pictures of nobody its picture is; empty if it shows somebody, if only with the eyes painted over.
    """

    features: NDArray[np.float64]
    right: NDArray[np.bool_]
    nobody: NDArray[np.str_]


def judge(finder: LearnedEyeFinder, cases: Iterable[Case]) -> Judged:
    """Every candidate that can be judged."""
    features: list[tuple[float, ...]] = []
    judged: list[bool] = []
    nobody: list[str] = []
    for case in cases:
        for seen in finder.score_eyes(case.picture):
            right = is_right(seen.eye, case)
            if right is not None:
                features.append(seen.features)
                judged.append(right)
                nobody.append(case.kind if case.kind.startswith(NOBODY) else "")
    rows = np.array(features, np.float64).reshape(-1, NUM_CALIBRATION_FEATURES)
    return Judged(rows, np.array(judged, np.bool_), np.array(nobody, np.str_))


def fit_weights(judged: Judged) -> tuple[float, ...]:
    """The regression's weights, slightly drawn to zero."""
    x, y = torch.from_numpy(judged.features), torch.from_numpy(judged.right.astype(np.float64))
    weights = torch.zeros(NUM_CALIBRATION_FEATURES, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        error = torch.nn.functional.binary_cross_entropy_with_logits(x @ weights, y)
        total = error + 1e-4 * weights.square().sum()
        total.backward()  # type: ignore[no-untyped-call]
        return total

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return tuple(float(weight) for weight in weights.detach())


def fit_threshold(judged: Judged, weights: Sequence[float], num_empty: Mapping[str, int]) -> float:
    """The least score with at most FALSE_EYES_PER_PICTURE on every kind of pictures of nobody.

    `num_empty` tells how many there are of each. On all of them together, many easy ones would make up for a
    kind in which every fortieth picture shows an eye that is none.
    """
    logits, least = judged.features @ np.array(weights), SMALLEST_THRESHOLD
    for kind, num_pictures in num_empty.items():
        falling = np.sort(logits[judged.nobody == kind])[::-1]
        allowed = int(num_pictures * FALSE_EYES_PER_PICTURE)
        if allowed < len(falling):
            least = max(least, 1 / (1 + math.exp(-float(falling[allowed]))) + 1e-6)
    return least
