"""Calibration of the finder's scores by logistic regression (Platt scaling), and its detection threshold.

Both are fitted on the `calibration` split. The regression's inputs are the features of a detection, see
`service.inference.eye_finder.ScoredEye`.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from service.inference.eye_finder import NUM_CALIBRATION_FEATURES, LearnedEyeFinder
from training.finder.evaluate import is_true_positive
from training.finder.test_sets import NO_PEOPLE, Example

FALSE_POSITIVES_PER_PICTURE = 1 / 100
"""Fewer than the one in 50 that is promised, for the next pictures will not be these."""

MIN_THRESHOLD = 0.2

WEIGHT_DECAY = 1e-4


@dataclass(frozen=True, slots=True)
class LabeledDetections:
    """Detections that are known to be true or false positives.

    `features` N x NUM_CALIBRATION_FEATURES. `negatives`: the kind of picture without people that each
    detection is of; empty where its picture shows somebody, if only with the eyes painted over.
    """

    features: NDArray[np.float64]
    is_eye: NDArray[np.bool_]
    negatives: NDArray[np.str_]


def label_detections(finder: LearnedEyeFinder, examples: Iterable[Example]) -> LabeledDetections:
    """All detections in the examples, whatever their scores, but those near an ignored label."""
    found = [
        (scored.features, right, example.kind if example.kind.startswith(NO_PEOPLE) else "")
        for example in examples
        for scored in finder.score_eyes(example.picture)
        if (right := is_true_positive(scored.eye, example)) is not None
    ]
    features = np.array([each[0] for each in found], np.float64).reshape(-1, NUM_CALIBRATION_FEATURES)
    is_eye, negatives = ([each[column] for each in found] for column in (1, 2))
    return LabeledDetections(features, np.array(is_eye, np.bool_), np.array(negatives, np.str_))


def fit_logistic_regression(detections: LabeledDetections) -> tuple[float, ...]:
    """One weight for each feature, with a little weight decay."""
    x, y = torch.from_numpy(detections.features), torch.from_numpy(detections.is_eye.astype(np.float64))
    weights = torch.zeros(NUM_CALIBRATION_FEATURES, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        error = torch.nn.functional.binary_cross_entropy_with_logits(x @ weights, y)
        total = error + WEIGHT_DECAY * weights.square().sum()
        total.backward()  # type: ignore[no-untyped-call]
        return total

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return tuple(weights.tolist())


def fit_threshold(
    detections: LabeledDetections, weights: Sequence[float], num_negatives: Mapping[str, int]
) -> float:
    """The least score with at most FALSE_POSITIVES_PER_PICTURE on every kind of pictures without people.

    `num_negatives` counts the pictures of each kind. One threshold over all of them would let many easy
    pictures make up for a kind in which every fortieth shows a false positive.
    """
    logits, threshold = detections.features @ np.array(weights), MIN_THRESHOLD
    for kind, num_pictures in num_negatives.items():
        falling = np.sort(logits[detections.negatives == kind])[::-1]
        allowed = int(num_pictures * FALSE_POSITIVES_PER_PICTURE)
        if allowed < len(falling):
            threshold = max(threshold, 1 / (1 + math.exp(-float(falling[allowed]))) + 1e-6)
    return threshold
