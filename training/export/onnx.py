"""Export of a run to the ONNX file that the service runs, checked against torch on real crops.

The file is the whole contract: `eyes` uint8 [batch, S, S, 3] and `noise` float32 [batch, E] in, `faces`
uint8 [batch, F, F, 3] and `certainty` float32 [batch] out; pictures are RGB, scaling is inside the graph,
metadata in its properties. Noise of zeros gives the default face, standard normal noise another guess.
"""

import json
import logging
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from service.inference.onnx_metadata import LicenceClass
from service.inference.synthesizer import Synthesizer
from service.vision.eyes import CROP_VERSION
from service.vision.images import Image
from training.data.files import write_atomically
from training.data.licences import check_licence_class
from training.data.store import Pairs
from training.errors import ExportError
from training.export.polyphase import to_polyphase
from training.synthesizer.autoencoder import Autoencoder, ModelConfig
from training.synthesizer.guesses import GuessSampler, fit_guesses
from training.synthesizer.weights import SUFFIX, describe_weights, load_weights, save_weights

CONTRACT_VERSION = 2
OPSET = 18

MAX_DIFFERENCE = 1
"""How far ONNX Runtime may be from torch, in levels of 255."""

NUM_CHECKED = 128
"""Photos whose eyes are drawn by both."""

SMALLEST_HALVED = 1024
"""Weights of fewer numbers (biases) stay float32: they take no room."""


class ServedAutoencoder(nn.Module):
    """The autoencoder and its guesses, with the service's scaling around them."""

    def __init__(self, autoencoder: Autoencoder, guesses: GuessSampler) -> None:
        super().__init__()
        self.autoencoder, self.guesses = autoencoder, guesses

    def forward(self, eyes_BHWC: Tensor, noise_BE: Tensor) -> tuple[Tensor, Tensor]:
        """Faces B x F x F x 3 uint8 from eyes B x S x S x 3 uint8, and each eye's certainty."""
        eyes = eyes_BHWC.permute(0, 3, 1, 2).float() / 255
        vectors, certainty_B = self.guesses(self.autoencoder.encode(eyes), noise_BE, eyes)
        faces = self.autoencoder.decode(vectors)
        return (faces * 255).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1), certainty_B


