"""A run's folder: `run.json`, which says what the run is, and `stats.jsonl`, one line per logged step."""

import json
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any

import msgspec
from torch import Tensor

from training.data.files import write_atomically
from training.errors import RunConflict, RunError, RunNotFound
from training.loop import checkpoint as checkpoints

DESCRIPTION, STATS = "run.json", "stats.jsonl"


@dataclass(frozen=True, slots=True)
class RunOutput:
    """Where a run goes, how it is loaded and how often it is saved; none of it changes the result."""

    folder: Path
    _: KW_ONLY
    num_workers: int = 0
    checkpoint_every: int = 200
    log_every: int = 20


def claim(folder: Path, description: Mapping[str, Any], **of_this_start: str) -> None:
    """Writes `run.json`, or compares it with an earlier start's; the recipe's length may differ.

    So may what is true `of_this_start` alone, for example its precision. A finished run keeps its file.

    Raises:
        RunConflict: the folder holds another run.
    """
    described: dict[str, Any] = json.loads(json.dumps(description))
    path = folder / DESCRIPTION
    if path.exists():
        earlier = read_description(folder)
        for key, value in described.items():
            if _without_length(earlier.get(key)) != _without_length(value):
                raise RunConflict(
                    f"{folder} holds a run with another {key}: {earlier.get(key)}, now {value}. "
                    "Choose another folder, or remove it to begin anew"
                )
    if not (state := checkpoints.load(folder)) or state["step"] < described["recipe"]["num_steps"]:
        facts = {**described, **of_this_start, "commit": commit_hash()}
        write_atomically(path, json.dumps(facts, indent=1) + "\n")


def read_description(folder: Path) -> dict[str, Any]:
    """The content of `run.json`.

    Raises:
        RunNotFound: the folder holds no run.
        RunError: its file is damaged.
    """
    path = folder / DESCRIPTION
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise RunNotFound(f"{folder} holds no run; expected an .onnx file or the folder of a run") from None
    except (ValueError, TypeError, RecursionError) as error:
        raise RunError(f"{path} is damaged ({error}): remove the folder to begin anew") from error


def unfinished(folder: Path) -> str:
    """What an export says of a run that has not ended; empty if it has, and of a file of weights."""
    if (state := checkpoints.load(folder)) is None:
        return ""
    step, num_steps = state["step"], read_description(folder)["recipe"]["num_steps"]
    return f"; {folder} is unfinished: step {step:,} of {num_steps:,}" if step < num_steps else ""


class StatsWriter:
    """Writes `stats.jsonl`: each line the means of the loss terms since the line before.

    A run that resumes at `step` drops the lines after it.
    """

    def __init__(self, folder: Path, step: int, *, every: int) -> None:
        self.path, self.every = folder / STATS, every
        kept = [line for line in read_stats(folder) if line["step"] <= step] if self.path.exists() else []
        write_atomically(self.path, "".join(json.dumps(line) + "\n" for line in kept))
        self._begin()

    def add(self, step: int, terms: Mapping[str, Tensor], *, last: bool) -> None:
        """Counts one step in; writes a line every so many steps and at the last one."""
        for name, term in terms.items():
            self.sums[name] = self.sums[name] + term if name in self.sums else term
        self.num_steps += 1
        if step % self.every and not last:
            return
        seconds = time.perf_counter() - self.since
        means = {name: (total / self.num_steps).item() for name, total in self.sums.items()}
        line = {"step": step, **means, "seconds_per_step": round(seconds / self.num_steps, 4)}
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        self._begin()

    def _begin(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.num_steps = 0
        self.since = time.perf_counter()


def read_stats(folder: Path) -> Iterator[dict[str, float]]:
    """The lines of a run's `stats.jsonl`, but one that a kill has cut off.

    Raises:
        RunError: a line is no object of numbers with a step.
    """
    path = folder / STATS
    with path.open("rb") as lines:
        for number, text in enumerate(lines, 1):
            if not text.endswith(b"\n"):
                return
            try:
                line = msgspec.convert(json.loads(text), dict[str, int | float])
                yield {"step": line["step"], **line}
            except (ValueError, KeyError, RecursionError) as error:
                raise RunError(f"line {number} of {path} is damaged: remove it, and start again") from error


def commit_hash() -> str:
    """The repository's commit, with `+` if code differs from it, or "unknown" outside a repository.

    Only code counts: the experiment's results are committed, and grow while it runs.
    """
    folder = Path(__file__).parent
    try:
        head = ["git", "rev-parse", "--short=12", "HEAD"]
        commit = subprocess.run(head, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()
        differ = subprocess.run(["git", "diff", "--quiet", "HEAD", "--", ":(top)*.py"], cwd=folder).returncode
        return commit + ("+" if differ else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _without_length(value: Any) -> Any:
    return {k: v for k, v in value.items() if k != "num_steps"} if isinstance(value, dict) else value
