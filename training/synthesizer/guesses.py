"""Many faces from one eye: random vectors for the decoder, distributed as the vectors of true faces are.

The decoder draws a face from the vector of an eye. Of all vectors, one draws the true face best; the eye
tells it in part. With vectors of eyes whitened (mean 0, covariance I over the training eyes), the model of
the true face's vector is v = u A + noise, where u is the vector of the eye. A is found without inverting the
decoder, from two linear regressions: of small pictures of true faces on the vectors of their eyes, B, and of
small pictures of drawn faces on the vectors that they were drawn from, G. A solves A G = B. So that guesses
vary over eyes as default faces do, the noise has the covariance I − AᵀA.

Letters of shapes: B batch, N samples, E numbers of a vector, F numbers of a small picture.
Source: the closed form of a conditional Gaussian, as in Ghosh et al. 2020, "From variational to deterministic
autoencoders" (a density fitted to an autoencoder's vectors afterwards).
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.data.augmentation import Jitter
from training.data.dataset import EyeFacePairs, SampleKey
from training.data.store import Pairs
from training.synthesizer.autoencoder import Autoencoder

NUM_SAMPLES = 4000
"""Eyes, faces and drawn faces that the distribution is fitted to."""

RIDGE = 0.2
"""Of A, in mean eigenvalues of G Gᵀ: a larger one leaves guesses less of what the eye tells."""

MAX_CORRELATION = 0.97
"""Of a true face's vector with that of its eye, along any direction."""

EYE_ROWS, EYE_COLUMNS = slice(14, 31), slice(6, 58)
"""Both eyes and brows in a face of 64 x 64 pixels."""

NUM_MEASURES = 4
"""Numbers that say how much an eye tells, beside its vector."""

POOR_EYES = Jitter(blur=0.5, small=0.5, noise=0.5, gamma=3.0)
"""How eyes are degraded to learn how much less they tell."""


