"""Recipes: named, complete and runnable."""

import pytest

from tests.training.multiplications import count_multiplications
from training.synthesizer.objectives import OBJECTIVES
from training.synthesizer.recipes import RECIPES


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_filed_under_its_name_and_names_an_objective(name: str) -> None:
    recipe = RECIPES[name]
    assert recipe.name == name and recipe.objective in OBJECTIVES
    assert count_multiplications(recipe.model) <= 0.61e9


def test_recipes_that_are_compared_differ_in_their_objective_and_have_equal_budgets() -> None:
    std, l1 = RECIPES["stdmap-ema-dct-64"], RECIPES["l1-64"]
    differing = {name for name in std.__dataclass_fields__ if getattr(std, name) != getattr(l1, name)}
    assert differing == {"name", "objective"}
