"""An exported model in 8 bits, and what that costs: time and quality beside the model it was made of.

Letters of shapes: N eyes or faces, S side of the eye, F side of the face.
"""

import contextlib
import io
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from onnxruntime import quantization
from onnxruntime.quantization.shape_inference import quant_pre_process

from service.inference.synthesizer import Synthesizer
from service.vision.eyes import Image
from training.data.dataset import EyeFacePairs
from training.data.splits import Split
from training.data.store import Pairs
from training.evaluation import evaluate as evaluation
from training.evaluation import metrics
from training.evaluation.benchmark import draw_split, true_faces
from training.evaluation.embeddings import embed_all, load_vgg, vgg_embedding
from training.export.onnx import widen_weights

NUM_EYES = 128
"""To see the ranges of activations on; spread over `train`."""

NUM_TIMED = 200

QUANTIZED = ("Concat", "Conv", "Gemm", "LeakyRelu", "MaxPool", "Reshape", "Resize", "Transpose")
"""From the first convolution to the last but one; the scaling of pixels stays float32."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a model needs and how well it draws.

    ms: median CPU time of one face on one thread. l2: mean squared error over RGB in 0…1.
    kid: of `training.evaluation.embeddings`' VGG layer; `kid_error` its deviation over subsets,
    which are the same for both models, so that their difference is surer than either.
    """

    ms: float
    megabytes: float
    l2: float
    kid: float
    kid_error: float


def quantize(path: Path, out: Path, eyes_NHWC: Image) -> None:
    """Writes the model in `path` with 8-bit weights (by channel) and activations, whose ranges are those
    on the eyes that lose least of their entropy.

    The last convolution stays float32: what follows stretches its steps to visible ones.
    """
    model = onnx.load(path)
    widen_weights(model)
    with tempfile.TemporaryDirectory() as folder:
        wide, ready, draft = (Path(folder) / f"{name}.onnx" for name in ("wide", "ready", "draft"))
        onnx.save(model, wide)
        quant_pre_process(wide, ready, skip_symbolic_shape=True)
        convolutions = [node.name for node in onnx.load(ready).graph.node if node.op_type == "Conv"]
        with contextlib.redirect_stdout(io.StringIO()):  # the calibration prints
            quantization.quantize_static(
                ready, draft, _Eyes(eyes_NHWC), quant_format=quantization.QuantFormat.QDQ, per_channel=True,
                activation_type=quantization.QuantType.QUInt8, weight_type=quantization.QuantType.QInt8,
                op_types_to_quantize=list(QUANTIZED), nodes_to_exclude=convolutions[-1:],
                calibrate_method=quantization.CalibrationMethod.Entropy,
            )  # fmt: skip
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_bytes(draft.read_bytes())


def calibration_eyes(pairs: Pairs) -> Image:
    """N x S x S x 3 eyes spread over the `train` split."""
    train = EyeFacePairs(pairs, "train")
    chosen = np.linspace(0, len(train) - 1, min(NUM_EYES, len(train))).astype(int)
    return np.stack([train[int(i)][0].permute(1, 2, 0).numpy() for i in chosen])


def compare(models: Mapping[str, Path], pairs: Pairs, split: Split, perceptual: str) -> dict[str, Cost]:
    """The cost of each model on the eyes of a split, timed in turns.

    Raises:
        ValueError: the pairs have faces of another size than a model.
    """
    dataset = EyeFacePairs(pairs, split)
    loaded = {name: Synthesizer.load(path, device="cpu", num_threads=1) for name, path in models.items()}
    for name, each in loaded.items():
        if each.info.face_size != pairs.faces.shape[1]:
            raise ValueError(
                f"{models[name]} draws {each.info.face_size} px, the pairs have {pairs.faces.shape[1]}: "
                f"prepare them with --face-size {each.info.face_size}"
            )
    vgg, _ = load_vgg(perceptual)
    evaluation.calibrate(vgg, pairs)
    embed, faces = vgg_embedding(vgg), true_faces(dataset)
    true, embedded = evaluation.to_unit(faces), embed_all(embed, faces)
    ms = _time_in_turns(loaded, calibration_eyes(pairs))
    costs = {}
    for name, synthesizer in loaded.items():
        drawn = draw_split(synthesizer, dataset)
        distance = metrics.kid(embed_all(embed, drawn), embedded)
        squares = torch.nn.functional.mse_loss(evaluation.to_unit(drawn), true).item()
        size = models[name].stat().st_size / 1e6
        costs[name] = Cost(ms[name], size, squares, distance.value, distance.error)
    return costs


class _Eyes:
    """Eyes as the calibration asks for them: one by one, because it takes no batches of two sizes."""

    def __init__(self, eyes_NHWC: Image) -> None:
        self.eyes: Iterator[Image] = iter(eyes_NHWC)

    def get_next(self) -> dict[str, Image] | None:
        """The next one, None behind the last."""
        eye = next(self.eyes, None)
        return None if eye is None else {"eyes": eye[None]}


def _time_in_turns(models: Mapping[str, Synthesizer], eyes_NHWC: Image) -> dict[str, float]:
    """Median CPU milliseconds of one face each, so that what else the machine does is shared evenly."""
    times: dict[str, list[float]] = {name: [] for name in models}
    for i in range(NUM_TIMED):
        for name, synthesizer in models.items():
            since = time.process_time()
            synthesizer(eyes_NHWC[i % len(eyes_NHWC)][None])
            times[name].append((time.process_time() - since) * 1000)
    return {name: float(np.median(each)) for name, each in times.items()}
