"""Benchmark of one split: its true faces, features and embeddings, and every metric of a system on it.

Letters of shapes: N samples of the split, M training faces, F side of the face, E numbers of an embedding.
"""

from dataclasses import asdict, dataclass

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
from training.evaluation.embeddings import Embed, embed_all, encoder_embedding, load_vgg, vgg_embedding
from training.evaluation.evaluate import System, to_unit
from training.evaluation.simclr import FaceEncoder
from training.synthesizer.vgg import VGGFeatures, load_features, report_layers

Metrics = dict[str, float]

IN_FACE, BACKGROUND = "inside the face", "background"
"""Parts of the picture; only their squared error is measured."""

MIDDLE, RADII = (0.5, 0.53), (0.45, 0.47)
"""The face: an ellipse from the hairline to the chin and from ear to ear, in parts of the side. Eyes are 0.40
apart there, a face is 2.2 eye distances wide and its chin lies 1.6 below the eyes."""


@dataclass(frozen=True, slots=True)
class EmbeddingSpace:
    """An embedding by name, and the embeddings of the true faces (N x E) and the training faces (M x E)."""

    name: str
    embed: Embed
    true: Tensor
    train: Tensor


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

    def measure(self, drawn_NHWC: Image) -> tuple[Metrics, dict[str, Metrics]]:
        """Every number of the drawn faces, and the squared error by part of the picture."""
        faces = iter(drawn_NHWC)

        def answer(eyes: Image) -> Image:
            return np.stack([next(faces) for _ in eyes])

        scores = evaluation.evaluate({"it": answer}, self.dataset, self.features, progress=False)["it"]
        pred, true = to_unit(drawn_NHWC), to_unit(self.true)
        numbers: Metrics = {
            **asdict(scores),
            "diversity_ratio": metrics.diversity_ratio(pred, true),
            "sharpness_ratio": metrics.sharpness_ratio(pred, true),
        }
        embeddings = [embed_all(space.embed, drawn_NHWC) for space in self.spaces]
        per_sample = self._per_sample(pred, embeddings)
        for space, embedded in zip(self.spaces, embeddings, strict=True):
            distance = metrics.kid(embedded, space.true)
            rank = metrics.mean_over_persons(per_sample[f"rank_{space.name}"], self.rows["person"])
            numbers |= {
                f"kid_{space.name}": distance.value,
                f"kid_{space.name}_error": distance.error,
                f"rank_{space.name}": rank.value,
                f"rank_{space.name}_error": rank.error,
                f"memorisation_{space.name}": metrics.memorisation_ratio(embedded, space.true, space.train),
            }
        return numbers, _regions(pred, true)

    def measure_corruptions(self, system: System) -> dict[str, Metrics]:
        """Some numbers of the system on eyes with each of `training.data.corruptions`."""
        found = {}
        for name, corruption in CORRUPTIONS.items():
            corrupted = EyeFacePairs(
                self.dataset.pairs, self.split, jitter=corruption, num_eyes=self.dataset.num_eyes
            )
            drawn = draw_split(system, corrupted)
            embeddings = [embed_all(space.embed, drawn) for space in self.spaces]
            values = self._per_sample(to_unit(drawn), embeddings)
            means = {number: float(each.mean()) for number, each in values.items()}
            found[name] = {"num_samples": len(drawn)} | means
        return found

    def _per_sample(self, pred: Tensor, embeddings: list[Tensor]) -> dict[str, NDArray[np.float64]]:
        """Squared error and, by each embedding, rank of the true face of each sample."""
        squares = (pred - to_unit(self.true)).square().mean((1, 2, 3)).double().numpy()
        return {"l2": squares} | {
            f"rank_{space.name}": metrics.ranks_of_true_face(embedded, space.true, self.rows["person"])
            for space, embedded in zip(self.spaces, embeddings, strict=True)
        }


def make_benchmark(pairs: Pairs, split: Split, perceptual: str, encoder: FaceEncoder) -> Benchmark:
    """Reads the split and embeds its true faces and those of `train`."""
    features = load_features(perceptual, report_layers(perceptual))
    evaluation.calibrate(features, pairs)
    vgg, _ = load_vgg(perceptual)
    evaluation.calibrate(vgg, pairs)
    dataset = EyeFacePairs(pairs, split, num_eyes=pairs.eyes.shape[1])
    true, train = true_faces(dataset), true_faces(EyeFacePairs(pairs, "train"))
    spaces = tuple(
        EmbeddingSpace(name, embed, embed_all(embed, true), embed_all(embed, train))
        for name, embed in (("vgg", vgg_embedding(vgg)), ("encoder", encoder_embedding(encoder)))
    )
    return Benchmark(split, dataset, features, true, pairs.rows[dataset.samples[:, 0]], spaces)


def true_faces(dataset: EyeFacePairs) -> Image:
    """The faces of a split, N x F x F x 3, those of left eyes mirrored."""
    faces: Image = dataset.pairs.faces[dataset.samples[:, 0]]
    left = dataset.samples[:, 1] == 1
    faces[left] = faces[left][:, :, ::-1]
    return faces


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


def _regions(pred: Tensor, true: Tensor) -> dict[str, Metrics]:
    squares_FF, region = (pred - true).square().mean((0, 1)), face_region(pred.shape[-1])
    places = ((IN_FACE, region), (BACKGROUND, ~region))
    return {name: {"num_samples": len(pred), "l2": squares_FF[mask].mean().item()} for name, mask in places}
