"""Recipes: named, complete and runnable."""

import pytest

from training.data.corruptions import GAIN, TILT_DEG
from training.synthesizer.autoencoder import num_macs
from training.synthesizer.objectives import OBJECTIVES
from training.synthesizer.recipes import RECIPES


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_filed_under_its_name_and_names_an_objective(name: str) -> None:
    recipe = RECIPES[name]
    assert recipe.name == name and recipe.objective in OBJECTIVES
    assert num_macs(recipe.model) <= 0.61e9


def test_recipes_that_are_compared_differ_in_their_objective_and_have_equal_budgets() -> None:
    std, l1 = RECIPES["stdmap-ema-dct-128"], RECIPES["l1-128"]
    differing = {name for name in std.__dataclass_fields__ if getattr(std, name) != getattr(l1, name)}
    assert differing == {"name", "objective"}


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("hard-jitter-64", "jitter"),
        ("face-weight-64", "background_weight"),
        ("unbalanced-64", "source_power"),
    ],
)
def test_a_treatment_changes_one_thing_alone(name: str, field: str) -> None:
    with_it, without = RECIPES[name], RECIPES["layer-stdmap-64"]
    fields = with_it.__dataclass_fields__
    assert {each for each in fields if getattr(with_it, each) != getattr(without, each)} == {"name", field}


def test_hard_jitter_reaches_as_far_as_the_flaws_that_it_is_measured_on() -> None:
    jitter = RECIPES["hard-jitter-64"].jitter
    assert jitter.turn_deg >= TILT_DEG and jitter.small > 0
    # The middle of the range in the dark: 0.5 with the least gain and the steepest curve.
    assert 2**-jitter.gamma * 0.5 ** (2**jitter.gamma) <= 0.5 * GAIN + 0.03
