"""ONNX Runtime sessions on the CPU or on CUDA; the only module of the service that knows ONNX Runtime.

ONNX Runtime's exceptions share no class but `Exception`: only this module translates them.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from service.errors import (
    DeviceUnavailable,
    InferenceFailed,
    ModelContractUnknown,
    ModelError,
    RuntimeMissing,
)
from service.inference.model_files import read_model

Device = Literal["cpu", "cuda"]

_MAX_MESSAGE = 500
"""Characters of a message: it may name parts of the model, whose names may have any length."""

_TYPES: dict[str, type[np.generic]] = {"tensor(uint8)": np.uint8, "tensor(float)": np.float32}

_CUDA, _CPU = "CUDAExecutionProvider", "CPUExecutionProvider"


class Session:
    """An opened ONNX model on one device; may be shared by threads.

    `inputs` and `outputs` have `name`, `type` and `shape`.
    """

    def __init__(self, session: Any, device: Device) -> None:
        self.inputs: list[Any] = session.get_inputs()
        self.outputs: list[Any] = session.get_outputs()
        self.device = device
        self._session = session

    def run(self, outputs: Sequence[str], inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """The outputs of these names.

        Raises:
            InferenceFailed: ONNX Runtime could not run the model.
        """
        with _translate_errors(
            InferenceFailed,
            f"The model failed on the {self.device} ({{problem}}). Send the photo again; if that fails too, "
            "tell the service's operator the request id.",
        ):
            results: list[NDArray[Any]] = self._session.run(outputs, inputs)
        return results


def open_cpu_session(
    model: Path | bytes, *, num_threads: int, name: object = "The embedded model"
) -> Session:
    """The model in a file, or of these bytes and this name, on the CPU.

    Raises:
        RuntimeMissing: ONNX Runtime is not installed.
        ModelNotFound: there is no such file.
        ModelContractUnknown: it is no ONNX model.
    """
    runtime = _import_onnxruntime()
    if isinstance(model, Path):
        model, name = read_model(model), model
    with _translate_errors(
        ModelContractUnknown,
        f"{name} cannot be loaded as an ONNX model: {{problem}}. "
        "Expected a file written by `python -m training export`; copy or export it again.",
    ):
        return Session(_open(runtime, model, _options(runtime, num_threads), [_CPU]), "cpu")


def has_cuda() -> bool:
    """Whether this build of ONNX Runtime supports CUDA; whether the machine has a GPU is another question."""
    return _CUDA in _import_onnxruntime().get_available_providers()


def open_cuda_session(model: bytes) -> Session:
    """The model on the GPU alone, run once: by default ONNX Runtime falls back to the CPU with a warning.

    Raises:
        RuntimeMissing: ONNX Runtime is not installed.
        DeviceUnavailable: it has no CUDA, or the model does not run there.
    """
    what_to_do = (
        "Install '.[gpu]' and NVIDIA's driver 580 or newer, or '.[gpu-cuda12]' and driver 525 or "
        "newer, or ask for device cpu or auto."
    )
    if not has_cuda():
        raise DeviceUnavailable(f"This build of ONNX Runtime has no CUDA. {what_to_do}")
    runtime = _import_onnxruntime()
    options = _options(runtime, num_threads=1)
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    # EXHAUSTIVE, the default, makes the first run of every new batch size slow by hundreds of milliseconds.
    cuda = {"cudnn_conv_algo_search": "HEURISTIC", "arena_extend_strategy": "kSameAsRequested"}
    with _translate_errors(DeviceUnavailable, f"The model does not run on CUDA: {{problem}}. {what_to_do}"):
        runtime.preload_dlls()
        session = _open(runtime, model, options, [(_CUDA, cuda)])
        zeros = {
            each.name: np.zeros((1, *each.shape[1:]), _TYPES[each.type]) for each in session.get_inputs()
        }
        session.run(None, zeros)
    if session.get_providers()[0] != _CUDA:
        raise DeviceUnavailable(f"ONNX Runtime chose {session.get_providers()[0]}, not CUDA. {what_to_do}")
    return Session(session, "cuda")


def first_line(error: BaseException | None) -> str:
    """The first line of ONNX Runtime's message; the rest names its source files."""
    return str(error).strip().split("\n")[0].rstrip(".")[:_MAX_MESSAGE]


def _import_onnxruntime() -> ModuleType:
    try:
        import onnxruntime
    except ImportError as error:
        raise RuntimeMissing(
            "ONNX Runtime is not installed: run pip install '.[cpu]' in the checkout, "
            "or pip install '.[gpu]' on a machine with an NVIDIA GPU."
        ) from error
    module: ModuleType = onnxruntime
    return module


def _open(runtime: ModuleType, model: bytes, options: Any, providers: list[Any]) -> Any:
    session = runtime.InferenceSession(model, options, providers)
    session._model_bytes = None  # ONNX Runtime keeps them for a change of the device
    return session


def _options(runtime: ModuleType, num_threads: int) -> Any:
    options = runtime.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors; they are raised anyway
    # Memory patterns keep a block per thread and input size: some 20 MB more where an eye finder meets many
    # sizes. They spare a hundredth of a finder's time at most, and none of a served photo's.
    options.enable_mem_pattern = False
    # Threads that spin while they wait take the cores from their neighbors: 22 ms a call instead of 13.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


@contextmanager
def _translate_errors(kind: type[ModelError], message: str) -> Iterator[None]:
    """Raises ONNX Runtime's errors as `kind`; `{problem}` in the message is what ONNX Runtime said."""
    try:
        yield
    except _runtime_errors() as error:
        raise kind(message.format(problem=first_line(error))) from error


@cache
def _runtime_errors() -> tuple[type[Exception], ...]:
    """Every class that ONNX Runtime's binding defines, and those that pybind11 makes of other C++ errors."""
    from onnxruntime.capi import onnxruntime_pybind11_state as binding

    classes = [each for each in vars(binding).values() if isinstance(each, type)]
    return (*(each for each in classes if issubclass(each, Exception)), RuntimeError, ValueError, MemoryError)
