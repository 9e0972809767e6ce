"""Goals and their verdicts."""

from training.experiment.goals import Goal, list_goals, render_goals
from training.experiment.results import Row

NUMBERS = {
    "l2": 0.05, "feature_loss": 0.5, "std_features": 0.4, "sigma_ratio": 1.0, "diversity_ratio": 0.5,
    "sharpness_ratio": 0.9, "kid_vgg": 0.2, "kid_encoder": 0.2, "memorisation_vgg": 1.0,
    "memorisation_encoder": 1.0, "rank_vgg": 0.3, "rank_vgg_error": 0.02, "rank_encoder": 0.49,
    "rank_encoder_error": 0.02,
}  # fmt: skip


def row(system: str, split: str = "val", seed: int = 0, **changed: float) -> Row:
    return {"system": system, "seed": seed, "split": split, "metrics": NUMBERS | changed}


def test_a_goal_says_by_how_much_it_is_missed_on_either_side() -> None:
    assert Goal("x", 1.0, 0.9, 1.1).verdict == "met"
    assert Goal("x", 1.3, 0.9, 1.1).verdict == "missed by 0.2"
    assert Goal("x", 0.5, low=0.8).verdict == "missed by 0.3"
    assert [Goal("x", 1, *limits).limit for limits in ((0.9, 1.1), (0.9,))] == ["0.9 to 1.1", "at least 0.9"]


def test_only_what_was_run_has_goals() -> None:
    assert list_goals([row("l1-64")]) == []
    goals = list_goals([row("l1-64"), row("std-half-l2-64")])
    assert goals and all(goal.what.startswith("std-half-l2-64") for goal in goals)


def test_ours_is_compared_with_l1_the_bound_and_the_rivals() -> None:
    bound = {"system": "bound", "seed": 0, "split": "val", "metrics": {"l2_by_component": 0.05}}
    rows = [
        row("l1-64"), row("std-h-64", std_features=0.04, l2=0.06), row("std-h-64", seed=1, l2=0.04), bound,
        row("gan-64", feature_loss=0.4), row("std-h-64", split="dev", l2=9.0),
    ]  # fmt: skip
    goals = {goal.what: goal for goal in list_goals(rows)}
    # The mean of 0.04 and 0.4, over 0.4.
    assert goals["std-h-64 over l1-64: std features"].value == (0.04 + 0.4) / 2 / 0.4
    assert goals["std-h-64: L2 over the bound"].value == 1.0
    assert not goals["std-h-64 below gan-64: feature loss"].met
    assert not goals["std-h-64: diversity ratio"].met
    ends = [goal for what, goal in goals.items() if "at the end of its interval" in what]
    assert [goal.met for goal in ends] == [True, False]
    assert "| std-h-64: diversity ratio | 0.5 | 0.9 to 1.1 | missed by 0.4 |" in render_goals(
        list(goals.values())
    )
