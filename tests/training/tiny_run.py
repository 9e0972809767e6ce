"""A tiny run in a process of its own, for the tests that kill it.

    python -m tests.training.tiny_run PAIRS RUN ARCHIVES OBJECTIVE [--die-while-saving N]

trains 24 steps in float32 on one thread towards the objective, faces of 32 px; with the option the process
kills itself in the middle of writing its Nth checkpoint.
"""

import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import torch

from tests.training.tiny import TINY
from training.data.store import open_pairs
from training.synthesizer.train import RunSettings, train

TINY_STD = replace(TINY, objective="layer-stdmap", num_steps=24, warmup_steps=5)


def main(arguments: list[str]) -> None:
    """Runs it; see the module's docstring."""
    pairs, run, archives = (Path(argument) for argument in arguments[:3])
    recipe = replace(TINY_STD, objective=arguments[3])
    if len(arguments) > 4:
        torch.save = _dying_after(int(arguments[5]), torch.save)
    torch.set_num_threads(1)
    settings = RunSettings(run, str(archives), checkpoint_every=3, log_every=1, preview_every=0)
    train(recipe, open_pairs(pairs), settings)


def _dying_after(num_saves: int, save: Callable[..., None]) -> Callable[..., None]:
    saved = 0

    def save_or_die(state: Any, file: IO[bytes]) -> None:
        nonlocal saved
        saved += 1
        whole = BytesIO()
        save(state, whole)
        if saved == num_saves:
            file.write(whole.getvalue()[: len(whole.getvalue()) // 2])
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        file.write(whole.getvalue())

    return save_or_die


if __name__ == "__main__":
    main(sys.argv[1:])
