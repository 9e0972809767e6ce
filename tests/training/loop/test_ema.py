"""The averaged model: weights, batch-norm statistics and counters."""

import copy

import pytest
import torch
from torch import nn

from training.loop.ema import decay_at, update_ema


def test_the_average_forgets_its_start() -> None:
    assert decay_at(0.998, 0) == pytest.approx(0.1)
    assert decay_at(0.998, 10**6) == 0.998


def test_weights_and_batch_norm_statistics_move_by_one_part_and_counters_are_copied() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    ema = copy.deepcopy(model).eval()
    before = {name: value.clone() for name, value in ema.state_dict().items()}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    model.train()(torch.randn(8, 1, 4, 4) + 3)
    update_ema(ema, model, 0.75)
    for name, value in ema.state_dict().items():
        current = model.state_dict()[name]
        wanted = current if name.endswith("num_batches_tracked") else 0.75 * before[name] + 0.25 * current
        torch.testing.assert_close(value, wanted)
        assert not torch.equal(value, before[name]), name
