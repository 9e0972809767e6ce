"""Benchmark of one split: its true faces, features and embeddings, and every metric of a system on it.

Letters of shapes: N samples of the split, M training faces, F side of the face, E numbers of an embedding.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from service.vision.images import Image
from training.data.corruptions import CORRUPTIONS
from training.data.dataset import EyeFacePairs
from training.data.splits import Split
from training.data.store import Pairs
from training.evaluation import metrics
from training.evaluation.embeddings import (
    UNTRAINED,
    EmbeddingSpace,
    embed_all,
    embedding_layers,
    embedding_space,
    untrained_layers,
    vgg_space,
)
from training.evaluation.metrics import Metrics
from training.evaluation.scores import score_faces, to_unit
from training.evaluation.simclr import FaceEncoder
from training.evaluation.systems import System, draw_split, true_faces
from training.synthesizer.vgg import VGGFeatures, load_features, report_layers

PerSample = dict[str, NDArray[np.float64]]
"""Numbers of each sample of a split, by name."""

NUM_CALIBRATION_FACES = 256

IN_FACE, BACKGROUND = "inside the face", "background"
"""Parts of the picture; only their squared error is measured."""

MIDDLE, RADII = (0.5, 0.53), (0.45, 0.47)
"""The face: an ellipse from the hairline to the chin and from ear to ear, in parts of the side. Eyes are 0.40
apart there, a face is 2.2 eye distances wide and its chin lies 1.6 below the eyes."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What a system's faces measure: numbers of the split and of each sample, and their embeddings."""

    numbers: Metrics
    per_sample: PerSample
    embeddings: dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One split of pairs and its faces N x F x F x 3; `features` are the report's, calibrated."""

    split: Split
    dataset: EyeFacePairs
    features: VGGFeatures
    true: Image
    rows: NDArray[np.void]
    spaces: tuple[EmbeddingSpace, ...]

    def draw(self, system: System) -> Image:
        """The system's faces for all eyes of the split; both eyes lie along the last axis."""
        return draw_split(system, self.dataset)

    def measure(self, drawn: Mapping[str, Image]) -> dict[str, Measured]:
        """What each system's faces N x F x F x 3 measure, by its name."""
        measured = {}
        for name, scores in score_faces(drawn, self.true, self.features).items():
            embeddings = self.embed(drawn[name])
            values = self.per_sample(drawn[name], embeddings)
            numbers = scores | self._compare_sets(drawn[name], embeddings)
            numbers |= mean_values({key: values[key] for key in values if key != "l2"}, self.rows)
            measured[name] = Measured(numbers, values, embeddings)
        return measured

    def embed(self, drawn_NHWC: Image) -> dict[str, Tensor]:
        """The embeddings of drawn faces by the name of their space."""
        return {space.name: embed_all(space.embed, drawn_NHWC) for space in self.spaces}

    def _compare_sets(self, drawn_NHWC: Image, embeddings: Mapping[str, Tensor]) -> Metrics:
        pred, true = to_unit(drawn_NHWC), to_unit(self.true)
        numbers: Metrics = {
            "diversity_ratio": metrics.diversity_ratio(pred, true),
            "sharpness_ratio": metrics.sharpness_ratio(pred, true),
        }
        for space in self.spaces:
            embedded = embeddings[space.name]
            distance = metrics.kid(embedded, space.true)
            numbers |= {f"kid_{space.name}": distance.value, f"kid_{space.name}_error": distance.error}
            if space.train is not None:
                ratio = metrics.memorisation_ratio(embedded, space.true, space.train)
                numbers[f"memorisation_{space.name}"] = ratio
        return numbers

    def measure_regions(self, drawn_NHWC: Image) -> dict[str, Metrics]:
        """The squared error in the face and in what surrounds it."""
        squares_FF = (to_unit(drawn_NHWC) - to_unit(self.true)).square().mean((0, 1))
        region = face_region(self.true.shape[1])
        return {
            name: {"num_samples": len(drawn_NHWC), "l2": squares_FF[mask].mean().item()}
            for name, mask in ((IN_FACE, region), (BACKGROUND, ~region))
        }

    def measure_corruptions(self, system: System) -> dict[str, Metrics]:
        """Some numbers of the system on eyes with each of `training.data.corruptions`."""
        found = {}
        for name, corruption in CORRUPTIONS.items():
            corrupted = EyeFacePairs(
                self.dataset.pairs, self.split, jitter=corruption, num_eyes=self.dataset.num_eyes
            )
            drawn = draw_split(system, corrupted)
            values = self.per_sample(drawn, self.embed(drawn))
            means = {number: float(each.mean()) for number, each in values.items()}
            found[name] = {"num_samples": len(drawn)} | means
        return found

    def per_sample(self, drawn_NHWC: Image, embeddings: Mapping[str, Tensor]) -> PerSample:
        """Of each sample the squared error, what the cheeks' color is off, and ranks of the true face."""
        squares = (to_unit(drawn_NHWC) - to_unit(self.true)).square().mean((1, 2, 3)).double().numpy()
        difference, lighter = metrics.cheek_color_differences(drawn_NHWC, self.true)
        return {"l2": squares, "cheek_difference": difference, "cheek_lighter": lighter} | {
            f"rank_{space.name}": metrics.ranks_of_true_face(
                embeddings[space.name], space.true, self.rows["person"]
            )
            for space in self.spaces
        }


