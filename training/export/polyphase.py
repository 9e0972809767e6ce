"""Polyphase form of a convolution behind an upsampling: the same numbers for half the multiplications.

Of the four pixels that nearest-neighbor upsampling makes of one, a 3 x 3 convolution meets 2 x 2 different
ones. So one convolution of the large picture is four of the small one, whose 2 x 2 weights are sums of the
3 x 3 ones; each gives one phase, the pixels of every second row and column. Source: Shi et al. 2016, "Is
the deconvolution layer the same as a convolutional layer?"

Letters of shapes: B batch, O channels out, I channels in, H and W height and width of the small picture.
"""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from training.synthesizer.autoencoder import Autoencoder, ConvBlock

PHASES = ((0, 0), (0, 1), (1, 0), (1, 1))
"""Where in each square of four their pixels lie: row and column."""

_MET = {0: ((0,), (1, 2)), 1: ((0, 1), (2,))}
"""By that row: which rows of the weights meet the first small pixel, and which the second; columns alike."""


def to_polyphase(model: Autoencoder) -> Autoencoder:
    """A copy of the model, in evaluation mode, whose decoder never convolves an upsampled picture."""
    copied = copy.deepcopy(model).eval()
    blocks = [layer for layer in copied.decoder if isinstance(layer, ConvBlock)]
    copied.decoder = nn.Sequential(*(PolyphaseBlock(block) for block in blocks))
    return copied


class PolyphaseBlock(nn.Module):
    """B x O x 2H x 2W from B x I x H x W: what the block makes of the upsampled picture."""

    def __init__(self, block: ConvBlock) -> None:
        super().__init__()
        conv, norm, self.activation = block
        assert isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
        fused = fuse_conv_bn_eval(conv, norm)
        self.phases = nn.ParameterList(phases_of(fused.weight.detach()))
        self.bias = fused.bias

    def forward(self, small_BIHW: Tensor) -> Tensor:
        """See the class."""
        height, width = small_BIHW.shape[2:]
        phases = []
        for (row, column), weights in zip(PHASES, self.phases, strict=True):
            padded = functional.pad(small_BIHW, (1 - column, column, 1 - row, row))
            phases.append(self.activation(functional.conv2d(padded, weights, self.bias)))
        # Woven together with the channels last, where all channels of two pixels move as one: ONNX Runtime
        # does that several times as fast as its DepthToSpace, which moves number by number.
        pairs = torch.cat(phases, dim=1).permute(0, 2, 3, 1).reshape(-1, width, 2, 2 * len(weights))
        woven = pairs.permute(0, 2, 1, 3).reshape(-1, 2 * height, 2 * width, len(weights))
        return woven.permute(0, 3, 1, 2)


def phases_of(weights_OI33: Tensor) -> list[Tensor]:
    """The weights O x I x 2 x 2 of each phase."""
    rows = {row: torch.stack([weights_OI33[:, :, met].sum(2) for met in _MET[row]], 2) for row in _MET}
    return [torch.stack([rows[row][..., met].sum(3) for met in _MET[column]], 3) for row, column in PHASES]
