"""The losses against their plain definitions."""

import cv2
import pytest
import torch

from training.synthesizer import losses


@pytest.fixture
def batches() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(8, 3, 6, 5, generator=generator), torch.rand(8, 3, 6, 5, generator=generator)


def test_the_deviation_over_a_batch_equals_torch_std(batches: tuple[torch.Tensor, torch.Tensor]) -> None:
    pred, _ = batches
    torch.testing.assert_close(losses.std_over_batch(pred), pred.std(0, unbiased=False))


def test_its_gradient_equals_that_of_torch_std(batches: tuple[torch.Tensor, torch.Tensor]) -> None:
    pred, true = batches
    pred.requires_grad_()
    (ours,) = torch.autograd.grad((losses.std_over_batch(pred) * true[0]).sum(), pred)
    (theirs,) = torch.autograd.grad((pred.std(0, unbiased=False) * true[0]).sum(), pred)
    torch.testing.assert_close(ours, theirs)


def test_a_position_that_never_varies_has_a_finite_gradient() -> None:
    pred = torch.ones(4, 1, 2, 2, requires_grad=True)
    losses.std_map(pred, torch.rand(4, 1, 2, 2)).backward()  # type: ignore[no-untyped-call]
    assert pred.grad is not None and torch.isfinite(pred.grad).all()


def test_the_scalar_forgives_what_the_map_does_not() -> None:
    steady = torch.full((4, 1, 1, 1), 0.5)
    varied = torch.tensor([0.0, 1.0, 0.0, 1.0]).reshape(4, 1, 1, 1)
    pred, true = torch.cat([steady, varied], dim=3), torch.cat([varied, steady], dim=3)
    assert losses.std_scalar(pred, true).item() == pytest.approx(0.0)
    # The deviation of 0, 1, 0, 1 is 0.5; that of a constant is the root of the smallest variance, 0.001.
    assert losses.std_map(pred, true).item() == pytest.approx(0.499)


def test_equal_batches_cost_nothing(batches: tuple[torch.Tensor, torch.Tensor]) -> None:
    pred, _ = batches
    large = pred.repeat(1, 1, 2, 2)[..., :8, :8]
    values = [
        losses.l1(pred, pred), losses.l2(pred, pred),
        losses.std_scalar(pred, pred), losses.std_map(pred, pred),
        losses.over_layers(losses.l1, [pred], [pred], [1.0]),
        losses.over_layers(losses.std_scalar, [pred], [pred], [1.0]),
        losses.over_layers(losses.std_map, [pred], [pred], [1.0]), losses.dct_moments(large, large),
    ]  # fmt: skip
    assert [value.item() for value in values] == [0.0] * 8


def test_frequencies_are_those_of_opencv() -> None:
    batch = torch.rand(2, 3, 16, 24, generator=torch.Generator().manual_seed(0))
    block = batch[1, 2, 8:16, 16:24].numpy()
    expected = cv2.dct(block).ravel()[1:]
    assert losses.block_dct(batch)[1, 2 * 63 :, 1, 2].numpy() == pytest.approx(expected, abs=1e-5)


