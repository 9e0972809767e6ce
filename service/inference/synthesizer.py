"""The synthesizer: an ONNX model that draws faces from eyes, its metadata checked before its first run.

Letters of shapes: B batch, H height, W width, C = 3 colours.
"""

import hashlib
import json
import logging
import time
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, Self

import numpy as np

from service.errors import DeviceUnavailable, InferenceFailed, ModelContractUnknown
from service.inference.session import Session, first_line, has_cuda, open_cpu_session, open_cuda_session
from service.vision.eyes import CROP_VERSION
from service.vision.images import Image

CONTRACT_VERSION = 1
"""Names, types and shapes of the model's input and output, and the keys of its metadata."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What the model file says of itself, in its metadata, and the SHA-256 of the file."""

    name: str
    version: str
    contract_version: int
    crop_version: int
    part: str
    eye_size: int
    face_size: int
    recipe: str
    objective: str
    training_data: str
    licence_class: str
    commit: str
    date: str
    metrics: dict[str, float]
    sha256: str


@dataclass(frozen=True, slots=True)
class ModelRun:
    """One run of the model: when it ended by the monotonic clock, how long it took, why it failed.

    `num_failed` runs in a row have failed, this one the last of them.
    """

    at: float
    ms: float
    error: str | None
    num_failed: int = 0


class Synthesizer:
    """Draws faces from eyes; may be shared by threads."""

    def __init__(self, session: Session, info: ModelInfo) -> None:
        self.info = info
        self.device = session.device
        self._session = session
        self.last_run = ModelRun(time.monotonic(), 0.0, None)
        self(np.zeros((1, info.eye_size, info.eye_size, 3), np.uint8))  # the first run is slower: done here

    @classmethod
    def load(
        cls,
        path: Path,
        *,
        device: Literal["auto", "cpu", "cuda"] = "auto",
        num_threads: int = 1,
        part: str = "eye",
    ) -> Self:
        """The model in `path`, checked and run once.

        `auto` is the GPU where ONNX Runtime has one, else the CPU; `cuda` is the GPU or an error.
        `num_threads` is for one call; with several calls at once 1 is best. `part` is what of the face
        it will be shown; the service finds eyes, only training has models of the mouth or the nose.

        Raises:
            RuntimeMissing: ONNX Runtime is not installed.
            ModelNotFound: there is no such file.
            ModelContractUnknown: it is not a model that this service knows how to use.
            DeviceUnavailable: the model does not run on the GPU that was asked for.
        """
        session = open_cpu_session(path, num_threads=num_threads)
        info = _read_info(session, path, part)
        if device == "cuda" or (device == "auto" and has_cuda()):
            try:
                session = open_cuda_session(path)
            except DeviceUnavailable as error:
                if device == "cuda":
                    raise
                _log.warning("running on the CPU: %s", error)
        return cls(session, info)

    def __call__(self, eyes_BHWC: Image) -> Image:
        """Faces B x F x F x 3 uint8 RGB from upright right eyes B x S x S x 3 uint8 RGB.

        Raises:
            InferenceFailed: ONNX Runtime could not run the model.
        """
        begin = time.monotonic()
        problem, num_failed = None, 0
        try:
            (faces_BHWC,) = self._session.run(["faces"], {"eyes": eyes_BHWC})
        except InferenceFailed as error:
            problem, num_failed = first_line(error.__cause__), self.last_run.num_failed + 1
            raise
        finally:
            end = time.monotonic()
            self.last_run = ModelRun(end, (end - begin) * 1000, problem, num_failed)
        return np.asarray(faces_BHWC, dtype=np.uint8)


def read_model_info(path: Path) -> ModelInfo:
    """What the model in `path` says of itself, if it can be used here.

    Raises:
        RuntimeMissing, ModelNotFound, ModelContractUnknown: it cannot.
    """
    return _read_info(open_cpu_session(path, num_threads=1), path, "eye")


def _read_info(session: Session, path: Path, part: str) -> ModelInfo:
    """The metadata of the model, if it is of the contract that this service knows."""
    metadata = session.metadata
    _expect(path, "contract version", metadata.get("contract_version", "none"), str(CONTRACT_VERSION))
    missing = sorted({field.name for field in fields(ModelInfo)} - {"sha256"} - metadata.keys())
    _expect(path, "missing metadata", ", ".join(missing) or "nothing", "nothing")
    _expect(path, "crop version", metadata["crop_version"], str(CROP_VERSION))
    if metadata["part"] != part:
        raise ModelContractUnknown(
            f"{path} draws faces from the part '{metadata['part']}'; expected one that draws them from the "
            f"part '{part}'. Name another model."
        )
    try:
        info = _parse_info(metadata, hashlib.sha256(path.read_bytes()).hexdigest())
    except (TypeError, ValueError) as error:
        raise _unknown(path, f"metadata that does not parse ({error})", "whole numbers and JSON") from error
    for kind, values, name, side in (
        ("input", session.inputs, "eyes", info.eye_size),
        ("output", session.outputs, "faces", info.face_size),
    ):
        found = [f"{value.name} {value.type} {value.shape[1:]}" for value in values]
        _expect(path, kind, "; ".join(found), f"{name} tensor(uint8) [{side}, {side}, 3]")
        _expect(path, f"batch size of its {kind}", _batch(values[0].shape[0]), "any")
    return info


def _parse_info(metadata: dict[str, str], sha256: str) -> ModelInfo:
    return ModelInfo(
        name=metadata["name"],
        version=metadata["version"],
        contract_version=int(metadata["contract_version"]),
        crop_version=int(metadata["crop_version"]),
        part=metadata["part"],
        eye_size=int(metadata["eye_size"]),
        face_size=int(metadata["face_size"]),
        recipe=metadata["recipe"],
        objective=metadata["objective"],
        training_data=metadata["training_data"],
        licence_class=metadata["licence_class"],
        commit=metadata["commit"],
        date=metadata["date"],
        metrics={str(name): float(value) for name, value in dict(json.loads(metadata["metrics"])).items()},
        sha256=sha256,
    )


def _batch(size: int | str | None) -> str:
    return str(size) if isinstance(size, int) else "any"


def _expect(path: Path, what: str, found: str, expected: str) -> None:
    if found != expected:
        raise _unknown(path, f"{what} {found}", expected)


def _unknown(path: Path, found: str, expected: str) -> ModelContractUnknown:
    return ModelContractUnknown(
        f"{path} has {found}; this service expects {expected}. "
        "Export the model again with the same version of the project, or install the service that fits it."
    )
