"""The discriminator: its inputs, and that it learns."""

import pytest
import torch

from training.synthesizer import losses
from training.synthesizer.discriminator import Discriminator, DiscriminatorConfig


@pytest.mark.parametrize(("sees_eyes", "num_eyes", "channels"), [(False, 2, 3), (True, 1, 6), (True, 2, 9)])
def test_it_scores_patches_of_faces_with_or_without_their_eyes(
    sees_eyes: bool, num_eyes: int, channels: int
) -> None:
    discriminator = Discriminator(DiscriminatorConfig(sees_eyes), num_eyes)
    scores = discriminator(torch.rand(2, 3, 64, 64), torch.rand(2, 3 * num_eyes, 32, 32))
    assert scores.shape == (2, 1, 4, 4)
    first = discriminator.state_dict()["layers.0.parametrizations.weight.original"]
    assert first.shape[1] == channels


def test_only_a_conditional_critic_looks_at_the_eyes() -> None:
    faces, eyes = torch.rand(2, 3, 64, 64), torch.rand(2, 3, 64, 64)
    for sees_eyes in (False, True):
        discriminator = Discriminator(DiscriminatorConfig(sees_eyes), 1).eval()
        assert torch.equal(discriminator(faces, eyes), discriminator(faces, 1 - eyes)) is not sees_eyes


def test_it_learns_to_tell_noise_from_plain_faces() -> None:
    torch.manual_seed(0)
    discriminator = Discriminator(DiscriminatorConfig(widths=(8, 8)), 1)
    optimizer = torch.optim.AdamW(discriminator.parameters(), lr=2e-3, betas=(0.5, 0.999))
    true, eyes = torch.rand(8, 3, 1, 1).expand(8, 3, 16, 16), torch.zeros(8, 3, 16, 16)
    seen = []
    for _ in range(60):
        pred = torch.rand(8, 3, 16, 16)
        loss = losses.hinge(discriminator(pred, eyes), discriminator(true, eyes))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        seen.append(loss.item())
    assert seen[-1] < 0.6 * seen[0]