def test_a_grid_is_seen_where_no_pixel_varies_more_than_it_did() -> None:
    true = torch.rand(64, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    grid = 0.1 * (torch.arange(16) % 2 - 0.5)
    of_grid = abs(cv2.dct(grid.expand(16, 16)[:8, :8].numpy().copy())).sum() / 63
    assert losses.std_map(true + grid, true).item() < 1e-6
    seen = losses.dct_moments(true + grid, true).item()
    assert seen == pytest.approx(of_grid / true.std().item(), rel=0.05)


def test_noise_of_the_wrong_color_is_seen_where_the_energy_is_right() -> None:
    generator = torch.Generator().manual_seed(0)
    white, other, blurred = (torch.randn(512, 3, 16, 16, generator=generator) for _ in range(3))
    blurred = torch.nn.functional.avg_pool2d(blurred, 3, stride=1, padding=1, count_include_pad=False)
    blurred *= losses.std_over_batch(white) / losses.std_over_batch(blurred)
    alike = losses.dct_moments(other, white).item()
    assert losses.std_map(blurred, white).item() < 1e-6
    assert losses.dct_moments(blurred, white).item() > 5 * alike


def test_frequencies_count_alike_in_strong_and_in_weak_contrast() -> None:
    generator = torch.Generator().manual_seed(0)
    pred, true = (torch.rand(16, 3, 8, 8, generator=generator) for _ in range(2))
    strong = losses.dct_moments(pred, true).item()
    assert losses.dct_moments(0.1 * pred, 0.1 * true).item() == pytest.approx(strong, rel=0.01)


def test_strong_and_weak_frequencies_count_alike() -> None:
    generator = torch.Generator().manual_seed(0)
    basis = losses._block_cosines()

    def loss(scale: float) -> float:
        """With one frequency, in drawn and true faces, as many times as strong."""
        scales = torch.ones(64)
        scales[9] = scale
        blocks = (
            (each * scales) @ basis for each in torch.randn(2, 32, 64, generator=generator.manual_seed(0))
        )
        pred, true = (each.reshape(32, 1, 8, 8) for each in blocks)
        return losses.dct_moments(pred, true).item()

    assert loss(100.0) == pytest.approx(loss(1.0), rel=1e-3)


def test_layers_add_up_by_their_weights() -> None:
    ones, zeros = torch.ones(2, 1, 1, 1), torch.zeros(2, 1, 1, 1)
    assert losses.over_layers(
        losses.l1, [ones, 3 * ones], [zeros, zeros], [0.5, 2.0]
    ).item() == pytest.approx(6.5)


def test_half_precision_is_averaged_in_float32() -> None:
    pred = torch.full((2, 1, 300, 300), 0.1, dtype=torch.bfloat16)
    assert losses.l1(pred, torch.zeros_like(pred)).dtype == torch.float32
    assert losses.std_over_batch(pred).dtype == torch.float32


def test_means_and_deviations_can_be_those_of_known_targets(
    batches: tuple[torch.Tensor, torch.Tensor],
) -> None:
    pred, true = batches
    to_mean = losses.mean_to([pred], [true.mean(0)], [2.0])
    assert to_mean.item() == pytest.approx(2 * (pred.mean(0) - true.mean(0)).abs().mean().item(), rel=1e-5)
    to_std = losses.std_to([pred], [true.std(0, unbiased=False)], [1.0])
    assert to_std.item() == pytest.approx(
        losses.over_layers(losses.std_map, [pred], [true], [1.0]).item(), rel=1e-5
    )


def test_the_covariance_sees_what_deviations_do_not() -> None:
    generator = torch.Generator().manual_seed(0)
    column = torch.randn(64, 1, 1, 1, generator=generator)
    alike = torch.cat([column, column], dim=3)
    apart = torch.cat([column, column.roll(1, 0)], dim=3)
    assert losses.std_map(alike, apart).item() == pytest.approx(0.0, abs=1e-6)
    assert losses.covariance([alike], [apart], [torch.eye(2)]).item() > 0.5
    assert losses.covariance([alike], [alike], [torch.eye(2)]).item() == 0.0


def test_the_covariance_has_a_finite_gradient_where_it_is_met() -> None:
    pred = torch.rand(8, 1, 1, 3, requires_grad=True)
    losses.covariance([pred], [pred.detach()], [torch.eye(3)]).backward()  # type: ignore[no-untyped-call]
    assert pred.grad is not None and torch.isfinite(pred.grad).all()


def test_the_total_variation_is_the_mean_step_to_the_neighbors() -> None:
    stripes = torch.tensor([0.0, 1.0, 0.0, 1.0]).expand(2, 3, 4, 4)
    assert losses.total_variation(stripes).item() == 1.0
    assert losses.total_variation(torch.ones(2, 3, 4, 4)).item() == 0.0
    slope = torch.arange(4.0) + 2 * torch.arange(4.0)[:, None]
    assert losses.total_variation(slope.expand(2, 3, 4, 4)).item() == 3.0


def test_the_hinge_is_met_beyond_one_and_the_model_pays_the_score() -> None:
    assert losses.hinge(torch.tensor([-1.5]), torch.tensor([2.0])).item() == 0.0
    assert losses.hinge(torch.tensor([0.0]), torch.tensor([0.0])).item() == 2.0
    assert losses.adversarial(torch.tensor([1.0, 3.0])).item() == -2.0
