"""Objectives: weighted sums of losses, one line each, and the ladder of the standard-deviation loss.

An objective knows neither the model nor the loop. `LOSSES` maps the names that an objective weighs to pure
functions of `training.synthesizer.losses`.

In the formulas x are true and y drawn faces, φ_l features of layer l and w_l its weight. μ(·) and σ(·) are
mean and standard deviation over the batch at each position, ⟨·⟩ is the mean over positions. m_l and s_l, of
mean and deviation of φ_l(x), come from an EMA over batches. C_l are covariances along random directions.

    L                1.25 ⟨|y − x|⟩ + Σ_l w_l ⟨|φ_l(y) − φ_l(x)|⟩
    pixel-std        L + |⟨σ(y)⟩ − ⟨σ(x)⟩|
    pixel-stdmap     L + ⟨|σ(y) − σ(x)|⟩
    layer-std        pixel-std + 1.25 Σ_l w_l |⟨σ(φ_l(y))⟩ − ⟨σ(φ_l(x))⟩|
    layer-stdmap     pixel-stdmap + 1.25 Σ_l w_l ⟨|σ(φ_l(y)) − σ(φ_l(x))|⟩
    stdmap-ema       pixel-stdmap + 1.25 Σ_l w_l ⟨|σ(φ_l(y)) − s_l|⟩
    stdmap-ema-dct   stdmap-ema + 0.1 · moments of 8 x 8 block frequencies (`losses.dct_moments`)
    moments-ema      stdmap-ema + Σ_l w_l ⟨|μ(φ_l(y)) − m_l|⟩
    moments-ema-cov  moments-ema + 0.25 · mean_l ‖C_l(y) − C_l(x)‖ / ‖C_l(x)‖

and, between least distortion and full variance,

    l2-layer-std-ema    10 ⟨(y − x)²⟩ + Σ_l w_l ⟨|φ_l(y) − φ_l(x)|⟩ + 0.8 Σ_l w_l ⟨|σ(φ_l(y)) − s_l|⟩
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import Tensor

from training.synthesizer import losses
from training.synthesizer.discriminator import DiscriminatorConfig
from training.synthesizer.losses import FeatureMaps


@dataclass(frozen=True, slots=True)
class LossInputs:
    """What a loss may look at: drawn and true faces in 0…1 and, where wanted, what else is known of them.

    target_means, target_stds: of `training.synthesizer.moments`, one a layer, as are `directions`.
    pred_scores: the discriminator's.
    """

    pred: Tensor
    true: Tensor
    pred_features: FeatureMaps = field(default_factory=list)
    true_features: FeatureMaps = field(default_factory=list)
    layer_weights: list[float] = field(default_factory=list)
    target_means: list[Tensor] = field(default_factory=list)
    target_stds: list[Tensor] = field(default_factory=list)
    directions: list[Tensor] = field(default_factory=list)
    pred_scores: Tensor | None = None


Loss = Callable[[LossInputs], Tensor]

LOSSES: Mapping[str, Loss] = {
    "l1": lambda i: losses.l1(i.pred, i.true),
    "l2": lambda i: losses.l2(i.pred, i.true),
    "std_pixels": lambda i: losses.std_scalar(i.pred, i.true),
    "std_map_pixels": lambda i: losses.std_map(i.pred, i.true),
    "dct_moments": lambda i: losses.dct_moments(i.pred, i.true),
    "feature": lambda i: _of_features(losses.l1, i),
    "std_features": lambda i: _of_features(losses.std_scalar, i),
    "std_map_features": lambda i: _of_features(losses.std_map, i),
    "running_mean_features": lambda i: losses.mean_to(i.pred_features, i.target_means, i.layer_weights),
    "running_std_features": lambda i: losses.std_to(i.pred_features, i.target_stds, i.layer_weights),
    "covariance_features": lambda i: losses.covariance(i.pred_features, i.true_features, i.directions),
    "total_variation": lambda i: losses.total_variation(i.pred),
    "adversarial": lambda i: losses.adversarial(_scores(i)),
}
"""Every loss by the name that objectives weigh and `stats.jsonl` logs.

