"""The synthesizer: an ONNX model that draws faces from eyes, its metadata checked before its first run.

Letters of shapes: B batch, G guesses, D numbers of noise, H height, W width, C = 3 colors.
"""

import hashlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from service.errors import DeviceUnavailable, InferenceFailed, ModelContractUnknown
from service.inference.model_files import read_model
from service.inference.onnx_metadata import (
    LicenceClass,
    MetricValues,
    Size,
    Text,
    expect,
    parse_metadata,
    read_metadata,
)
from service.inference.session import Session, first_line, has_cuda, open_cpu_session, open_cuda_session
from service.vision.eyes import CROP_VERSION
from service.vision.images import Image

CONTRACT_VERSION = 2
"""Version of the names, types and shapes of the model's inputs and outputs, and of its metadata."""

Floats = NDArray[np.float32]

_MAX_TOGETHER = 4
"""Eyes in one run on a CPU: each takes 2 MB of memory, and more take no less time."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """The metadata of a model file, and the SHA-256 of the file."""

    name: Text
    version: Text
    contract_version: int
    crop_version: int
    part: Text
    eye_size: Size
    face_size: Size
    noise_size: Size
    recipe: Text
    objective: Text
    training_data: Text
    licence_class: LicenceClass
    commit: Text
    date: Text
    metrics: MetricValues
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
        """Called with the number of eyes of each run."""
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
        """The default faces B x F x F x 3 uint8 RGB of upright right eyes B x S x S x 3 uint8 RGB.

        Raises:
            InferenceFailed: ONNX Runtime could not run the model.
        """
        return self.draw(eyes_BHWC, np.zeros((len(eyes_BHWC), self.info.noise_size), np.float32))[0]

    def draw(self, eyes_BHWC: Image, noise_BD: Floats) -> tuple[Image, Floats]:
        """Faces B x F x F x 3, and 0 to 1 how much each eye tells of what differs between people.

        A row of standard normal noise gives a random guess, a row of zeros the default face.

        Raises:
            InferenceFailed: as above.
        """
        most = len(eyes_BHWC) if self.device == "cuda" else _MAX_TOGETHER
        starts = range(0, len(eyes_BHWC), most)
        parts = [self._run(eyes_BHWC[at : at + most], noise_BD[at : at + most]) for at in starts]
        if len(parts) == 1:
            return parts[0]
        faces, certainty = zip(*parts, strict=True)
        return np.concatenate(faces), np.concatenate(certainty)

    def _run(self, eyes_BHWC: Image, noise_BD: Floats) -> tuple[Image, Floats]:
        if self.observe is not None:
            self.observe(len(eyes_BHWC))
        begin = time.monotonic()
        problem, num_failed = None, 0
        try:
            faces_BHWC, certainty_B = self._session.run(
                ["faces", "certainty"], {"eyes": eyes_BHWC, "noise": noise_BD}
            )
        except InferenceFailed as error:
            problem, num_failed = first_line(error.__cause__), self.last_run.num_failed + 1
            raise
        finally:
            end = time.monotonic()
            self.last_run = ModelRun(end, (end - begin) * 1000, problem, num_failed)
        return np.asarray(faces_BHWC, dtype=np.uint8), np.asarray(certainty_B, dtype=np.float32)


def guess_noise(num_guesses: int, seed: int, size: int) -> Floats:
    """The noise G x D of the guesses of an eye: the first is the default face; the seed decides the others.

    The numbers are those of NumPy's RandomState, which no version changes.
    """
    noise_GD = np.zeros((num_guesses, size), np.float32)
    if num_guesses > 1:
        random = np.random.RandomState(0)  # to seed it again takes a tenth of making another one
        for guess in range(1, num_guesses):
            random.seed([seed, guess])
            noise_GD[guess] = random.standard_normal(size)
    return noise_GD


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
    eye, face = [info.eye_size] * 2 + [3], [info.face_size] * 2 + [3]
    for kind, tensors, expected in (
        ("inputs", session.inputs, f"eyes tensor(uint8) {eye}; noise tensor(float) [{info.noise_size}]"),
        ("outputs", session.outputs, f"faces tensor(uint8) {face}; certainty tensor(float) []"),
    ):
        found = [f"{each.name} {each.type} {each.shape[1:]}" for each in tensors]
        expect(path, kind, "; ".join(found), expected)
        for each in tensors:
            size = "any" if not isinstance(each.shape[0], int) else str(each.shape[0])
            expect(path, f"batch size of '{each.name}'", size, "any")
