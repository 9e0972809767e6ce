"""The schedule of a run: its length, its batches, its learning rates and the decay of its EMA."""

from dataclasses import dataclass

from torch.optim import Optimizer


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """What every recipe has: linear warm-up, a constant learning rate, and a linear cooldown to zero.

    `cooldown_part` is the part of the run that the cooldown takes.
    """

    num_steps: int = 3000
    batch_size: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    warmup_steps: int = 100
    cooldown_part: float = 0.3
    ema_decay: float = 0.998


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