def make_benchmark(
    pairs: Pairs, split: Split, perceptual: str, encoder: FaceEncoder | None = None
) -> Benchmark:
    """Reads the split and embeds its true faces and those of `train`.

    Faces are embedded by VGG19 and by the encoder or, without one, by a layer of VGG19 that no objective
    trains on (`relu3_4`), on which training faces are not compared: it takes ten times as long.
    """
    dataset, train = EyeFacePairs(pairs, split, num_eyes=pairs.eyes.shape[1]), EyeFacePairs(pairs, "train")
    layers = (report_layers(perceptual), embedding_layers(perceptual), untrained_layers(perceptual))
    features, vgg, untrained = (load_features(perceptual, each) for each in layers)
    for each in (features, vgg, untrained):
        calibrate(each, train)
    by_vgg = vgg_space("vgg", vgg, dataset, train)
    if encoder:
        other = embedding_space("encoder", "contrastive encoder", encoder, dataset, train)
    else:
        other = vgg_space(UNTRAINED, untrained, dataset)
    rows = pairs.rows[dataset.samples[:, 0]]
    return Benchmark(split, dataset, features, true_faces(dataset), rows, (by_vgg, other))


def calibrate(features: VGGFeatures, train: EyeFacePairs) -> None:
    """Sets the layers' scales on faces spread over the `train` split: the same for every system and split."""
    chosen = np.linspace(0, len(train) - 1, min(NUM_CALIBRATION_FACES, len(train))).astype(int)
    features.calibrate(torch.stack([train[int(i)][1] for i in chosen]).float() / 255)


def mean_values(values: Mapping[str, NDArray[np.float64]], rows: NDArray[np.void]) -> Metrics:
    """The mean of each number over samples, and as `…_error` half of its 95 % interval over persons.

    NaN counts as not there.
    """
    found: Metrics = {}
    for name, each in values.items():
        known = ~np.isnan(each)
        if not known.any():
            continue
        mean = metrics.mean_over_persons(each[known], rows["person"][known])
        found |= {name: mean.value, f"{name}_error": mean.error}
    return found


def face_region(size: int) -> Tensor:
    """F x F, true in the face and false in what surrounds it."""
    at = (torch.arange(size) + 0.5) / size
    x, y = (at - MIDDLE[0]) / RADII[0], (at - MIDDLE[1]) / RADII[1]
    return x[None, :].square() + y[:, None].square() <= 1
