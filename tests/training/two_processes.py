"""One of two processes that share a batch, for the test of the statistic over the global batch.

    python -m tests.training.two_processes RANK PORT OUT

writes the loss and the gradient of this process's half.
"""

import sys
from datetime import timedelta
from pathlib import Path

import torch
from torch import Tensor, distributed

from training import losses


def make_batch() -> tuple[Tensor, Tensor]:
    """The whole batch, drawn and true."""
    generator = torch.Generator().manual_seed(0)
    return torch.rand(8, 3, 5, 4, generator=generator), torch.rand(8, 3, 5, 4, generator=generator)


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
    loss = losses.std_map(pred, true)
    (gradient,) = torch.autograd.grad(loss, pred)
    torch.save({"loss": loss.item(), "gradient": gradient}, out)
    distributed.destroy_process_group()


if __name__ == "__main__":
    main()
