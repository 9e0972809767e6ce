"""What a step draws by itself."""

import torch
from lightning_fabric import Fabric

from training.synthesizer.step import draw_noise


class OneOfTwo(Fabric):
    """Fabric as one of two processes sees it."""

    def __init__(self, rank: int) -> None:
        super().__init__(accelerator="cpu")
        self.rank = rank

    @property
    def world_size(self) -> int:
        return 2

    @property
    def global_rank(self) -> int:
        return self.rank


def test_processes_of_one_seed_draw_different_noise_and_stay_in_step() -> None:
    drawn, after = [], []
    for rank in (0, 1):
        torch.manual_seed(3)
        drawn.append(draw_noise(OneOfTwo(rank), 4, 5))
        after.append(torch.rand(()))
    torch.manual_seed(3)
    assert torch.equal(torch.stack(drawn), torch.randn(2, 4, 5)) and after[0] == after[1]