class Guesses(nn.Module):
    """Vectors to draw from, B x E, from the vectors of eyes and noise, and how much each eye tells, B.

    Noise of zeros gives the vector of the eye itself, the default face; standard normal noise gives a guess.
    """

    def __init__(self, vector_size: int) -> None:
        super().__init__()
        self.whiten = nn.Linear(vector_size, vector_size)
        self.color = nn.Linear(vector_size, vector_size)
        self.correlations_E = nn.Buffer(torch.zeros(vector_size))
        self.explained = nn.Linear(vector_size + NUM_MEASURES, 1)

    def forward(self, vectors_BE: Tensor, noise_BE: Tensor, eyes_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors, and in 0…1 the share of the variance between faces that the eye explains."""
        whitened_BE = self.whiten(vectors_BE)
        explained_B1 = self.explained(eye_statistics(whitened_BE, eyes_BCHW)).clamp(0, 1)
        guess_BE = self.correlations_E * whitened_BE
        guess_BE = self.color(guess_BE + (1 - self.correlations_E.square()).sqrt() * noise_BE)
        is_guess_B1 = noise_BE.abs().amax(1, keepdim=True).sign()
        return vectors_BE + is_guess_B1 * (guess_BE - vectors_BE), explained_B1[:, 0]


def eye_statistics(whitened_BE: Tensor, eyes_BCHW: Tensor) -> Tensor:
    """What certainty is regressed on, B x (E + 4): whitened vectors, and logarithms of detail and light."""
    luma = eyes_BCHW.mean(1, keepdim=True)
    detail = (luma - functional.avg_pool2d(luma, 3, 1, 1)).abs().mean((2, 3))
    light = luma.mean((2, 3))
    logs = torch.cat([(detail + 1e-3).log(), (light + 1e-2).log()], 1)
    return torch.cat([whitened_BE, logs, logs.square()], 1)


@torch.no_grad()
def fit_guesses(model: Autoencoder, pairs: Pairs, *, seed: int = 0) -> Guesses:
    """The distribution of guesses of a trained model, fitted to the `train` split in closed form."""
    clean = _Samples(model, pairs, None, seed)
    mean_E = clean.vectors_NE.mean(0)
    whiten_EE, color_EE = _whitening(torch.cov(clean.vectors_NE.T))
    noise_NE = torch.randn(clean.vectors_NE.shape, generator=torch.Generator().manual_seed(seed))
    drawn_NF = _in_parts(lambda part: small_pictures(model.decode(part)), mean_E + noise_NE @ color_EE)
    u_NE = (clean.vectors_NE - mean_E) @ whiten_EE
    of_drawn_EF, of_true_EF = _regress(noise_NE, drawn_NF), _regress(u_NE, clean.pictures_NF)
    left_EE, correlations_E, right_EE = torch.linalg.svd(fit_vector_map(of_true_EF, of_drawn_EF))
    guesses = Guesses(len(mean_E))
    guesses.whiten.weight.copy_((whiten_EE @ left_EE).T)
    guesses.whiten.bias.copy_(-mean_E @ whiten_EE @ left_EE)
    guesses.color.weight.copy_((right_EE @ color_EE).T)
    guesses.color.bias.copy_(mean_E)
    guesses.correlations_E.copy_(correlations_E.clamp(max=MAX_CORRELATION))
    poor = _Samples(model, pairs, POOR_EYES, seed)
    _fit_explained(guesses, left_EE.T @ of_true_EF, [clean, poor])
    return guesses.eval()


def fit_vector_map(of_true_EF: Tensor, of_drawn_EF: Tensor) -> Tensor:
    """A, E x E: the ridge solution of A G = B, for B of true faces and G of drawn ones."""
    gram_EE = of_drawn_EF @ of_drawn_EF.T
    ridge_EE = RIDGE * gram_EE.diagonal().mean() * torch.eye(len(gram_EE))
    solved: Tensor = of_true_EF @ of_drawn_EF.T @ torch.linalg.inv(gram_EE + ridge_EE)
    return solved


def _whitening(covariance_EE: Tensor) -> tuple[Tensor, Tensor]:
    """The symmetric matrices that whiten rows of this covariance, and that give it to white ones."""
    values_E, axes_EE = torch.linalg.eigh(covariance_EE)
    roots_E = values_E.clamp_min(1e-6 * values_E.max()).sqrt()
    return axes_EE / roots_E @ axes_EE.T, axes_EE * roots_E @ axes_EE.T


def _fit_explained(guesses: Guesses, of_true_EF: Tensor, samples: "list[_Samples]") -> None:
    """Regresses the share of a face's variance that its eye explains on what is known of the eye."""
    statistics, shares = [], []
    for each in samples:
        whitened_NE = guesses.whiten(each.vectors_NE)
        centered_NF = each.pictures_NF - each.pictures_NF.mean(0)
        missed_N = (centered_NF - whitened_NE @ of_true_EF).square().sum(1)
        shares.append(1 - missed_N / centered_NF.square().sum(1).mean())
        statistics.append(eye_statistics(whitened_NE, each.eyes_NCHW))
    x_NS, y_N = torch.cat(statistics), torch.cat(shares).clamp(0, 1)
    mean_S, std_S = x_NS.mean(0), x_NS.std(0)
    weights_S = _regress((x_NS - mean_S) / std_S, y_N[:, None])[:, 0] / std_S
    guesses.explained.weight.copy_(weights_S[None])
    guesses.explained.bias.copy_(y_N.mean() - mean_S @ weights_S)


class _Samples:
    """Eyes of the `train` split, N of them, with their vectors and the small pictures of their faces."""

    def __init__(self, model: Autoencoder, pairs: Pairs, jitter: Jitter | None, seed: int) -> None:
        train = EyeFacePairs(pairs, "train", jitter=jitter, seed=seed, face_size=model.config.face_size)
        generator = torch.Generator().manual_seed(seed)
        chosen = torch.randperm(len(train), generator=generator)[:NUM_SAMPLES].tolist()
        samples = [train[SampleKey(0, index)] for index in chosen]
        self.eyes_NCHW = torch.stack([eye for eye, _ in samples]).float() / 255
        self.vectors_NE = _in_parts(model.encode, self.eyes_NCHW)
        faces = (face[None].float() / 255 for _, face in samples)
        self.pictures_NF = torch.cat([small_pictures(face) for face in faces])


def small_pictures(faces_BCHW: Tensor) -> Tensor:
    """Faces at 32 x 32 pixels and the region of the eyes at twice that, flattened to B x F."""
    whole, finer = (functional.interpolate(faces_BCHW, size=(side, side), mode="area") for side in (32, 64))
    return torch.cat([whole.flatten(1), finer[:, :, EYE_ROWS, EYE_COLUMNS].flatten(1)], 1)


def _regress(x_NE: Tensor, y_NF: Tensor) -> Tensor:
    """Linear regression of centered y on x, E x F, with a little ridge."""
    gram_EE = x_NE.T @ x_NE + 0.01 * len(x_NE) * torch.eye(x_NE.shape[1])
    solved: Tensor = torch.linalg.solve(gram_EE, x_NE.T @ (y_NF - y_NF.mean(0)))
    return solved


def _in_parts(run: Callable[[Tensor], Tensor], inputs: Tensor, size: int = 64) -> Tensor:
    return torch.cat([run(part.contiguous()) for part in torch.split(inputs, size)])
