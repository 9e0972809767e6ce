"""The autoencoder as an ONNX Runtime session: checks the file's contract and says truly where it runs.

Letters of shapes: B batch, H height, W width, C = 3 colours. Knows nothing of photos or HTTP.
"""

import hashlib
import json
import logging
import time
from dataclasses import dataclass, fields
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, Self

import numpy as np

from service.errors import (
    DeviceUnavailable,
    InferenceFailed,
    ModelContractUnknown,
    ModelNotFound,
    RuntimeMissing,
)
from service.vision.eyes import CROP_VERSION, Image

CONTRACT_VERSION = 1
"""Names, types and shapes of the model's input and output, and the keys of its metadata."""

Device = Literal["cpu", "cuda"]

_KEY_PREFIX = "eye2face."
_CUDA, _CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
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

    def __init__(self, session: Any, info: ModelInfo, device: Device) -> None:
        self.info = info
        self.device = device
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
        runtime = _import_onnxruntime()
        info = _read_info(session, path, part)
        chosen: Device = "cpu"
        if device == "cuda" or (device == "auto" and _CUDA in runtime.get_available_providers()):
            try:
                session, chosen = _open_cuda_session(runtime, path), "cuda"
            except DeviceUnavailable as error:
                if device == "cuda":
                    raise
                _log.warning("running on the CPU: %s", error)
        return cls(session, info, chosen)

    def __call__(self, eyes_BHWC: Image) -> Image:
        """Faces B x F x F x 3 uint8 RGB from upright right eyes B x S x S x 3 uint8 RGB.

        Raises:
            InferenceFailed: ONNX Runtime could not run the model.
        """
        begin = time.monotonic()
        problem: str | None = "it was interrupted"
        try:
            (faces_BHWC,) = self._session.run(["faces"], {"eyes": eyes_BHWC})
            problem = None
        except Exception as error:  # ONNX Runtime's errors share no class but Exception
            problem = _first_line(error)
            raise InferenceFailed(
                f"The model failed on the {self.device} ({problem}). Send the photo again; if that fails "
                "too, tell the service's operator the request id."
            ) from error
        finally:
            end = time.monotonic()
            num_failed = 0 if problem is None else self.last_run.num_failed + 1
            self.last_run = ModelRun(end, (end - begin) * 1000, problem, num_failed)
        return np.asarray(faces_BHWC, dtype=np.uint8)


def open_cpu_session(path: Path, *, num_threads: int) -> Any:
    """An ONNX Runtime session of the model in `path`, on the CPU.

    Raises:
        RuntimeMissing: ONNX Runtime is not installed.
        ModelNotFound: there is no such file.
        ModelContractUnknown: it is no ONNX model.
    """
    runtime = _import_onnxruntime()
    if not path.is_file():
        raise ModelNotFound(f"There is no model file {path}. Give the path of an ONNX file.")
    return _open_session(runtime, path, num_threads)


def open_bytes_on_cpu(data: bytes, *, num_threads: int) -> Any:
    """An ONNX Runtime session of a model that lies within another's file.

    Raises:
        RuntimeMissing: ONNX Runtime is not installed.
        ValueError: the bytes are no ONNX model.
    """
    runtime = _import_onnxruntime()
    try:
        return runtime.InferenceSession(data, _options(runtime, num_threads), [_CPU])
    except Exception as error:  # ONNX Runtime's errors share no class but Exception
        raise ValueError(_first_line(error)) from error


def read_model_info(path: Path) -> ModelInfo:
    """What the model in `path` says of itself, if it can be used here.

    Raises:
        RuntimeMissing, ModelNotFound, ModelContractUnknown: it cannot.
    """
    return _read_info(open_cpu_session(path, num_threads=1), path, "eye")


def model_path(name_or_path: str, mounted: Path | None = None) -> Path:
    """The file of a mounted or shipped model by its name, or the path itself if it is one.

    Raises:
        ModelNotFound: no such file; the message lists the models that are there.
    """
    given = Path(name_or_path)
    if given.suffix == ".onnx" or len(given.parts) > 1:
        if given.is_file():
            return given
    else:
        for path, _ in list_models(mounted):
            if path.stem == name_or_path:
                return path
    names = sorted({path.stem for path, _ in list_models(mounted)})
    raise ModelNotFound(
        f"There is no model '{name_or_path}'. Found here: {', '.join(names) or 'none'}. "
        "Give one of these names or the path of an ONNX file."
    )


