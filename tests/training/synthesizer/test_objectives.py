"""Objectives: sums of weighted terms."""

import pytest
import torch

from training.synthesizer.discriminator import DiscriminatorConfig
from training.synthesizer.moments import RunningMoments, random_directions
from training.synthesizer.objectives import OBJECTIVES, LossInputs, Objective


def _batch() -> LossInputs:
    pred, true = torch.rand(4, 3, 8, 8), torch.rand(4, 3, 8, 8)
    statistics = RunningMoments()
    statistics.update([true])
    return LossInputs(
        pred, true, [pred], [true], [1.0],
        statistics.mean(), statistics.std(4), random_directions([true]),
        pred_scores=torch.rand(4, 1, 2, 2),
    )  # fmt: skip


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_total_is_the_weighted_sum_of_the_terms(name: str) -> None:
    objective = OBJECTIVES[name]
    total, terms = objective(_batch())
    assert set(terms) == set(objective.weights)
    assert total.item() == pytest.approx(sum(objective.weights[term] * terms[term].item() for term in terms))


def test_an_unknown_loss_is_refused_by_name() -> None:
    with pytest.raises(AssertionError, match="'lpips'"):
        Objective({"lpips": 1.0})


def test_only_objectives_with_features_need_the_perceptual_network() -> None:
    assert not OBJECTIVES["l1"].needs_features
    assert OBJECTIVES["feature"].needs_features and OBJECTIVES["layer-stdmap"].needs_features


def test_only_steady_targets_and_covariances_need_statistics() -> None:
    assert {name for name, objective in OBJECTIVES.items() if objective.needs_moments} == {
        "moments-ema",
        "moments-ema-cov",
        "stdmap-ema",
        "stdmap-ema-dct",
        "l2-layer-std-ema",
    }


def test_a_discriminator_and_its_loss_come_together() -> None:
    for objective in ({"l1": 1.0}, DiscriminatorConfig()), ({"adversarial": 1.0}, None):
        with pytest.raises(AssertionError, match="come together"):
            Objective(*objective)