def export(  # noqa: PLR0913  each is a choice of its own
    run: Path, path: Path, pairs: Pairs, *, licence_class: LicenceClass, version: str = "1",
    metrics: Mapping[str, float] | None = None, half: bool = True,
) -> int:  # fmt: skip
    """Writes the run's averaged model to `path` and returns the largest difference to torch, in levels.

    The distribution of its guesses is fitted to the `train` split of the pairs; eyes of all splits are
    drawn to check. Beside the file goes a safetensors file of the weights, which `train --start-from` takes.
    With `half` the large weights are stored as float16 (the arithmetic stays float32).

    Raises:
        DataError: the run saw photos that do not allow this license class.
        ExportError: more than one level, or the model wants both eyes, which the contract does not know;
            nothing is written.
    """
    described = describe_weights(run)
    check_licence_class(licence_class, _licences(described), model=str(run))
    average = load_weights(run)
    if average.config.num_eyes != 1:
        raise ExportError(f"{run} draws from {average.config.num_eyes} eyes, a served model from one")
    guesses = fit_guesses(average, pairs)
    served = ServedAutoencoder(to_polyphase(average), guesses)
    rows = np.linspace(0, len(pairs.eyes) - 1, min(NUM_CHECKED, len(pairs.eyes))).astype(int)
    eyes_BHWC = np.concatenate(list(pairs.eyes[rows].swapaxes(0, 1)))
    examples = torch.from_numpy(eyes_BHWC[:2].copy()), torch.randn(2, average.config.vector_size)
    batch = {0: torch.export.Dim("batch")}
    model = to_onnx(
        served, examples, inputs=("eyes", "noise"), outputs=("faces", "certainty"), shapes=(batch, batch)
    )
    if half:
        store_as_float16(model)
    facts = _facts(described, average.config)
    facts |= {"name": path.stem, "version": version, "licence_class": licence_class}
    write_metadata(model, facts, metrics or {})
    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder) / "draft.onnx"
        onnx.save(model, draft)
        difference = difference_to_torch(draft, ServedAutoencoder(average, guesses), eyes_BHWC, pairs.part)
    if difference > MAX_DIFFERENCE:
        raise ExportError(
            f"ONNX Runtime and torch differ by {difference} of 255, at most {MAX_DIFFERENCE} is allowed"
            + ("; try --float32" if half else "")
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    save_weights(path.with_suffix(SUFFIX), average, described)
    write_atomically(path, lambda file: file.write(model.SerializeToString()))
    return difference


def to_onnx(
    module: nn.Module, examples: tuple[Tensor, ...], *, inputs: Sequence[str], outputs: Sequence[str],
    shapes: tuple[Mapping[int, Any], ...],
) -> onnx.ModelProto:  # fmt: skip
    """The graph of a module, with the dynamic shapes of its inputs."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it warns that torchvision is not installed
    with warnings.catch_warnings(action="ignore"):
        program = torch.onnx.export(
            module.eval(), examples, input_names=inputs, output_names=outputs, dynamic_shapes=shapes,
            opset_version=OPSET, dynamo=True, verbose=False,
        )  # fmt: skip
    assert program is not None
    model: onnx.ModelProto = program.model_proto
    for node in model.graph.node:  # where in whose folder each was made: a seventh of a small file
        del node.metadata_props[:]
    return model


@torch.no_grad()
def difference_to_torch(path: Path, model: ServedAutoencoder, eyes_BHWC: Image, part: str = "eye") -> int:
    """The largest difference of a pixel between the file in ONNX Runtime and the model in torch.

    Of the eyes' default faces, and of a guess of each.
    """
    synthesizer = Synthesizer.load(path, device="cpu", num_threads=1, part=part)
    shape = len(eyes_BHWC), synthesizer.info.noise_size
    guess_BE = np.random.default_rng(0).standard_normal(shape, np.float32)
    differences = []
    for noise_BE in (0 * guess_BE, guess_BE):
        faces, _ = model(torch.from_numpy(np.ascontiguousarray(eyes_BHWC)), torch.from_numpy(noise_BE))
        exported, _ = synthesizer.draw(eyes_BHWC, noise_BE)
        differences.append(np.abs(exported.astype(np.int16) - faces.numpy()).max())
    return int(max(differences))


def store_as_float16(model: onnx.ModelProto) -> None:
    """Stores large float32 weights as float16 behind a Cast, which ONNX Runtime folds at load."""
    graph = model.graph
    casts = []
    for tensor in graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) < SMALLEST_HALVED:
            continue
        name = tensor.name
        halved = numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), f"{name}.float16")
        tensor.CopyFrom(halved)
        casts.append(helper.make_node("Cast", [halved.name], [name], to=TensorProto.FLOAT))
    nodes = list(graph.node)
    del graph.node[:]
    graph.node.extend([*casts, *nodes])


def write_metadata(model: onnx.ModelProto, facts: Mapping[str, object], metrics: Mapping[str, float]) -> None:
    """Sets the properties that the service reads, today's date among them, and checks the whole model."""
    written = {**facts, "date": datetime.now(UTC).date().isoformat(), "metrics": json.dumps(dict(metrics))}
    helper.set_model_props(model, {f"eye2face.{key}": str(value) for key, value in written.items()})
    onnx.checker.check_model(model, full_check=True)


def _facts(described: Mapping[str, Any], config: ModelConfig) -> dict[str, object]:
    """What the file says of the run that is described and of the sizes of its model."""
    data = described["data"]
    terms = " + ".join(f"{weight:g} {name}" for name, weight in described["objective"].items())
    licences = ", ".join(f"{count} {licence}" for licence, count in sorted(data["rows_by_licence"].items()))
    return {
        "recipe": described["recipe"]["name"],
        "objective": f"{described['recipe']['objective']}: {terms}",
        "training_data": f"{data['settings']['source']} (faces by licence, all splits: {licences})",
        "commit": described["commit"],
        "part": data["settings"]["part"],
        "face_frame_version": data["settings"]["face_frame_version"],
        "contract_version": CONTRACT_VERSION,
        "crop_version": CROP_VERSION,
        "eye_size": config.eye_size,
        "noise_size": config.vector_size,
        "face_size": config.face_size,
    }


def _licences(described: Mapping[str, Any]) -> set[str]:
    """Those of the photos that a run learned from, and of what it started from."""
    found, start = set(described["data"]["rows_by_licence"]), described.get("start_from")
    return found | _licences(start) if start else found
