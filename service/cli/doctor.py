"""`eye2face doctor`: versions, sandbox, eye finder, model, device and speed, as named values."""

import platform
import statistics
import subprocess
import sys
import timeit
from collections.abc import Callable, Iterator
from dataclasses import asdict
from importlib import metadata
from pathlib import Path

import cv2
import numpy as np

from service import __version__
from service.decoding.reader import InProcessReader
from service.inference.eye_finder import LearnedEyeFinder, open_eye_finder
from service.inference.haar import HaarEyeFinder
from service.inference.model_files import model_path
from service.inference.synthesizer import Synthesizer
from service.pipeline import Pipeline
from service.selection import SynthesisOptions
from service.settings import Settings
from service.system.host import count_cores
from service.vision.eyes import EyeFinder
from service.vision.images import encode

_NUM_RUNS = 10
_SANDBOX_TIMEOUT_S = 60
_ROOT = Path(__file__).parents[2]


def examine(settings: Settings) -> Iterator[dict[str, str]]:
    """Everything, as it is found out; the verdict last.

    Raises:
        ModelError: faces cannot be drawn.
    """
    yield examine_versions()
    sandbox = examine_sandbox()
    yield sandbox
    finder = open_eye_finder(settings.eye_finder)
    yield examine_finder(settings.eye_finder, finder)
    synthesizer = Synthesizer.load(model_path(settings.model, settings.models_dir), device=settings.device)
    yield examine_model(synthesizer)
    yield examine_speed(synthesizer)
    networks = (synthesizer, finder) if isinstance(finder, LearnedEyeFinder) else (synthesizer,)
    is_open = all(each.info.licence_class == "open" for each in networks)
    license_ = "" if is_open else ", for research only"
    limits = license_ + ("" if sandbox["sandbox"] == "seccomp" else ", and photos are not sandboxed")
    yield {"verdict": f"ready: {synthesizer.info.name} draws faces on {synthesizer.device}{limits}"}


def examine_versions() -> dict[str, str]:
    """Versions of the service and its libraries, and the cores it may use."""
    runtimes = [name for name in ("onnxruntime", "onnxruntime-gpu") if _version(name)]
    return {
        "eye2face": __version__,
        "python": f"{platform.python_version()} on {platform.platform()}",
        "numpy": np.__version__,
        "opencv": f"{cv2.__version__}, {cv2.getNumThreads()} threads (1 while serving)",
        "onnxruntime": ", ".join(f"{name} {_version(name)}" for name in runtimes) or "not installed",
        "cores": f"{count_cores()} of {cv2.getNumberOfCPUs()}, by affinity and cgroup",
    }


def examine_sandbox() -> dict[str, str]:
    """The sandbox that a decoder process gets on this machine, tried with one."""
    command = [sys.executable, "-m", "service.decoding.sandbox"]
    try:
        tried = subprocess.run(
            command, cwd=_ROOT, stdout=subprocess.PIPE, text=True, timeout=_SANDBOX_TIMEOUT_S, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        return {"sandbox": f"none: {error}"}
    return {"sandbox": tried.stdout.strip()}


def examine_finder(name: str, finder: EyeFinder) -> dict[str, str]:
    """The eye finder, and its median time on a photo without eyes."""
    about = name
    if isinstance(finder, LearnedEyeFinder):
        info = finder.info
        about += (
            f": {info.name} {info.version}, {info.licence_class}, {info.date}, threshold {info.threshold:.2f}"
        )
    photo = np.full((240, 320, 3), 128, np.uint8)
    median = f"{_median_ms(lambda: finder.detect(photo)):.1f} ms at 320 x 240, median of {_NUM_RUNS}"
    return {"finder": about, "detection": median}


def examine_model(synthesizer: Synthesizer) -> dict[str, str]:
    """The model's metadata but its metrics, and the device in use."""
    about = {name: str(value) for name, value in asdict(synthesizer.info).items() if name != "metrics"}
    return about | {"device": synthesizer.device}


def examine_speed(synthesizer: Synthesizer) -> dict[str, str]:
    """Median times of one face: the model alone, and from PNG bytes to face with the eye given."""
    size = synthesizer.info.eye_size
    eye = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    pipeline = Pipeline(InProcessReader(HaarEyeFinder(), max_pixels=size * size), synthesizer)
    photo = encode(eye, "png")
    model_ms = _median_ms(lambda: synthesizer(eye[np.newaxis]))
    path_ms = _median_ms(lambda: pipeline.synthesize(photo, SynthesisOptions(input="eye")))
    return {
        "inference": f"{model_ms:.1f} ms a face, median of {_NUM_RUNS}, 1 thread",
        "eye to face": f"{path_ms:.1f} ms",
    }


def _median_ms(run: Callable[[], object]) -> float:
    return statistics.median(timeit.repeat(run, number=1, repeat=_NUM_RUNS)) * 1000


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
