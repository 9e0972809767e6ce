"""Convolutions behind an upsampling work on the small picture, and give the same."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.training.tiny import TINY_MODEL
from training.export.polyphase import PolyphaseBlock, phases_of, to_polyphase
from training.synthesizer.autoencoder import Autoencoder, ConvBlock


def shaken(module: nn.Module) -> nn.Module:
    """The module in evaluation mode, as if trained: its batch norms do something."""
    torch.manual_seed(0)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for each in (layer.weight, layer.bias, layer.running_mean, layer.running_var):
                assert each is not None
                nn.init.uniform_(each, 0.5, 2)
    return module.eval()


@pytest.mark.parametrize("size", [(6, 4), (1, 1), (5, 9)])
def test_the_small_picture_gives_what_the_large_one_gave(size: tuple[int, int]) -> None:
    block = shaken(ConvBlock(5, 7))
    assert isinstance(block, ConvBlock)
    small = torch.randn(3, 5, *size)
    expected = block(functional.interpolate(small, scale_factor=2))
    torch.testing.assert_close(PolyphaseBlock(block)(small), expected, rtol=1e-4, atol=1e-5)


def test_a_phase_sees_only_four_pixels() -> None:
    weights = torch.randn(7, 5, 3, 3)
    small = torch.randn(1, 5, 6, 4)
    large = functional.conv2d(functional.interpolate(small, scale_factor=2), weights, padding=1)
    assert [each.shape for each in phases_of(weights)] == [(7, 5, 2, 2)] * 4
    last = functional.conv2d(functional.pad(small, (0, 1, 0, 1)), phases_of(weights)[3])
    torch.testing.assert_close(last, large[:, :, 1::2, 1::2], rtol=1e-4, atol=1e-5)


def test_the_model_draws_the_same_and_the_given_one_stays_as_it_was() -> None:
    model = shaken(Autoencoder(TINY_MODEL))
    assert isinstance(model, Autoencoder)
    eyes, before = torch.rand(2, 3, 32, 32), str(model)
    changed = to_polyphase(model)
    assert not any(isinstance(layer, nn.Upsample) for layer in changed.modules())
    torch.testing.assert_close(changed(eyes), model(eyes), rtol=1e-4, atol=1e-5)
    assert str(model) == before
