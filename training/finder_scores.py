"""Makes the eye finder's scores mean what they say, and finds the score from which an eye counts.

A logistic regression on what the finder knows of a candidate (see `service.eye_finder.FinderInfo`), and a
threshold that allows so many false eyes a picture; both are fitted on pictures kept out of training.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from service.eye_finder import NUM_SIGNS, LearnedEyeFinder
from training.evaluate_finder import is_right
from training.finder_cases import NOBODY, Case

FALSE_EYES_PER_PICTURE = 1 / 70
"""Fewer than the one in 50 that is promised, for the next pictures will not be these."""

SMALLEST_THRESHOLD = 0.3


@dataclass(frozen=True, slots=True)
class Judged:
    """Candidates of whom it is known whether they are eyes.

    `features` N x NUM_SIGNS: see `service.eye_finder.Sighting`. `nobody`:
    whether its picture shows nobody, not even with the eyes painted over.
    """

    features: NDArray[np.float64]
    right: NDArray[np.bool_]
    nobody: NDArray[np.bool_]


def judge(finder: LearnedEyeFinder, cases: Iterable[Case]) -> Judged:
    """Every candidate that can be judged."""
    features: list[tuple[float, ...]] = []
    judged: list[tuple[bool, bool]] = []
    for case in cases:
        for seen in finder.sightings(case.picture):
            right = is_right(seen.eye, case)
            if right is not None:
                features.append(seen.signs)
                judged.append((right, case.kind.startswith(NOBODY)))
    flags = np.array(judged, np.bool_).reshape(-1, 2)
    return Judged(np.array(features, np.float64).reshape(-1, NUM_SIGNS), flags[:, 0], flags[:, 1])


def fit_weights(judged: Judged) -> tuple[float, ...]:
    """The regression's weights, slightly drawn to zero."""
    x, y = torch.from_numpy(judged.features), torch.from_numpy(judged.right.astype(np.float64))
    weights = torch.zeros(NUM_SIGNS, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        error = torch.nn.functional.binary_cross_entropy_with_logits(x @ weights, y)
        total = error + 1e-4 * weights.square().sum()
        total.backward()  # type: ignore[no-untyped-call]
        return total

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return tuple(float(weight) for weight in weights.detach())


def fit_threshold(judged: Judged, weights: Sequence[float], num_empty: int) -> float:
    """The least score with at most FALSE_EYES_PER_PICTURE on the `num_empty` pictures of nobody."""
    logits = np.sort((judged.features @ np.array(weights))[judged.nobody])[::-1]
    allowed = int(num_empty * FALSE_EYES_PER_PICTURE)
    if allowed >= len(logits):
        return SMALLEST_THRESHOLD
    return max(SMALLEST_THRESHOLD, 1 / (1 + math.exp(-float(logits[allowed]))) + 1e-6)
