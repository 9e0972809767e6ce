"""What a face costs."""

import torch
from torch.utils.flop_counter import FlopCounterMode

from training.synthesizer.autoencoder import Autoencoder, ModelConfig


def count_multiplications(config: ModelConfig) -> int:
    """Of one face, in convolutions and linear layers; each comes with an addition."""
    model = Autoencoder(config).eval()
    eyes = torch.zeros(1, 3 * config.num_eyes, config.eye_size, config.eye_size)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(eyes)
    return int(counter.get_total_flops()) // 2
