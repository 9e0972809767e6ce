"""Many faces from one eye: random vectors for the decoder, as far from the eye's as the eye leaves open.

The decoder draws a face from the vector of an eye, v. An eye explains a share ρ² of the variance between
faces; a guess is drawn from

    m + ρ (v − m) + √(1 − ρ²) L n

with standard normal noise n, and m and L Lᵀ the mean and covariance of the vectors of eyes. So guesses vary
over eyes as default faces do, and between the guesses of one eye as much as it does not explain. ρ² is the
certainty of the eye: a linear regression on its vector, detail and light.

Letters of shapes: B batch, N samples, E numbers of a vector, F numbers of a small picture.
Source: the closed form of a Gaussian fitted to an autoencoder's vectors afterwards, as in Ghosh et al. 2020,
"From variational to deterministic autoencoders".
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.data.augmentation import Jitter
from training.data.dataset import EyeFacePairs
from training.data.store import Pairs
from training.synthesizer.autoencoder import Autoencoder

NUM_SAMPLES = 4000
"""Eyes and faces that the distribution is fitted to."""

PICTURE_SIZE = 64
"""Side of the pictures whose variance is explained."""

NUM_MEASURES = 4
"""Numbers that say how much an eye tells, beside its vector."""

POOR_EYES = Jitter(blur=0.5, small=0.5, noise=0.5, gamma=3.0)
"""How eyes are degraded to learn how much less they tell."""


class GuessSampler(nn.Module):
    """Vectors to draw from, B x E, from the vectors of eyes and noise, and the certainty of each eye, B.

    Noise of zeros gives the vector of the eye itself, the default face; standard normal noise gives a guess.
    """

    def __init__(self, vector_size: int) -> None:
        super().__init__()
        self.mean_E = nn.Buffer(torch.zeros(vector_size))
        self.color = nn.Linear(vector_size, vector_size, bias=False)
        self.explained = nn.Linear(vector_size + NUM_MEASURES, 1)

    def forward(self, vectors_BE: Tensor, noise_BE: Tensor, eyes_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors, and in 0…1 the share of the variance between faces that the eye explains."""
        explained_B1 = self.explained(eye_statistics(vectors_BE, eyes_BCHW)).clamp(0, 1)
        from_eye_BE = explained_B1.sqrt() * (vectors_BE - self.mean_E)
        guess_BE = self.mean_E + from_eye_BE + (1 - explained_B1).sqrt() * self.color(noise_BE)
        is_guess_B1 = noise_BE.abs().amax(1, keepdim=True).sign()
        return vectors_BE + is_guess_B1 * (guess_BE - vectors_BE), explained_B1[:, 0]


def eye_statistics(vectors_BE: Tensor, eyes_BCHW: Tensor) -> Tensor:
    """What certainty is regressed on, B x (E + 4): vectors, and logarithms of detail and light."""
    luma = eyes_BCHW.mean(1, keepdim=True)
    detail = (luma - functional.avg_pool2d(luma, 3, 1, 1)).abs().mean((2, 3))
    light = luma.mean((2, 3))
    logs = torch.cat([(detail + 1e-3).log(), (light + 1e-2).log()], 1)
    return torch.cat([vectors_BE, logs, logs.square()], 1)


@torch.no_grad()
def fit_guesses(model: Autoencoder, pairs: Pairs) -> GuessSampler:
    """The distribution of guesses of a trained model, fitted to the `train` split in closed form."""
    clean, poor = (
        EyeFacePairs(pairs, "train", jitter=jitter, face_size=PICTURE_SIZE) for jitter in (None, POOR_EYES)
    )
    order = torch.randperm(len(clean), generator=torch.Generator().manual_seed(0))
    chosen = order[:NUM_SAMPLES].tolist()
    pictures_NF = torch.stack([clean[i][1].flatten() for i in chosen]).float() / 255
    eyes = [torch.stack([each[i][0] for i in chosen]).float() / 255 for each in (clean, poor)]
    vectors = [torch.cat([model.encode(part) for part in torch.split(eyes_NCHW, 64)]) for eyes_NCHW in eyes]
    guesses = GuessSampler(model.config.vector_size)
    guesses.mean_E.copy_(vectors[0].mean(0))
    guesses.color.weight.copy_(_root(torch.cov(vectors[0].T)))
    _fit_explained(guesses, pictures_NF, eyes, vectors)
    return guesses.eval()


def _root(covariance_EE: Tensor) -> Tensor:
    """A matrix that gives white columns this covariance."""
    values_E, axes_EE = torch.linalg.eigh(covariance_EE)
    root_EE: Tensor = axes_EE * values_E.clamp_min(0).sqrt()
    return root_EE


def _fit_explained(
    guesses: GuessSampler, pictures_NF: Tensor, eyes: Sequence[Tensor], vectors: Sequence[Tensor]
) -> None:
    """Regresses the share of a face's variance that its eye explains on what is known of the eye.

    Eyes and vectors are those of clean eyes and of poor ones of the same faces. The face is predicted by a
    linear regression on the vectors of clean eyes.
    """
    centered_NF = pictures_NF - pictures_NF.mean(0)
    to_faces_EF = _regress(vectors[0] - guesses.mean_E, centered_NF)
    predicted = ((vectors_NE - guesses.mean_E) @ to_faces_EF for vectors_NE in vectors)
    y_N = torch.cat([explained_shares(centered_NF, each_NF) for each_NF in predicted])
    x_NS = torch.cat([eye_statistics(*each) for each in zip(vectors, eyes, strict=True)])
    mean_S, mean = x_NS.mean(0), y_N.mean()
    weights_S = _regress(x_NS - mean_S, (y_N - mean)[:, None])[:, 0]
    guesses.explained.weight.copy_(weights_S[None])
    guesses.explained.bias.copy_(mean - mean_S @ weights_S)


def explained_shares(true_NF: Tensor, predicted_NF: Tensor) -> Tensor:
    """1 − squared error over the variance of true faces, N, in 0…1; both pictures are centered.

    A face unlike all others counts as unexplained and no less: some such faces would outweigh the rest.
    """
    variance = true_NF.square().sum(1).mean()
    shares: Tensor = 1 - (true_NF - predicted_NF).square().sum(1) / variance
    return shares.clamp(0, 1)


def _regress(x_NE: Tensor, y_NF: Tensor) -> Tensor:
    """Linear regression of y on x, both centered, E x F, with a little ridge on x of deviation 1."""
    std_E = x_NE.std(0).clamp_min(1e-6)
    scaled_NE = x_NE / std_E
    gram_EE = scaled_NE.T @ scaled_NE + 0.01 * len(x_NE) * torch.eye(x_NE.shape[1])
    solved: Tensor = torch.linalg.solve(gram_EE, scaled_NE.T @ y_NF)
    return solved / std_E[:, None]
