"""Guesses follow the eye as far as true faces do, vary as drawn faces do, and know poor eyes."""

import pytest
import torch
from torch import Tensor

from tests.training.tiny import TINY_MODEL
from training.data.store import Pairs
from training.synthesizer.autoencoder import Autoencoder
from training.synthesizer.guesses import Guesses, fit_guesses, fit_vector_map


@pytest.fixture(scope="module")
def model() -> Autoencoder:
    torch.manual_seed(0)
    return Autoencoder(TINY_MODEL).eval()


@pytest.fixture(scope="module")
def guesses(model: Autoencoder, tiny_pairs: Pairs) -> Guesses:
    return fit_guesses(model, tiny_pairs)


@pytest.fixture(scope="module")
def eyes(tiny_pairs: Pairs) -> Tensor:
    """All eyes of the `train` split."""
    chosen = tiny_pairs.eyes[tiny_pairs.rows["split"] == "train"]
    return torch.from_numpy(chosen.reshape(-1, 32, 32, 3).copy()).permute(0, 3, 1, 2).float() / 255


@torch.no_grad()
def draw(guesses: Guesses, vectors: Tensor, noise: Tensor, eyes: Tensor) -> Tensor:
    vectors, _ = guesses(vectors, noise, eyes)
    return vectors


def test_without_noise_the_vector_is_that_of_the_eye(
    model: Autoencoder, guesses: Guesses, eyes: Tensor
) -> None:
    vectors = model.encode(eyes).detach()
    assert torch.equal(draw(guesses, vectors, torch.zeros_like(vectors), eyes), vectors)


def test_guesses_of_all_eyes_have_the_covariance_of_the_eyes(
    model: Autoencoder, guesses: Guesses, eyes: Tensor
) -> None:
    vectors = model.encode(eyes).detach()
    many, generator = vectors.repeat(400, 1), torch.Generator().manual_seed(0)
    noise = torch.randn(many.shape, generator=generator)
    guessed = draw(guesses, many, noise, eyes.repeat(400, 1, 1, 1))
    assert torch.cov(guessed.T).trace() / torch.cov(vectors.T).trace() == pytest.approx(1, abs=0.1)
    torch.testing.assert_close(guessed.mean(0), vectors.mean(0), rtol=0, atol=0.1 * vectors.std().item())


def test_a_guess_follows_the_eye_where_true_faces_do_and_nowhere_else(guesses: Guesses) -> None:
    correlations = guesses.correlations_E
    assert (correlations[:-1] >= correlations[1:]).all() and 0.3 < correlations[0] <= 0.97
    assert correlations[-1] < 0.1


def test_what_the_eye_tells_is_what_true_faces_share_with_drawn_ones() -> None:
    generator = torch.Generator().manual_seed(0)
    of_drawn = torch.randn(4, 50, generator=generator)
    told = torch.diag(torch.tensor([0.9, 0.5, 0.1, 0.0]))
    found = fit_vector_map(told @ of_drawn, of_drawn)
    torch.testing.assert_close(found, told / 1.2, rtol=0, atol=0.1)


def test_a_dark_eye_is_less_certain(model: Autoencoder, guesses: Guesses, eyes: Tensor) -> None:
    def certainty(shown: Tensor) -> float:
        with torch.no_grad():
            vectors = model.encode(shown)
            _, found = guesses(vectors, torch.zeros_like(vectors), shown)
        assert found.shape == (len(shown),) and found.min() >= 0 and found.max() <= 1
        return float(found.mean())

    assert certainty(0.2 * eyes) < certainty(eyes) - 0.1
