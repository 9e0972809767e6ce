"""Learning-rate schedule of every trainer: linear warm-up, constant, linear cooldown to zero."""

from typing import Protocol

from torch.optim import Optimizer


class Schedule(Protocol):
    """The part of a recipe that decides the learning rate and the EMA of each step."""

    @property
    def num_steps(self) -> int:
        """Length of the run."""

    @property
    def learning_rate(self) -> float:
        """Between warm-up and cooldown."""

    @property
    def warmup_steps(self) -> int:
        """Steps until the full learning rate."""

    @property
    def cooldown_part(self) -> float:
        """Part of the run that the cooldown takes."""

    @property
    def ema_decay(self) -> float:
        """Decay of the weights' exponential moving average."""


def learning_rate(schedule: Schedule, step: int) -> float:
    """The learning rate of a step.

    Source: Hägele et al. 2024 ("warm-up, stable, decay"): the length may change until the cooldown.
    """
    warmup = min(1.0, (step + 1) / schedule.warmup_steps)
    cooldown_steps = max(1.0, schedule.cooldown_part * schedule.num_steps)
    cooldown = min(1.0, (schedule.num_steps - step) / cooldown_steps)
    return schedule.learning_rate * min(warmup, cooldown)


def set_learning_rate(optimizer: Optimizer, schedule: Schedule, step: int) -> None:
    """Gives every parameter group the learning rate of the step."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(schedule, step)
