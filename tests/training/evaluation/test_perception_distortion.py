"""The bound on faces whose correlation is known."""

import pytest
import torch

from training.evaluation.perception_distortion import measure_bound


def _faces(correlation: float, num: int = 4000) -> tuple[torch.Tensor, torch.Tensor]:
    """The least squares guess of faces that are half known: it correlates with them by `correlation`."""
    generator = torch.Generator().manual_seed(0)
    known, unknown = torch.randn(2, num, 12, generator=generator)
    scale = torch.arange(1, 13).float()
    true = (correlation * known + (1 - correlation**2) ** 0.5 * unknown) * scale
    return correlation * known * scale, true


@pytest.mark.parametrize("correlation", [0.2, 0.6, 0.9])
def test_it_is_two_over_one_plus_r_where_r_is_the_same_everywhere(correlation: float) -> None:
    pred, true = _faces(correlation)
    bound = measure_bound(pred, true, true, num_components=12)
    for form in (bound.by_component, bound.scalar, bound.by_pixel):
        # r itself is known within about 0.02 from 4000 faces.
        assert form == pytest.approx(2 / (1 + correlation), abs=0.03)


def test_components_count_by_their_variance_and_one_number_hides_what_is_unknown() -> None:
    known, true = _faces(0.999)
    pred = known.clone()
    pred[:, :10] = 0  # of ten components nothing is known, but their variance is smaller
    bound = measure_bound(pred, true, true, num_components=12)
    assert 1.9 < bound.by_component < 2.0 and bound.scalar < bound.by_component


def test_what_lies_beyond_the_components_counts_as_one_block() -> None:
    pred, true = _faces(0.5)
    bound = measure_bound(pred, true, true, num_components=6)
    assert bound.by_component == pytest.approx(4 / 3, abs=0.03)


def test_a_regressor_that_is_wrong_about_everything_is_taken_for_one_that_knows_nothing() -> None:
    pred, true = _faces(0.8)
    bound = measure_bound(-pred, true, true, num_components=12)
    assert bound.scalar == bound.by_pixel == pytest.approx(2.0)
