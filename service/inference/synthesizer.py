"""The synthesizer: an ONNX model that draws faces from eyes, its metadata checked before its first run.

Letters of shapes: B batch, H height, W width, C = 3 colors.
"""

import hashlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np

from service.errors import DeviceUnavailable, InferenceFailed, ModelContractUnknown
from service.inference.model_files import read_model
from service.inference.onnx_metadata import Metrics, SidePx, Text, expect, parse_metadata, read_metadata
from service.inference.session import Session, first_line, has_cuda, open_cpu_session, open_cuda_session
from service.vision.eyes import CROP_VERSION
from service.vision.images import Image

CONTRACT_VERSION = 1
"""Version of the names, types and shapes of the model's input and output, and of its metadata."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """The metadata of a model file, and the SHA-256 of the file."""

    name: Text
    version: Text
    contract_version: int
    crop_version: int
    part: Text
    eye_size: SidePx
    face_size: SidePx
    recipe: Text
    objective: Text
    training_data: Text
    licence_class: Text
    commit: Text
    date: Text
    metrics: Metrics
    sha256: str
    face_frame_version: int = 1


@dataclass(frozen=True, slots=True)
class ModelRun:
    """One run of the model; `ended_at` is of the monotonic clock, `num_failed` counts failures in a row."""

    ended_at: float
    ms: float
    error: str | None
    num_failed: int = 0


class Synthesizer:
    """The model that draws faces from eyes; may be shared by threads."""

    def __init__(self, session: Session, info: ModelInfo) -> None:
        self.info = info
        self.device = session.device
        self._session = session
        self.last_run = ModelRun(time.monotonic(), 0.0, None)
        self.observe: Callable[[int], object] | None = None
        """Called with the number of eyes of each call."""
        self(np.zeros((1, info.eye_size, info.eye_size, 3), np.uint8))  # warm-up

    @classmethod
    def load(
        cls,
        path: Path,
        *,
        content: bytes | None = None,
        device: Literal["auto", "cpu", "cuda"] = "auto",
        num_threads: int = 1,
        part: str = "eye",
    ) -> Self:
        """The model in `path`, or of the content that was read from there, checked and run once.

        `auto` is the GPU where the model runs there, else the CPU. `num_threads` is for one call on the CPU;
        with several calls at once 1 is best. `part` is the part of the face in its input: training also has
        models of the mouth and the nose.

        Raises:
            RuntimeMissing: ONNX Runtime is not installed.
            ModelNotFound: there is no such file.
            ModelContractUnknown: it is not a model that this service knows how to use.
            DeviceUnavailable: the model does not run on the GPU that was asked for.
        """
        content = read_model(path) if content is None else content
        session = open_cpu_session(content, num_threads=num_threads, name=path)
        info = _read_info(content, path, part)
        _check_tensors(session, info, path)
        if device == "cuda" or (device == "auto" and has_cuda()):
            try:
                session = open_cuda_session(content)
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
        if self.observe is not None:
            self.observe(len(eyes_BHWC))
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
    """The metadata of the synthesizer in `path`, which is not loaded.

    Raises:
        ModelNotFound, ModelContractUnknown: it cannot be used here.
    """
    return _read_info(read_model(path), path, "eye")


def _read_info(content: bytes, path: Path, part: str) -> ModelInfo:
    """The metadata of the model, if it is of the contract that this service knows."""
    metadata = read_metadata(content, path)
    expect(path, "contract version", metadata.get("contract_version", "none"), str(CONTRACT_VERSION))
    expect(path, "crop version", metadata.get("crop_version", "none"), str(CROP_VERSION))
    if metadata.get("part") != part:
        raise ModelContractUnknown(
            f"{path} draws faces from the part '{str(metadata.get('part'))[:50]}'; expected one that draws "
            f"them from the part '{part}'. Name another model."
        )
    return parse_metadata(metadata, path, ModelInfo, sha256=hashlib.sha256(content).hexdigest())


def _check_tensors(session: Session, info: ModelInfo, path: Path) -> None:
    for kind, tensors, name, side in (
        ("input", session.inputs, "eyes", info.eye_size),
        ("output", session.outputs, "faces", info.face_size),
    ):
        found = [f"{each.name} {each.type} {each.shape[1:]}" for each in tensors]
        expect(path, kind, "; ".join(found), f"{name} tensor(uint8) [{side}, {side}, 3]")
        size = tensors[0].shape[0]
        expect(path, f"batch size of its {kind}", str(size) if isinstance(size, int) else "any", "any")
