"""Metrics of many guesses from one eye: how they differ, how near the best comes, what the certainty says.

Letters of shapes: B batch, G guesses of an eye, D numbers of noise, N samples, F side of the face.
"""

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

from service.inference.synthesizer import Synthesizer, guess_noise
from service.vision.images import Image
from training.data import corruptions
from training.data.augmentation import EyeTransform
from training.data.dataset import EyeFacePairs
from training.evaluation.benchmark import Benchmark
from training.evaluation.metrics import Metrics, perceptual_distances, rank_correlation
from training.evaluation.scores import to_unit

NUM_GUESSES = 16
BEST_OF = (1, 4, 16)

MAX_EYES = 100
"""Eyes, spread over the split, whose guesses are compared with the true face."""

CERTAINTY_OF: Mapping[str, EyeTransform | None] = {
    "as they are": None,
    f"made {corruptions.SMALL_PX} px small": corruptions.shrink,
    "made blurred": corruptions.blur_eye,
    "made dark": corruptions.darken,
}
"""Eyes whose mean certainty is reported, by name."""


@torch.no_grad()
def measure_guesses(synthesizer: Synthesizer, benchmark: Benchmark) -> Metrics:
    """The numbers of 16 guesses of each of some eyes of the split, by name.

    between_guesses: standard deviation over an eye's guesses, over that between people's true faces.
    l2_of_mean: squared error of the mean of all guesses that there are: less its variance, of 16.
    default, best_of_…: `metrics.perceptual_distances` of the default face, and of the nearest of so many
        guesses.
    certainty, …: mean certainty of eyes as they are and of corrupted ones.
    certainty_correlation: Spearman's, of an eye's certainty with its default face's squared error; below 0
        where the error falls as the certainty grows.
    """
    sums: dict[str, list[float]] = {}
    for eye, face in _some(benchmark.dataset):
        noise_GD = guess_noise(NUM_GUESSES + 1, 0, synthesizer.info.noise_size)
        drawn = to_unit(synthesizer.draw(eye.repeat(len(noise_GD), 0), noise_GD)[0])
        for name, value in _compare(drawn[1:], drawn[:1], to_unit(face), benchmark).items():
            sums.setdefault(name, []).append(value)
    numbers = {name: float(np.mean(values)) for name, values in sums.items()}
    between_people = to_unit(benchmark.true).var(0).mean().item()
    numbers["between_guesses"] = (numbers.pop("variance") / between_people) ** 0.5
    return {"num_eyes": len(sums["default"])} | numbers | _certainties(synthesizer, benchmark)


def _compare(guesses: Tensor, default: Tensor, true: Tensor, benchmark: Benchmark) -> Metrics:
    features = [benchmark.features(each) for each in (guesses, default, true)]
    true_features = [layer.expand(len(guesses), -1, -1, -1) for layer in features[2]]
    distances = perceptual_distances(features[0], true_features)
    variance = guesses.var(0).mean().item()
    return {
        "variance": variance,
        "l2_of_mean": (guesses.mean(0) - true[0]).square().mean().item() - variance / NUM_GUESSES,
        "default": perceptual_distances(features[1], features[2]).item(),
        # The mean over parts of so many guesses.
        **{f"best_of_{n}": distances.reshape(-1, n).amin(1).mean().item() for n in BEST_OF},
    }


def _certainties(synthesizer: Synthesizer, benchmark: Benchmark) -> Metrics:
    found: Metrics = {}
    for name, corruption in CERTAINTY_OF.items():
        dataset = EyeFacePairs(benchmark.dataset.pairs, benchmark.split, jitter=corruption)
        pairs = [(eye, face) for eye, face in _some(dataset, len(dataset))]
        eyes, true = (np.concatenate(each) for each in zip(*pairs, strict=True))
        no_noise = np.zeros((len(eyes), synthesizer.info.noise_size), np.float32)
        drawn, certainty = synthesizer.draw(eyes, no_noise)
        found[f"certainty, {name}"] = float(certainty.mean())
        if corruption is None:
            errors = (to_unit(drawn) - to_unit(true)).square().mean((1, 2, 3))
            found["certainty_correlation"] = rank_correlation(certainty, errors.numpy())
    return found


def _some(dataset: EyeFacePairs, most: int = MAX_EYES) -> Iterator[tuple[Image, Image]]:
    """Eyes 1 x S x S x 3 and faces 1 x F x F x 3 spread over the split."""
    for index in np.linspace(0, len(dataset) - 1, min(most, len(dataset))).astype(int):
        eye, face = dataset[int(index)]
        yield eye[:3].permute(1, 2, 0).numpy()[None], face.permute(1, 2, 0).numpy()[None]
