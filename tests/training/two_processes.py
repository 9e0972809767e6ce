"""One of two processes that share a batch, for the test of the statistic over the global batch.

    python -m tests.training.two_processes RANK PORT OUT

writes the losses of this process's half, and the gradient of their sum.
"""

import sys
from datetime import timedelta
from pathlib import Path

import torch
from torch import Tensor, distributed

from training.synthesizer import losses
from training.synthesizer.moments import RunningMoments


def make_batch() -> tuple[Tensor, Tensor]:
    """The whole batch, drawn and true."""
    generator = torch.Generator().manual_seed(0)
    return torch.rand(8, 3, 5, 4, generator=generator), torch.rand(8, 3, 5, 4, generator=generator)


def statistics(pred: Tensor, true: Tensor) -> list[Tensor]:
    """Every loss that is a statistic of the global batch."""
    directions = torch.eye(pred[0].numel())[:, :6]
    targets = RunningMoments()
    targets.update([true])
    return [
        losses.std_map(pred, true),
        losses.covariance([pred], [true], [directions]),
        losses.mean_to([pred], targets.mean(), [1.0]),
        losses.std_to([pred], targets.std(8), [1.0]),
    ]


def main() -> None:
    """Runs it; see the module."""
    rank, port, out = int(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    torch.set_num_threads(1)
    address = f"tcp://127.0.0.1:{port}"
    distributed.init_process_group(
        "gloo", init_method=address, rank=rank, world_size=2, timeout=timedelta(seconds=60)
    )
    pred, true = (part[rank::2] for part in make_batch())
    pred = pred.clone().requires_grad_()
    found = torch.stack(statistics(pred, true))
    (gradient,) = torch.autograd.grad(found.sum(), pred)
    torch.save({"losses": found.detach(), "gradient": gradient}, out)
    distributed.destroy_process_group()


if __name__ == "__main__":
    main()
