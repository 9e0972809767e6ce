"""The training loop of every network: learning rate, step, EMA, statistics, checkpoint.

A run that was killed goes on from its last checkpoint, at most a minute back, to the same weights: all that
changes is in its `TrainState`. SIGTERM and Ctrl-C save one first.
"""

import copy
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from tqdm import tqdm

from service.system.memory import keep_freed_memory
from training.errors import Stopped
from training.loop import checkpoint as checkpoints
from training.loop.ema import decay_at, update_ema
from training.loop.run_folder import RunOutput, StatsWriter, claim
from training.loop.schedule import Schedule, set_learning_rate

MAX_GRADIENT_NORM = 5.0

_MAX_UNSAVED_S: Final = 60.0


@dataclass(slots=True)
class TrainState:
    """What a run changes: the network, its optimizer, its EMA, and the number of steps done."""

    model: nn.Module
    optimizer: Optimizer
    ema: nn.Module
    step: int = 0

    def state_dict(self) -> checkpoints.State:
        """Everything that a checkpoint holds but the random states."""
        return {
            "step": self.step,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.ema.state_dict(),
        }

    def load_state_dict(self, state: checkpoints.State) -> None:
        """Goes back to a checkpoint, random states included."""
        self.step = state["step"]
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.ema.load_state_dict(state["average"])
        checkpoints.restore_random(state)


def begin(model: nn.Module, schedule: Schedule, output: RunOutput) -> TrainState:
    """A model's state at the folder's checkpoint or, without one, at its first step; on the CPU."""
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = AdamW(model.parameters(), lr=schedule.learning_rate, weight_decay=schedule.weight_decay)
    state = TrainState(model, optimizer, ema_of(model))
    saved = checkpoints.load(output.folder)
    if saved is not None:
        state.load_state_dict(saved)
    return state


def ema_of(model: nn.Module) -> nn.Module:
    """A copy of the model to average its weights in."""
    return copy.deepcopy(model).requires_grad_(False).eval()


def run_loop(
    schedule: Schedule,
    state: TrainState,
    take_step: Callable[[], Mapping[str, Tensor]],
    output: RunOutput,
    *,
    writes: bool = True,
    after_step: Callable[[int], None] = lambda step: None,
) -> None:
    """Takes steps up to the schedule's last one.

    `take_step` moves the weights once and answers the loss terms by name. Of several processes one `writes`.
    `after_step` gets the number of each step once it is done and, if one is due, its checkpoint saved. One is
    due after so many steps, after a minute, and at the end.

    Raises:
        Stopped: SIGTERM or Ctrl-C came; the checkpoint is that of the last step.
    """
    # Measured: 8 ms a face in the perceptual network, 16 where freed memory is given back each time.
    keep_freed_memory(mmap_threshold=1 << 30, trim_threshold=(1 << 31) - 1)
    saved_at = time.monotonic()
    stats = StatsWriter(output.folder, state.step, every=output.log_every) if writes else None
    name = output.folder.name
    with (
        tqdm(total=schedule.num_steps, initial=state.step, desc=name, disable=not writes) as bar,
        _noted_signals() as came,
    ):
        while state.step < schedule.num_steps:
            set_learning_rate(state.optimizer, schedule, state.step)
            terms = take_step()
            update_ema(state.ema, state.model, decay_at(schedule.ema_decay, state.step))
            state.step += 1
            bar.update()
            last = state.step == schedule.num_steps
            if stats is not None:
                stats.add(state.step, terms, last=last)
                is_old = time.monotonic() - saved_at > _MAX_UNSAVED_S
                if last or came or is_old or state.step % output.checkpoint_every == 0:
                    checkpoints.save(output.folder, state.state_dict())
                    saved_at = time.monotonic()
            after_step(state.step)
            if came and not last:
                done = f"{state.step} of {schedule.num_steps} steps are done and saved"
                raise Stopped(f"{done} in {output.folder}; the same command goes on")


@contextmanager
def _noted_signals() -> Iterator[list[int]]:
    """The numbers of SIGTERM and SIGINT as they come, which end nothing here; a second one acts as before."""
    came: list[int] = []

    def note(number: int, _: object) -> None:
        came.append(number)
        restore()

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield came
    finally:
        restore()


def train_network(
    model: nn.Module,
    schedule: Schedule,
    output: RunOutput,
    described: Mapping[str, object],
    batches: Callable[[int], Iterator[tuple[Tensor, ...]]],
    loss: Callable[..., tuple[Tensor, Mapping[str, Tensor]]],
) -> Path:
    """Trains a small network on the CPU to the schedule's last step, and returns the folder of the run.

    `batches` answers the batches from a step on; `loss` takes the model and the parts of one, and answers a
    sum to minimize and its terms. A run of another recipe or `described` otherwise is not gone on with.
    """
    claim(output.folder, {"recipe": asdict(schedule), **described})
    state = begin(model, schedule, output)
    coming = batches(state.step)

    def take_step() -> dict[str, Tensor]:
        state.model.train()
        total, terms = loss(state.model, *next(coming))
        state.optimizer.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(state.model.parameters(), MAX_GRADIENT_NORM)
        state.optimizer.step()
        return {"total": total.detach(), **terms}

    run_loop(schedule, state, take_step, output)
    return output.folder
