"""Objectives: sums of weighted terms."""

import pytest
import torch

from training.objectives import OBJECTIVES, Batch, Objective


def _batch() -> Batch:
    pred, true = torch.rand(4, 3, 8, 8), torch.rand(4, 3, 8, 8)
    return Batch(pred, true, [pred], [true], [1.0])


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_total_is_the_weighted_sum_of_the_terms(name: str) -> None:
    objective = OBJECTIVES[name]
    total, terms = objective(_batch())
    assert set(terms) == set(objective.weights)
    assert total.item() == pytest.approx(sum(objective.weights[term] * terms[term].item() for term in terms))


def test_an_unknown_loss_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="'lpips'"):
        Objective({"lpips": 1.0})


def test_only_objectives_with_features_need_the_perceptual_network() -> None:
    assert not OBJECTIVES["l1"].needs_features
    assert OBJECTIVES["feature"].needs_features and OBJECTIVES["std"].needs_features
