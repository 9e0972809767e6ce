"""Objectives: which losses a run adds up, each with its weight; one line per objective.

An objective knows neither the model nor the loop. `LOSSES` maps the names that a recipe may weigh
to pure functions of `training.losses`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from training import losses


@dataclass(frozen=True, slots=True)
class Batch:
    """What a loss may look at: drawn and true faces in 0…1 and, where wanted, their features."""

    pred: Tensor
    true: Tensor
    pred_features: list[Tensor] = field(default_factory=list)
    true_features: list[Tensor] = field(default_factory=list)
    layer_weights: list[float] = field(default_factory=list)


Loss = Callable[[Batch], Tensor]

LOSSES: Mapping[str, Loss] = {
    "l1": lambda b: losses.l1(b.pred, b.true),
    "l2": lambda b: losses.l2(b.pred, b.true),
    "std_pixels": lambda b: losses.std_scalar(b.pred, b.true),
    "std_map_pixels": lambda b: losses.std_map(b.pred, b.true),
    "feature": lambda b: losses.feature(b.pred_features, b.true_features, b.layer_weights),
    "std_features": lambda b: losses.std_scalar_features(b.pred_features, b.true_features, b.layer_weights),
    "std_map_features": lambda b: losses.std_map_features(b.pred_features, b.true_features, b.layer_weights),
}
"""Every loss by the name that recipes weigh and `stats.jsonl` logs."""


@dataclass(frozen=True, slots=True)
class Objective:
    """A weighted sum of losses.

    Raises:
        ValueError: a weight names no loss.
    """

    weights: Mapping[str, float]

    def __post_init__(self) -> None:
        unknown = sorted(set(self.weights) - set(LOSSES))
        if unknown:
            raise ValueError(f"no loss is named {unknown}; there are {sorted(LOSSES)}")

    @property
    def needs_features(self) -> bool:
        """Whether a term looks at features, so that the perceptual network must run."""
        return any("feature" in name for name in self.weights)

    def __call__(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The sum to minimise and each term before its weight."""
        terms = {name: LOSSES[name](batch) for name in self.weights}
        total = sum(self.weights[name] * term for name, term in terms.items())
        assert isinstance(total, Tensor)
        return total, {name: term.detach() for name, term in terms.items()}


OBJECTIVES: Mapping[str, Objective] = {
    "l1": Objective({"l1": 1.0}),
    "feature": Objective({"feature": 1.0, "l1": 1.0}),
    "std": Objective({"feature": 1.0, "l1": 1.25, "std_map_pixels": 1.0, "std_map_features": 1.25}),
}
