"""Objectives: which losses a run adds up, each with its weight, and against which critic; one line each.

An objective knows neither the model nor the loop. `LOSSES` maps the names that a recipe may weigh
to pure functions of `training.synthesizer.losses`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from training.synthesizer import losses
from training.synthesizer.discriminator import CriticConfig


@dataclass(frozen=True, slots=True)
class Batch:
    """What a loss may look at: drawn and true faces in 0…1 and, where wanted, what else is known of them.

    `target_means`, `target_stds` and `directions` are of `training.synthesizer.moments`, one a layer;
    `pred_scores` are the critic's. `places` are the weights of `training.synthesizer.regions`; covariances,
    frequencies, the total variation and the critic do not know them.
    """

    pred: Tensor
    true: Tensor
    pred_features: list[Tensor] = field(default_factory=list)
    true_features: list[Tensor] = field(default_factory=list)
    layer_weights: list[float] = field(default_factory=list)
    target_means: list[Tensor] = field(default_factory=list)
    target_stds: list[Tensor] = field(default_factory=list)
    directions: list[Tensor] = field(default_factory=list)
    pred_scores: Tensor | None = None
    places: Tensor | None = None


Loss = Callable[[Batch], Tensor]

LOSSES: Mapping[str, Loss] = {
    "l1": lambda b: losses.l1(b.pred, b.true, b.places),
    "l2": lambda b: losses.l2(b.pred, b.true, b.places),
    "std_pixels": lambda b: losses.std_scalar(b.pred, b.true, b.places),
    "std_map_pixels": lambda b: losses.std_map(b.pred, b.true, b.places),
    "frequencies": lambda b: losses.moments_of_frequencies(b.pred, b.true),
    "feature": lambda b: losses.feature(b.pred_features, b.true_features, b.layer_weights, b.places),
    "std_features": lambda b: losses.std_scalar_features(
        b.pred_features, b.true_features, b.layer_weights, b.places
    ),
    "std_map_features": lambda b: losses.std_map_features(
        b.pred_features, b.true_features, b.layer_weights, b.places
    ),
    "running_mean_features": lambda b: losses.mean_to(
        b.pred_features, b.target_means, b.layer_weights, b.places
    ),
    "running_std_features": lambda b: losses.std_to(
        b.pred_features, b.target_stds, b.layer_weights, b.places
    ),
    "covariance_features": lambda b: losses.covariance(b.pred_features, b.true_features, b.directions),
    "total_variation": lambda b: losses.total_variation(b.pred),
    "adversarial": lambda b: losses.adversarial(_scores(b)),
}
"""Every loss by the name that recipes weigh and `stats.jsonl` logs."""


_OF_STATISTICS = {"running_mean_features", "running_std_features", "covariance_features"}


def _scores(batch: Batch) -> Tensor:
    assert batch.pred_scores is not None, "an adversarial objective has a critic"
    return batch.pred_scores


@dataclass(frozen=True, slots=True)
class Objective:
    """A weighted sum of losses, and the critic of the adversarial one.

    Raises:
        ValueError: a weight names no loss, or there is a critic without its loss or the loss without one.
    """

    weights: Mapping[str, float]
    critic: CriticConfig | None = None

    def __post_init__(self) -> None:
        unknown = sorted(set(self.weights) - set(LOSSES))
        if unknown:
            raise ValueError(f"no loss is named {unknown}; there are {sorted(LOSSES)}")
        if ("adversarial" in self.weights) != (self.critic is not None):
            raise ValueError("an objective has either both a critic and the loss 'adversarial', or neither")

    @property
    def needs_features(self) -> bool:
        """Whether a term looks at features, so that the perceptual network must run."""
        return any("feature" in name for name in self.weights)

    @property
    def needs_statistics(self) -> bool:
        """Whether a term looks at running targets or random directions."""
        return bool(_OF_STATISTICS & set(self.weights))

    @property
    def needs_directions(self) -> bool:
        """Whether a term looks along random directions."""
        return "covariance_features" in self.weights

    def __call__(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The sum to minimise and each term before its weight."""
        terms = {name: LOSSES[name](batch) for name in self.weights}
        total = sum(self.weights[name] * term for name, term in terms.items())
        assert isinstance(total, Tensor)
        return total, {name: term.detach() for name, term in terms.items()}


_FEATURE = {"feature": 1.0, "l1": 1.25}
"""What the rungs of the ladder have in common."""

_STD = {**_FEATURE, "std_map_pixels": 1.0, "std_map_features": 1.25}

_STEADY = {**_FEATURE, "std_map_pixels": 1.0, "running_std_features": 1.25}

_RUNNING = {**_STEADY, "running_mean_features": 1.0}

OBJECTIVES: Mapping[str, Objective] = {
    "l1": Objective({"l1": 1.0}),
    "l2": Objective({"l2": 1.0}),
    "feature": Objective({"feature": 1.0, "l1": 1.0}),
    # The ladder of the standard deviation loss; "std" is its rung d, and what ships.
    "std-a": Objective({**_FEATURE, "std_pixels": 1.0}),
    "std-b": Objective({**_FEATURE, "std_map_pixels": 1.0}),
    "std-c": Objective({**_FEATURE, "std_pixels": 1.0, "std_features": 1.25}),
    "std": Objective(_STD),
    "std-e": Objective(_RUNNING),
    "std-f": Objective({**_RUNNING, "covariance_features": 0.25}),
    # Steady targets without the mean, and the frequencies of the pixels.
    "std-g": Objective(_STEADY),
    "std-h": Objective({**_STEADY, "frequencies": 0.1}),
    # Less of it: between the least distortion and full variance.
    "std-half": Objective({**_FEATURE, "std_map_pixels": 0.3, "std_map_features": 0.4}),
    # The same by squared errors, which is what distortion is measured in, and steady targets of features
    # alone: see DECISIONS, "The seed's point is reached on squared errors".
    "std-half-l2": Objective({"feature": 1.0, "l2": 10.0, "running_std_features": 0.8}),
    # L1 against the critic as 100 to 1 on pixels in −1…1, which is 200 to 1 in 0…1, then doubled
    # because the budgets are short. Source of the 100: Isola et al. 2017, "pix2pix".
    "gan": Objective({"l1": 1.0, "adversarial": 0.01}, CriticConfig()),
    "cgan": Objective({"l1": 1.0, "adversarial": 0.01}, CriticConfig(sees_eyes=True)),
    "cgan-two-eyes": Objective(
        {"feature": 1.0, "adversarial": 0.02, "total_variation": 0.05}, CriticConfig(sees_eyes=True)
    ),
}
