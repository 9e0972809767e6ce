"""Triton Inference Server with its Python backend, by the binaries that nvidia-pytriton brings.

BENCH_TUNED=0: one model that does the whole job, photo by photo, in one process. Tuned: for the stand-in an
ensemble of crops in as many processes as cores, a model that is given batches, and PNG; for the CPU model the
whole workload in as many processes as cores, and batches of 4.
"""

import os
import signal
import site
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Final

from bench.servers import ROOT
from service.inference.model_files import model_path
from service.inference.synthesizer import Synthesizer
from service.settings import Settings
from service.system.host import count_cores

TRITON: Final = Path(sys.prefix) / "triton"
"""Its package and NumPy 1, for which its Python backend is compiled: of NumPy 2 it reads garbage."""

STANDIN = os.environ.get("BENCH_MODEL") == "standin"
TUNED = os.environ.get("BENCH_TUNED") == "1"

_OPTIONS: Final = ("--log-info=false", "--log-warning=false", "--exit-timeout-secs=1")
_ONLY_HTTP: Final = ("--allow-grpc=false", "--allow-metrics=false", "--http-address=127.0.0.1")

_PHOTO: Final = '{ name: "photo" data_type: TYPE_UINT8 dims: [-1] }'
_FACE: Final = 'output [{ name: "face" data_type: TYPE_STRING dims: [1] }]\n'
_CROP: Final = '{ name: "crop" data_type: TYPE_STRING dims: [1] }'
"""Where the eye was, for the PNG's metadata: a pickled `EyeCrop`."""

_STEPS: Final = """platform: "ensemble"
ensemble_scheduling { step [
  { model_name: "crop" model_version: -1
    input_map { key: "photo" value: "photo" }
    output_map [{ key: "eye" value: "eye" }, { key: "crop" value: "crop" }] },
  { model_name: "draw" model_version: -1
    input_map { key: "eye" value: "eye" } output_map { key: "pixels" value: "pixels" } },
  { model_name: "encode" model_version: -1
    input_map [{ key: "pixels" value: "pixels" }, { key: "crop" value: "crop" }]
    output_map { key: "face" value: "face" } }
] }
"""


def write_repository(folder: Path) -> None:
    """The models and how each is run, as Triton's documentation wants its model repository."""
    if not TUNED:
        _write(folder, "faces", "Whole", 1, f"input [{_PHOTO}]\n{_FACE}")
        return
    if not STANDIN:
        ragged = _PHOTO.replace(" }", " allow_ragged_batch: true }")
        told = f"input [{ragged}]\n{_FACE}dynamic_batching {{ preferred_batch_size: [4] }}\n"
        _write(folder, "faces", "Whole", count_cores(), told, max_batch_size=4)
        return
    info = Synthesizer.load(model_path(Settings().model), device="cpu").info
    eye = f'{{ name: "eye" data_type: TYPE_UINT8 dims: [{info.eye_size}, {info.eye_size}, 3] }}'
    pixels = f'{{ name: "pixels" data_type: TYPE_UINT8 dims: [{info.face_size}, {info.face_size}, 3] }}'
    _write(folder, "crop", "Crop", count_cores(), f"input [{_PHOTO}]\noutput [{eye}, {_CROP}]\n")
    _write(folder, "draw", "Draw", 1, f"input [{eye}]\noutput [{pixels}]\ndynamic_batching {{}}\n")
    _write(folder, "encode", "Encode", 1, f"input [{pixels}, {_CROP}]\n{_FACE}")
    _write(folder, "faces", None, 0, f"input [{_PHOTO}]\n{_FACE}{_STEPS}")


def _write(
    folder: Path, name: str, step: str | None, num_processes: int, told: str, *, max_batch_size: int = 32
) -> None:
    config = f'name: "{name}"\nmax_batch_size: {max_batch_size}\n{told}'
    version = folder / name / "1"
    version.mkdir(parents=True)
    if step is not None:
        config += f'backend: "python"\ninstance_group [{{ count: {num_processes} kind: KIND_CPU }}]\n'
        paths = [str(TRITON), str(ROOT), *site.getsitepackages()]  # PYTHONPATH is not heard there
        (version / "model.py").write_text(
            f"import sys\n\nsys.path[:0] = {paths!r}\n"
            f"from bench.peers.triton_steps import {step} as TritonPythonModel  # noqa\n"
        )
    (folder / name / "config.pbtxt").write_text(config)


def link_backend(folder: Path, installed: Path) -> None:
    """The Python backend with the program that belongs to this Python, as pytriton itself lays it out."""
    backend = folder / "python"
    backend.mkdir(parents=True)
    stub = (
        installed / "python_backend_stubs" / f"{sys.version_info.major}.{sys.version_info.minor}"
    ) / "triton_python_backend_stub"
    for path in [*(installed / "backends" / "python").iterdir(), stub]:
        (backend / path.name).symlink_to(path)


def main() -> int:
    """Serves until it is ended; returns Triton's exit status."""
    package = TRITON / "pytriton"
    if not package.exists():
        print("nvidia-pytriton is not installed", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder:
        write_repository(Path(folder, "models"))
        link_backend(Path(folder, "backends"), package / "tritonserver")
        command = [
            str(package / "tritonserver" / "bin" / "tritonserver"), *_OPTIONS, *_ONLY_HTTP,
            "--http-port", os.environ["BENCH_PORT"], "--model-repository", f"{folder}/models",
            "--backend-directory", f"{folder}/backends",
        ]  # fmt: skip
        libraries = [str(TRITON / "nvidia_pytriton.libs"), sysconfig.get_config_var("LIBDIR")]
        triton = subprocess.Popen(command, env=os.environ | {"LD_LIBRARY_PATH": os.pathsep.join(libraries)})
        signal.signal(signal.SIGTERM, lambda *_: triton.terminate())
        return triton.wait()


if __name__ == "__main__":
    sys.exit(main())
