"""Running targets and random directions."""

import pytest
import torch

from training.synthesizer.moments import NUM_DIRECTIONS, RunningMoments, random_directions


def _batches(num: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(16, 3, 2, 2, generator=generator) * 2 + 1 for _ in range(num)]


def test_the_first_batch_is_believed_at_once() -> None:
    statistics, (batch,) = RunningMoments(), _batches(1)
    statistics.update([batch])
    torch.testing.assert_close(statistics.mean()[0], batch.mean(0))
    torch.testing.assert_close(statistics.std(10**6)[0], batch.std(0, unbiased=False), rtol=1e-3, atol=1e-3)


def test_many_batches_come_close_to_the_true_moments() -> None:
    statistics = RunningMoments(decay=0.99)
    for batch in _batches(300):
        statistics.update([batch])
    # About 100 batches of 16 count, so the mean is off by 2 / 40 at most places.
    torch.testing.assert_close(statistics.mean()[0], torch.ones(3, 2, 2), rtol=0, atol=0.25)
    assert statistics.std(10**6)[0].mean().item() == pytest.approx(2.0, rel=0.03)


def test_a_deviation_is_asked_for_as_a_batch_shows_it() -> None:
    statistics, (batch,) = RunningMoments(), _batches(1)
    statistics.update([batch])
    ratio = statistics.std(2)[0] / statistics.std(10**9)[0]
    torch.testing.assert_close(ratio, torch.full_like(ratio, 0.5**0.5))


def test_restored_statistics_go_on_as_the_others() -> None:
    first, second = RunningMoments(), RunningMoments()
    batches = _batches(4)
    for batch in batches[:2]:
        first.update([batch])
    second.load_state_dict(first.state_dict())
    for batch in batches[2:]:
        first.update([batch])
        second.update([batch])
    assert torch.equal(first.mean()[0], second.mean()[0]) and torch.equal(first.std(8)[0], second.std(8)[0])


def test_directions_are_the_same_in_every_run_and_keep_lengths() -> None:
    batch = _batches(1)[0]
    (first,), (second,) = random_directions([batch]), random_directions([batch + 1])
    assert torch.equal(first, second) and first.shape == (12, NUM_DIRECTIONS)
    assert first.square().sum(0).mean().item() == pytest.approx(1.0, rel=0.2)
