"""Recipes: named, complete and runnable."""

import pytest

from training.models import num_macs
from training.objectives import OBJECTIVES
from training.recipes import RECIPES


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_filed_under_its_name_and_names_an_objective(name: str) -> None:
    recipe = RECIPES[name]
    assert recipe.name == name and recipe.objective in OBJECTIVES
    assert num_macs(recipe.model) <= 0.5e9


def test_recipes_that_are_compared_differ_in_their_objective_and_have_equal_budgets() -> None:
    std, fine, l1, feature = (RECIPES[name] for name in ("std-128", "std-128-fine", "l1-128", "feature-128"))
    assert l1.num_steps == feature.num_steps == std.num_steps + fine.num_steps
    for other in (l1, feature):
        differing = {name for name in std.__dataclass_fields__ if getattr(std, name) != getattr(other, name)}
        assert differing == {"name", "objective", "num_steps"}
