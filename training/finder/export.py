"""Export of the eye finder and its refiner as one ONNX file; the graph decodes the maps to candidates.

Contract: `picture` uint8 [1, H, W, 3] RGB in, H and W multiples of 32 and 64 at least; `candidates` float32
[NUM_CANDIDATES, 9] out, the surest first: logit of being an eye; x, y of its center and the distance between
the eyes, in pixels; probability of the left eye; cosine and sine of the roll, clockwise; where the
partner eye is relative to this eye, in eye distances. Letters of shapes: H, W as above, K candidates.
"""

import base64
import json
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import onnx
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from service.inference.detector import REFINER_INPUT_PX
from service.inference.eye_finder import FINDER_CONTRACT_VERSION, LearnedEyeFinder
from service.inference.onnx_metadata import LicenceClass
from training.data.files import write_atomically
from training.export.onnx import store_as_float16, to_onnx, write_metadata
from training.finder.calibration import fit_logistic_regression, fit_threshold, label_detections
from training.finder.finder_model import DISTANCE_UNIT_PX, STRIDE, EyeFinderNet
from training.finder.refiner_model import RefinerNet
from training.finder.test_sets import NO_PEOPLE, Example
from training.loop.run_folder import read_description

NUM_CANDIDATES = 64
NO_PEAK = -30.0
"""The logit of what is no peak of the heat map: a chance of 1e-13."""

UNCALIBRATED = (0.5, 1.0, 0.2, 0.2, 0.5, 0.0, 0.0, 0.0)
"""With these the refiner sees about the same detections as with the weights to come."""


@dataclass(frozen=True, slots=True)
class FinderMetadata:
    """What the file says of itself; see `service.inference.eye_finder.FinderInfo`."""

    version: str
    training_data: str
    licence_class: LicenceClass
    commit: str
    threshold: float = 0.3
    score_weights: tuple[float, ...] = UNCALIBRATED
    name: str = "eye_finder"


class FinderWithDecoding(nn.Module):
    """The network with the service's pixels before it and the decoding of its maps behind it."""

    def __init__(self, net: EyeFinderNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, picture_BHWC: Tensor) -> Tensor:
        """Candidates K x 9 of one picture 1 x H x W x 3 uint8."""
        maps = self.net(picture_BHWC.permute(0, 3, 1, 2).float())
        logit = maps[:, :1]
        is_peak = F.max_pool2d(logit, 3, stride=1, padding=1) == logit
        peaks = torch.where(is_peak, logit, NO_PEAK).flatten()
        best, place = torch.topk(peaks, NUM_CANDIDATES)
        # Counted, not computed from `place`: the exporter knows no remainder by a width that is not fixed.
        ones = torch.ones_like(logit[0])
        cells = torch.cat([ones.cumsum(2) - 1, ones.cumsum(1) - 1, maps[0, 1:]])
        values = cells.flatten(1)[:, place]
        column, row, offset_x, offset_y, size, left, cos, sin, partner_x, partner_y = values.unbind(0)
        x = (column + offset_x) * STRIDE + (STRIDE - 1) / 2
        y = (row + offset_y) * STRIDE + (STRIDE - 1) / 2
        distance = size.exp() * DISTANCE_UNIT_PX
        return torch.stack([best, x, y, distance, left.sigmoid(), cos, sin, partner_x, partner_y], 1)


class RefinerWithPreprocessing(nn.Module):
    """The refiner with the service's pixels before it; what it moves is at most an eye distance."""

    def __init__(self, net: RefinerNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, close_BHWC: Tensor) -> Tensor:
        """Answers B x 6 of close crops B x H x W x 3 uint8; see `training.finder.refiner_crops.LABELS`."""
        answers = self.net(close_BHWC.permute(0, 3, 1, 2).float())
        return torch.cat([answers[:, :1], answers[:, 1:5].clamp(-1, 1), answers[:, 5:]], 1)


def finder_to_onnx(net: EyeFinderNet) -> onnx.ModelProto:
    """The network with its decoding as an ONNX graph, without facts."""
    # Sizes are given in 32s, so that the exporter knows that the maps of all strides fit onto each other.
    height, width = (torch.export.Dim(name, min=2, max=128) for name in ("height", "width"))
    model = to_onnx(
        FinderWithDecoding(net), (torch.zeros(1, 256, 320, 3, dtype=torch.uint8),),
        inputs=["picture"], outputs=["candidates"], shapes=({1: 32 * height, 2: 32 * width},),
    )  # fmt: skip
    store_as_float16(model)
    return model


def refiner_to_onnx(net: RefinerNet) -> onnx.ModelProto:
    """The refiner's network as an ONNX graph: see `service.inference.refiner.Refiner`."""
    example = torch.zeros(2, REFINER_INPUT_PX, REFINER_INPUT_PX, 3, dtype=torch.uint8)
    batch = {0: torch.export.Dim("batch")}
    model = to_onnx(
        RefinerWithPreprocessing(net), (example,), inputs=["close"], outputs=["refined"], shapes=(batch,)
    )
    store_as_float16(model)
    return model


def describe_photos(run: Path) -> tuple[str, frozenset[str]]:
    """What a run learned from, in words, and the licenses of these photos."""
    counts: dict[str, int] = read_description(run)["data"]["photos_by_licence"]
    words = ", ".join(f"{count} {name}" for name, count in counts.items())
    return f"photos by licence: {words}", frozenset(counts)


def export_calibrated(
    finder: onnx.ModelProto,
    refiner: onnx.ModelProto | None,
    path: Path,
    metadata: FinderMetadata,
    examples: Sequence[Example],
) -> FinderMetadata:
    """Writes the finder's and, if there is one, the refiner's graph, calibrated on the examples.

    Returns the metadata with the scores' weights and the threshold that were fitted.
    """
    num_negatives = Counter(example.kind for example in examples if example.kind.startswith(NO_PEOPLE))
    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder) / "draft.onnx"
        # Which detections the refiner sees depends on the scores: first uncalibrated, then calibrated ones.
        for _ in range(2):
            write_finder(finder, draft, metadata, {}, refiner)
            detections = label_detections(LearnedEyeFinder.load(draft), examples)
            weights = fit_logistic_regression(detections)
            threshold = fit_threshold(detections, weights, num_negatives)
            metadata = replace(metadata, score_weights=weights, threshold=threshold)
    metrics = {
        "candidates_fitted_on": float(len(detections.is_eye)),
        "pictures_without_people": float(num_negatives.total()),
    }
    write_finder(finder, path, metadata, metrics, refiner)
    return metadata


def write_finder(
    model: onnx.ModelProto,
    path: Path,
    facts: FinderMetadata,
    metrics: Mapping[str, float],
    refiner: onnx.ModelProto | None = None,
) -> None:
    """Writes the graph with its facts, among them the refiner, to `path`, whole or not at all."""
    written = {
        **asdict(facts),
        "contract_version": FINDER_CONTRACT_VERSION,
        "part": "eye_finder",
        "score_weights": json.dumps(list(facts.score_weights)),
        "refiner": base64.b64encode(refiner.SerializeToString()).decode() if refiner else "",
    }
    write_metadata(model, written, metrics)
    write_atomically(path, lambda file: file.write(model.SerializeToString()))
