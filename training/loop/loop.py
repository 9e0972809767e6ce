"""The training loop of every network: learning rate, step, EMA, statistics, checkpoint.

Killed at any step, a run goes on exactly there: all that changes is in its `TrainState`.
"""

import copy
import ctypes
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from tqdm import tqdm

from training.loop import checkpoint as checkpoints
from training.loop.ema import decay_at, update_ema
from training.loop.run_folder import RunOutput, StatsWriter, claim
from training.loop.schedule import Schedule, set_learning_rate

MAX_GRADIENT_NORM = 5.0


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
    `after_step` gets the number of each step once it is done and, if one is due, its checkpoint saved.
    """
    keep_freed_memory()
    stats = StatsWriter(output.folder, state.step, every=output.log_every) if writes else None
    with tqdm(
        total=schedule.num_steps, initial=state.step, desc=output.folder.name, disable=not writes
    ) as bar:
        while state.step < schedule.num_steps:
            set_learning_rate(state.optimizer, schedule, state.step)
            terms = take_step()
            update_ema(state.ema, state.model, decay_at(schedule.ema_decay, state.step))
            state.step += 1
            bar.update()
            last = state.step == schedule.num_steps
            if stats is not None:
                stats.add(state.step, terms, last=last)
                if last or state.step % output.checkpoint_every == 0:
                    checkpoints.save(output.folder, state.state_dict())
            after_step(state.step)


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

    Raises:
        RunConflict: the folder holds another run; the length may differ.
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


def keep_freed_memory() -> None:
    """Tells glibc to keep big freed blocks: handing them back and faulting them in again costs more
    than half of a step on a CPU (measured: 16 against 8 ms a face in the perceptual network)."""
    try:
        libc = ctypes.CDLL("libc.so.6")
    except OSError:  # not glibc: other allocators keep memory by themselves
        return
    m_trim_threshold, m_mmap_threshold = -1, -3
    libc.mallopt(m_mmap_threshold, 1 << 30)
    libc.mallopt(m_trim_threshold, (1 << 31) - 1)
