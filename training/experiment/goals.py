"""What the experiment was to reach, and what it reached: each goal with its number, its limit and the gap.

A goal whose runs are not there yet is left out.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from training.experiment.results import Row
from training.experiment.tables import BOUND, by_system, main_rows

L1, HALF, FULL = "l1-64", "std-half-l2-64", "std-h-64"
RIVALS = ("amplified l1", "mean face", "gan-64", "cgan-64")
SIDES = ("vgg", "encoder")


@dataclass(frozen=True, slots=True)
class Goal:
    """A number and the range where it ought to be."""

    what: str
    value: float
    low: float = -np.inf
    high: float = np.inf

    @property
    def met(self) -> bool:
        """Whether it lies in its range."""
        return self.low <= self.value <= self.high

    @property
    def limit(self) -> str:
        """The range in words."""
        if np.isinf(self.low):
            return f"at most {self.high:.4g}"
        return f"at least {self.low:.4g}" if np.isinf(self.high) else f"{self.low:.4g} to {self.high:.4g}"

    @property
    def verdict(self) -> str:
        """Met, or by how much it is missed."""
        if self.met:
            return "met"
        return f"missed by {max(self.low - self.value, self.value - self.high):.3g}"


def list_goals(rows: list[Row]) -> list[Goal]:
    """The goals that the rows can tell of; a system's number is the mean over its seeds."""
    main = main_rows(rows)
    means = {
        system: {key: float(np.mean([run["metrics"][key] for run in runs])) for key in _in_all(runs)}
        for system, runs in by_system(main).items()
    }
    bounds = [row["metrics"]["l2_by_component"] for row in main if row["system"] == BOUND]
    goals: list[Goal] = []
    if {L1, HALF} <= set(means):
        goals += _over_l1(HALF, means, {"std_features": 0.5, "l2": 1.10, "feature_loss": 1.0})
    if {L1, FULL} <= set(means):
        goals += _full_variance(means)
        goals += (
            [Goal(f"{FULL}: L2 over the bound", means[FULL]["l2"] / bounds[0], high=1.1)] if bounds else []
        )
        goals += _over_rivals(means)
    return goals


def _in_all(runs: list[Row]) -> set[str]:
    """The numbers that all runs have: some came later than others."""
    return set.intersection(*(set(run["metrics"]) for run in runs))


def render_goals(goals: list[Goal]) -> str:
    """The goals as a table in Markdown."""
    lines = ["| goal | reached | wanted | |", "|---|---|---|---|"]
    lines += [f"| {goal.what} | {goal.value:.4g} | {goal.limit} | {goal.verdict} |" for goal in goals]
    return "\n".join(lines)


def _over_l1(system: str, means: dict[str, dict[str, float]], limits: dict[str, float]) -> Iterator[Goal]:
    for key, limit in limits.items():
        ratio = means[system][key] / means[L1][key]
        yield Goal(f"{system} over {L1}: {key.replace('_', ' ')}", ratio, high=limit)


def _full_variance(means: dict[str, dict[str, float]]) -> Iterator[Goal]:
    ours, l1 = means[FULL], means[L1]
    yield Goal(f"{FULL}: σ ratio", ours["sigma_ratio"], 0.95, 1.05)
    yield Goal(f"{FULL}: diversity ratio", ours["diversity_ratio"], 0.9, 1.1)
    yield Goal(f"{FULL}: sharpness", ours["sharpness_ratio"], low=0.8)
    yield from _over_l1(
        FULL, means, {"std_features": 0.15, "feature_loss": 0.8, "kid_vgg": 0.35, "kid_encoder": 0.35}
    )
    for side in SIDES:
        rank = f"rank_{side}"
        worst = ours[rank] + ours[f"{rank}_error"]
        yield Goal(f"{FULL}: rank of the true face, {side}, at the end of its interval", worst, high=0.5)
        yield Goal(f"{FULL}: rank of the true face, {side}, against {L1}'s", ours[rank], high=l1[rank])
        yield Goal(f"{FULL}: distance to training, {side}", ours[f"memorisation_{side}"], 0.9, 1.1)


def _over_rivals(means: dict[str, dict[str, float]]) -> Iterator[Goal]:
    for rival in (name for name in RIVALS if name in means):
        for key in ("feature_loss", *(f"kid_{side}" for side in SIDES)):
            what = f"{FULL} below {rival}: {key.replace('_', ' ')}"
            yield Goal(what, means[FULL][key], high=means[rival][key])