def list_models(mounted: Path | None = None) -> list[tuple[Path, bool]]:
    """Every model file and whether it is a mounted one; those go before shipped ones of the same name.

    Raises:
        ModelNotFound: the folder of mounted models is not there.
    """
    if mounted is not None and not mounted.is_dir():
        raise ModelNotFound(
            f"{mounted}, the folder of mounted models, is not there. Mount it, or unset EYE2FACE_MODELS_DIR."
        )
    folders = [(mounted, True)] if mounted else []
    folders += [(folder, False) for folder in _model_folders()]
    return [(path, is_mounted) for folder, is_mounted in folders for path in sorted(folder.glob("*.onnx"))]


def _model_folders() -> tuple[Path, Path]:
    """Where models are shipped: beside the installed package, or in the root of the repository."""
    package = Path(__file__).parents[1]
    return package / "models", package.parent / "models"


def _import_onnxruntime() -> ModuleType:
    try:
        import onnxruntime
    except ImportError as error:
        raise RuntimeMissing(
            "ONNX Runtime is not installed: run pip install 'eye2face[cpu]', "
            "or pip install 'eye2face[gpu]' on a machine with an NVIDIA GPU."
        ) from error
    module: ModuleType = onnxruntime
    return module


def _open_session(runtime: ModuleType, path: Path, num_threads: int) -> Any:
    try:
        return runtime.InferenceSession(str(path), _options(runtime, num_threads), [_CPU])
    except Exception as error:  # ONNX Runtime's errors share no class but Exception
        raise ModelContractUnknown(
            f"{path} cannot be loaded as an ONNX model: {_first_line(error)}. "
            "Expected a file written by `python -m training export`; copy or export it again."
        ) from error


def _open_cuda_session(runtime: ModuleType, path: Path) -> Any:
    """A session that runs on the GPU alone: by itself ONNX Runtime falls back to the CPU and only warns."""
    what_to_do = "Install 'eye2face[gpu]' and an NVIDIA driver for CUDA 13, or ask for device cpu or auto."
    if _CUDA not in runtime.get_available_providers():
        raise DeviceUnavailable(f"This build of ONNX Runtime has no CUDA. {what_to_do}")
    options = _options(runtime, num_threads=1)
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    # EXHAUSTIVE, the default, makes the first run of every new batch size slow by hundreds of milliseconds.
    cuda = {"cudnn_conv_algo_search": "HEURISTIC", "arena_extend_strategy": "kSameAsRequested"}
    try:
        runtime.preload_dlls()
        session = runtime.InferenceSession(str(path), options, [(_CUDA, cuda)])
        (eyes,) = session.get_inputs()
        session.run(None, {eyes.name: np.zeros((1, *eyes.shape[1:]), np.uint8)})
    except Exception as error:  # as above
        raise DeviceUnavailable(
            f"The model does not run on CUDA: {_first_line(error)}. {what_to_do}"
        ) from error
    if session.get_providers()[0] != _CUDA:
        raise DeviceUnavailable(f"ONNX Runtime chose {session.get_providers()[0]}, not CUDA. {what_to_do}")
    return session


def _options(runtime: ModuleType, num_threads: int) -> Any:
    options = runtime.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors; they are raised anyway
    # With it every thread at work has a block for each size of picture: where a finder meets many sizes, some
    # 20 MB more. It spares a hundredth of a finder's time at most, and none of a served photo's.
    options.enable_mem_pattern = False
    # Threads that spin while they wait take the cores from their neighbours: 22 ms a call instead of 13.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0].rstrip(".")


def _read_info(session: Any, path: Path, part: str) -> ModelInfo:
    """The metadata of the model, if it is of the contract that this service knows."""
    metadata = {
        key.removeprefix(_KEY_PREFIX): value
        for key, value in session.get_modelmeta().custom_metadata_map.items()
    }
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
        ("input", session.get_inputs(), "eyes", info.eye_size),
        ("output", session.get_outputs(), "faces", info.face_size),
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
