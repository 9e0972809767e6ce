"""The learning rate of each step."""

import pytest
import torch
from torch import nn

from training.loop.schedule import Schedule, learning_rate, set_learning_rate

PLAN = Schedule(num_steps=100, learning_rate=1.0, warmup_steps=10, cooldown_part=0.5)


def test_the_learning_rate_warms_up_stays_and_falls_to_zero() -> None:
    rates = [learning_rate(PLAN, step) for step in (0, 9, 50, 75, 100)]
    assert rates == pytest.approx([0.1, 1.0, 1.0, 0.5, 0.0])
    short = Schedule(num_steps=10, learning_rate=1.0, warmup_steps=10, cooldown_part=1.0)
    assert [learning_rate(short, step) for step in (3, 8)] == pytest.approx([0.4, 0.2])


def test_every_parameter_group_gets_the_rate_of_the_step() -> None:
    groups = [{"params": [nn.Parameter(torch.zeros(1))]} for _ in range(2)]
    optimizer = torch.optim.AdamW(groups, lr=7.0)
    set_learning_rate(optimizer, PLAN, 75)
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.5]
