"""What stands in the folder of a run: its description, its statistics and its averaged model."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from training.loop import checkpoint as checkpoints
from training.synthesizer.autoencoder import Autoencoder, ModelConfig


class NoRun(Exception):
    """A folder that holds no run, or none that has got far enough."""


def read_description(folder: Path) -> dict[str, Any]:
    """What `run.json` says of a run.

    Raises:
        NoRun: the folder holds none.
    """
    try:
        described: dict[str, Any] = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise NoRun(f"{folder} holds no run; expected an .onnx file or the folder of a run") from None
    return described


def is_finished(folder: Path, num_steps: int) -> bool:
    """Whether the run in the folder has come to that step."""
    state = checkpoints.load(folder)
    return state is not None and state["step"] >= num_steps


def load_average(folder: Path) -> Autoencoder:
    """The averaged model of a run, in evaluation mode.

    Raises:
        NoRun: the folder holds none, or no checkpoint yet.
    """
    described: dict[str, Any] = read_description(folder)["recipe"]["model"]
    state = checkpoints.load(folder)
    if state is None:
        raise NoRun(f"{folder} holds no checkpoint yet: let its training go on")
    sizes: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in described.items()}
    model = Autoencoder(ModelConfig(**sizes))
    model.load_state_dict(state["average"])
    return model.eval()


class Stats:
    """Writes `stats.jsonl`: means of the terms since the line before; cut back when a run resumes."""

    def __init__(self, folder: Path, step: int, *, every: int) -> None:
        self.path, self.every = folder / "stats.jsonl", every
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        kept = [line for line in lines if json.loads(line)["step"] <= step]
        self.path.write_text("".join(f"{line}\n" for line in kept))
        self.sums: dict[str, Tensor] = {}
        self.num_steps = 0
        self.since = time.perf_counter()

    def add(self, step: int, terms: dict[str, Tensor], *, last: bool) -> None:
        """Counts one step in; writes a line every so many steps and at the last one."""
        for name, term in terms.items():
            self.sums[name] = self.sums.get(name, torch.zeros_like(term)) + term
        self.num_steps += 1
        if step % self.every and not last:
            return
        seconds = time.perf_counter() - self.since
        means = {name: (total / self.num_steps).item() for name, total in self.sums.items()}
        line = {"step": step, **means, "seconds_per_step": round(seconds / self.num_steps, 4)}
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        self.sums, self.num_steps, self.since = {}, 0, time.perf_counter()


def read_stats(folder: Path) -> Iterator[dict[str, float]]:
    """The lines of a run's `stats.jsonl`."""
    with (folder / "stats.jsonl").open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)
