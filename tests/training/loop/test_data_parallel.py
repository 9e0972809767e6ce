"""Runs of two processes: the statistic is the global batch's, and the command runs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.running import find_free_port
from tests.training.two_processes import make_batch, statistics
from training.loop.run_folder import read_stats
from training.synthesizer.weights import load_weights

pytestmark = pytest.mark.slow


def test_statistics_over_two_processes_are_those_of_the_whole_batch(tmp_path: Path) -> None:
    port = str(find_free_port())
    outs = [tmp_path / f"{rank}.pt" for rank in (0, 1)]
    module = [sys.executable, "-m", "tests.training.two_processes"]
    processes = [subprocess.Popen([*module, str(rank), port, str(out)]) for rank, out in enumerate(outs)]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    pred, true = make_batch()
    pred.requires_grad_()
    whole = torch.stack(statistics(pred, true))
    (gradient,) = torch.autograd.grad(whole.sum(), pred)
    for rank, out in enumerate(outs):
        found = torch.load(out)
        torch.testing.assert_close(found["losses"], whole.detach(), rtol=1e-5, atol=1e-7)
        # Gradients are averaged over the processes afterwards, so each half comes doubled.
        torch.testing.assert_close(found["gradient"] / 2, gradient[rank::2], rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize(("recipe", "face_size", "num_steps"), [("tiny", 128, 3), ("cgan-64", 64, 1)])
def test_a_run_of_two_processes_ends_with_one_checkpoint(
    tmp_path: Path, drawn_folder: Path, small_folder: Path, recipe: str, face_size: int, num_steps: int
) -> None:
    run, data = tmp_path / "run", {128: drawn_folder, 64: small_folder}[face_size]
    options = ["--recipe", recipe, "--steps", str(num_steps), "--accelerator", "cpu", "--devices", "2"]
    command = [sys.executable, "-m", "training", "train", str(data), str(run), *options]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert [line["step"] for line in read_stats(run)] == [num_steps]
    assert load_weights(run).config.face_size == face_size