Source of `feature`: the seed's slides, "VGG19 and Feature Loss"."""


def _of_features(loss: Callable[[Tensor, Tensor], Tensor], inputs: LossInputs) -> Tensor:
    return losses.over_layers(loss, inputs.pred_features, inputs.true_features, inputs.layer_weights)


def _scores(inputs: LossInputs) -> Tensor:
    assert inputs.pred_scores is not None, "an adversarial objective has a discriminator"
    return inputs.pred_scores


@dataclass(frozen=True, slots=True)
class Objective:
    """A weighted sum of losses, and the discriminator of an adversarial one."""

    weights: Mapping[str, float]
    discriminator: DiscriminatorConfig | None = None

    def __post_init__(self) -> None:
        assert set(self.weights) <= set(LOSSES), f"no loss is named {set(self.weights) - set(LOSSES)}"
        has_loss = "adversarial" in self.weights
        assert has_loss == (self.discriminator is not None), "a discriminator and its loss come together"

    @property
    def needs_features(self) -> bool:
        """Whether a term compares features, so that the perceptual network must run."""
        return any("feature" in name for name in self.weights)

    @property
    def needs_moments(self) -> bool:
        """Whether a term has running moments for its target."""
        return any("running" in name for name in self.weights)

    @property
    def needs_directions(self) -> bool:
        """Whether a term projects features on random directions."""
        return "covariance_features" in self.weights

    def __call__(self, inputs: LossInputs) -> tuple[Tensor, dict[str, Tensor]]:
        """The sum to minimize and each term before its weight."""
        terms = {name: LOSSES[name](inputs) for name in self.weights}
        total = sum(self.weights[name] * term for name, term in terms.items())
        assert isinstance(total, Tensor)
        return total, {name: term.detach() for name, term in terms.items()}


_L = {"feature": 1.0, "l1": 1.25}
_PIXEL_STDMAP = {**_L, "std_map_pixels": 1.0}
_STDMAP_EMA = {**_PIXEL_STDMAP, "running_std_features": 1.25}
_MOMENTS_EMA = {**_STDMAP_EMA, "running_mean_features": 1.0}

OBJECTIVES: Mapping[str, Objective] = {
    "l1": Objective({"l1": 1.0}),
    "l2": Objective({"l2": 1.0}),
    "feature": Objective({"feature": 1.0, "l1": 1.0}),
    "pixel-std": Objective({**_L, "std_pixels": 1.0}),
    "pixel-stdmap": Objective(_PIXEL_STDMAP),
    "layer-std": Objective({**_L, "std_pixels": 1.0, "std_features": 1.25}),
    "layer-stdmap": Objective({**_PIXEL_STDMAP, "std_map_features": 1.25}),
    "stdmap-ema": Objective(_STDMAP_EMA),
    "stdmap-ema-dct": Objective({**_STDMAP_EMA, "dct_moments": 0.1}),
    "moments-ema": Objective(_MOMENTS_EMA),
    "moments-ema-cov": Objective({**_MOMENTS_EMA, "covariance_features": 0.25}),
    "l2-layer-std-ema": Objective({"feature": 1.0, "l2": 10.0, "running_std_features": 0.8}),
    # L1 against the discriminator as 100 to 1 on pixels in −1…1, which is 200 to 1 in 0…1, then doubled
    # because the budgets are short. Source of the 100: Isola et al. 2017, "pix2pix".
    "gan": Objective({"l1": 1.0, "adversarial": 0.01}, DiscriminatorConfig()),
    "cgan": Objective({"l1": 1.0, "adversarial": 0.01}, DiscriminatorConfig(sees_eyes=True)),
    "cgan-two-eyes": Objective(
        {"feature": 1.0, "adversarial": 0.02, "total_variation": 0.05}, DiscriminatorConfig(sees_eyes=True)
    ),
}


def describe_objective(objective: Objective) -> dict[str, Any]:
    """An objective as JSON: its weights and, if there is one, its discriminator."""
    config = objective.discriminator
    discriminator = None if config is None else json.loads(json.dumps(asdict(config)))
    return {"objective": dict(objective.weights), "discriminator": discriminator}
