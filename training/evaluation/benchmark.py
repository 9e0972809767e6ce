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
from training.evaluation import evaluate as evaluation
from training.evaluation import metrics
from training.evaluation.embeddings import (
    Embed,
    embed_all,
    load_untrained_vgg,
    load_vgg,
    vgg_embedding,
)
from training.evaluation.evaluate import Metrics, System, to_unit
from training.evaluation.simclr import FaceEncoder
from training.synthesizer.vgg import VGGFeatures, load_features, report_layers

PerSample = dict[str, NDArray[np.float64]]
"""Numbers of each sample of a split, by name."""

EMBED_BATCH = 256

UNTRAINED = "relu3_4"
"""The embedding on a layer that no objective trains on."""

IN_FACE, BACKGROUND = "inside the face", "background"
"""Parts of the picture; only their squared error is measured."""

MIDDLE, RADII = (0.5, 0.53), (0.45, 0.47)
"""The face: an ellipse from the hairline to the chin and from ear to ear, in parts of the side. Eyes are 0.40
apart there, a face is 2.2 eye distances wide and its chin lies 1.6 below the eyes."""


@dataclass(frozen=True, slots=True)
class EmbeddingSpace:
    """An embedding by name, and the embeddings of the true faces (N x E).

    network: what computes it, as reports print it.
    train: the embeddings of the training faces (M x E), if they are to be compared.
    """

    name: str
    network: str
    embed: Embed
    true: Tensor
    train: Tensor | None = None


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
        scores = evaluation.evaluate(drawn, self.true, self.features)
        return {name: self._measure(faces, scores[name]) for name, faces in drawn.items()}

    def _measure(self, drawn_NHWC: Image, scores: Metrics) -> Measured:
        embeddings = self.embed(drawn_NHWC)
        values = self.per_sample(drawn_NHWC, embeddings)
        means = mean_values({name: values[name] for name in values if name != "l2"}, self.rows)
        return Measured(scores | self._compare_sets(drawn_NHWC, embeddings) | means, values, embeddings)

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
        places = ((IN_FACE, region), (BACKGROUND, ~region))
        return {
            name: {"num_samples": len(drawn_NHWC), "l2": squares_FF[mask].mean().item()}
            for name, mask in places
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
    features = load_features(perceptual, report_layers(perceptual))
    (vgg, vgg_name), (untrained, untrained_name) = load_vgg(perceptual), load_untrained_vgg(perceptual)
    for each in (features, vgg, untrained):
        evaluation.calibrate(each, pairs)
    dataset, train = EyeFacePairs(pairs, split, num_eyes=pairs.eyes.shape[1]), EyeFacePairs(pairs, "train")

    def space(name: str, network: str, embed: Embed, *, compare_train: bool = True) -> EmbeddingSpace:
        known = embed_true(embed, train) if compare_train else None
        return EmbeddingSpace(name, network, embed, embed_true(embed, dataset), known)

    by_vgg = space("vgg", vgg_name, vgg_embedding(vgg))
    other = (
        space("encoder", "contrastive encoder", encoder)
        if encoder
        else space(UNTRAINED, untrained_name, vgg_embedding(untrained), compare_train=False)
    )
    rows = pairs.rows[dataset.samples[:, 0]]
    return Benchmark(split, dataset, features, true_faces(dataset), rows, (by_vgg, other))


def embed_true(embed: Embed, dataset: EyeFacePairs, chosen: NDArray[np.intp] | None = None) -> Tensor:
    """Embeddings of the true faces of a split's samples, or of the chosen ones, a batch in memory at once."""
    indices = np.arange(len(dataset)) if chosen is None else chosen
    batches = np.split(indices, list(range(EMBED_BATCH, len(indices), EMBED_BATCH)))
    return torch.cat([embed_all(embed, true_faces(dataset, batch)) for batch in batches])


def true_faces(dataset: EyeFacePairs, chosen: NDArray[np.intp] | None = None) -> Image:
    """The faces of a split's samples, or of the chosen ones, N x F x F x 3, those of left eyes mirrored."""
    samples = dataset.samples if chosen is None else dataset.samples[chosen]
    faces: Image = dataset.pairs.faces[samples[:, 0]]
    left = samples[:, 1] == 1
    faces[left] = faces[left][:, :, ::-1]
    return faces


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


def draw_split(system: System, dataset: EyeFacePairs, batch_size: int = 64) -> Image:
    """A system's faces for all eyes of a split, in its order."""
    drawn = []
    for start in range(0, len(dataset), batch_size):
        eyes = [dataset[i][0] for i in range(start, min(start + batch_size, len(dataset)))]
        drawn.append(system(np.ascontiguousarray(torch.stack(eyes).permute(0, 2, 3, 1).numpy())))
    return np.concatenate(drawn)


def face_region(size: int) -> Tensor:
    """F x F, true in the face and false in what surrounds it."""
    at = (torch.arange(size) + 0.5) / size
    x, y = (at - MIDDLE[0]) / RADII[0], (at - MIDDLE[1]) / RADII[1]
    return x[None, :].square() + y[:, None].square() <= 1
