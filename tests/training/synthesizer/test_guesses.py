"""Guesses follow the eye as far as it is certain, vary as drawn faces do, and know poor eyes."""

import copy

import pytest
import torch
from torch import Tensor

from tests.training.tiny import TINY_MODEL
from training.data.store import Pairs
from training.synthesizer.autoencoder import Autoencoder
from training.synthesizer.guesses import GuessSampler, explained_shares, fit_guesses


@pytest.fixture(scope="module")
def model() -> Autoencoder:
    torch.manual_seed(0)
    return Autoencoder(TINY_MODEL).eval()


@pytest.fixture(scope="module")
def guesses(model: Autoencoder, tiny_pairs: Pairs) -> GuessSampler:
    return fit_guesses(model, tiny_pairs)


@pytest.fixture(scope="module")
def eyes(tiny_pairs: Pairs) -> Tensor:
    """All eyes of the `train` split."""
    chosen = tiny_pairs.eyes[tiny_pairs.rows["split"] == "train"]
    return torch.from_numpy(chosen.reshape(-1, 32, 32, 3).copy()).permute(0, 3, 1, 2).float() / 255


@torch.no_grad()
def draw(guesses: GuessSampler, vectors: Tensor, noise: Tensor, eyes: Tensor) -> Tensor:
    vectors, _ = guesses(vectors, noise, eyes)
    return vectors


def test_without_noise_the_vector_is_that_of_the_eye(
    model: Autoencoder, guesses: GuessSampler, eyes: Tensor
) -> None:
    vectors = model.encode(eyes).detach()
    assert torch.equal(draw(guesses, vectors, torch.zeros_like(vectors), eyes), vectors)


def test_guesses_of_all_eyes_have_the_covariance_of_the_eyes(
    model: Autoencoder, guesses: GuessSampler, eyes: Tensor
) -> None:
    vectors = model.encode(eyes).detach()
    many, generator = vectors.repeat(400, 1), torch.Generator().manual_seed(0)
    noise = torch.randn(many.shape, generator=generator)
    guessed = draw(guesses, many, noise, eyes.repeat(400, 1, 1, 1))
    assert torch.cov(guessed.T).trace() / torch.cov(vectors.T).trace() == pytest.approx(1, abs=0.1)
    torch.testing.assert_close(guessed.mean(0), vectors.mean(0), rtol=0, atol=0.1 * vectors.std().item())


@pytest.mark.parametrize(("certainty", "correlation"), [(1.0, 1.0), (0.64, 0.8), (0.0, 0.0)])
def test_a_guess_follows_the_eye_as_far_as_it_is_certain(
    model: Autoencoder, guesses: GuessSampler, eyes: Tensor, certainty: float, correlation: float
) -> None:
    certain = copy.deepcopy(guesses)
    with torch.no_grad():
        certain.explained.weight.zero_()
        certain.explained.bias.fill_(certainty)
    vectors = model.encode(eyes).detach()
    many, generator = vectors.repeat(400, 1), torch.Generator().manual_seed(0)
    noise = torch.randn(many.shape, generator=generator)
    guessed = draw(certain, many, noise, eyes.repeat(400, 1, 1, 1))
    centered, of_eyes = guessed - guessed.mean(0), many - many.mean(0)
    found = (centered * of_eyes).sum() / (centered.norm() * of_eyes.norm())
    assert found.item() == pytest.approx(correlation, abs=0.05)


def test_a_face_unlike_all_others_is_unexplained_and_no_less() -> None:
    true = torch.tensor([[1.0, -1.0], [-1.0, 1.0], [1.0, 1.0], [-9.0, -9.0]])
    shares = explained_shares(true, torch.tensor([[1.0, -1.0], [-1.0, 1.0], [0.0, 0.0], [9.0, 9.0]]))
    assert shares.tolist() == pytest.approx([1, 1, 1 - 2 / 42, 0])


def test_a_dark_eye_is_less_certain(model: Autoencoder, guesses: GuessSampler, eyes: Tensor) -> None:
    def certainty(shown: Tensor) -> float:
        with torch.no_grad():
            vectors = model.encode(shown)
            _, found = guesses(vectors, torch.zeros_like(vectors), shown)
        assert found.shape == (len(shown),) and found.min() >= 0 and found.max() <= 1
        return float(found.mean())

    assert certainty(0.2 * eyes) < certainty(eyes) - 0.1
