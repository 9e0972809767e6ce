"""Latency and throughput of a model on a device, by batch size.

    python -m bench.device --device cuda
    python -m bench.device --device cuda --model synthesizer --model runs/mine-float16.onnx

Models and numbers of eyes are taken in turns, one call at a time as a worker of the service makes them, and
the faces are held beside those of the CPU. Prints one JSON object; where the device does not work it ends
with what the service would say at its start. Letters of shapes: B batch, S side of an eye.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final, Literal

import cv2
import numpy as np

from bench.photos import write_photos
from bench.servers import measure_usage
from bench.workload import Workload
from service.errors import Eye2FaceError
from service.inference.model_files import model_path
from service.inference.synthesizer import Synthesizer
from service.settings import Settings
from service.vision.images import Image

SIZES: Final = (1, 2, 4, 8, 16, 32)
"""Eyes in a call."""

_NUM_FIRST: Final = 3


def take_eyes(number: int, side: int) -> Image:
    """Eyes B x S x S x 3: the one of the astronaut, lighter and darker."""
    with tempfile.TemporaryDirectory() as folder:
        photo = write_photos(Path(folder))["250px"].read_bytes()
    eye_SS3 = cv2.resize(Workload("cpu").crop(photo).pixels, (side, side), interpolation=cv2.INTER_AREA)
    lights_B111 = np.linspace(0.5, 1, number).reshape(-1, 1, 1, 1)
    return (eye_SS3 * lights_B111).astype(np.uint8)


def measure(model: Synthesizer, eyes_BSS3: Image, num_calls: int) -> list[float]:
    """Milliseconds of each call after the first ones, which prepare the device for this size."""
    times_ms = []
    for number in range(-_NUM_FIRST, num_calls):
        begin = time.perf_counter()
        model(eyes_BSS3)
        if number >= 0:
            times_ms.append((time.perf_counter() - begin) * 1000)
    return times_ms


def count_levels_off(model: Synthesizer, on_cpu: Synthesizer, eyes_BSS3: Image) -> int:
    """The largest difference, of 255 levels, between the faces that both draw of the same eyes."""
    return int(np.abs(model(eyes_BSS3).astype(int) - on_cpu(eyes_BSS3).astype(int)).max())


def describe(times_ms: list[float], num_eyes: int) -> dict[str, float]:
    """What the calls with so many eyes took."""
    median_ms = statistics.median(times_ms)
    return {
        "eyes": num_eyes,
        "median_ms": round(median_ms, 3),
        "p99_ms": round(float(np.percentile(times_ms, 99)), 3),
        "faces_per_s": round(num_eyes / median_ms * 1000),
    }


def compare(
    names: list[str], device: Literal["auto", "cpu", "cuda"], *, num_rounds: int, num_calls: int
) -> dict[str, Any]:
    """All of it, for each model.

    Raises:
        Eye2FaceError: a model cannot be used, or not on this device.
    """
    paths = {name: model_path(name) for name in names}
    models = {name: Synthesizer.load(path, device=device) for name, path in paths.items()}
    eyes = {name: take_eyes(max(SIZES), model.info.eye_size) for name, model in models.items()}
    times_ms: dict[tuple[str, int], list[float]] = {}
    for _ in range(num_rounds):
        for name, model in models.items():
            for size in SIZES:
                times_ms.setdefault((name, size), []).extend(measure(model, eyes[name][:size], num_calls))
    return {
        name: {
            "device": model.device,
            "levels_off_the_cpu": count_levels_off(
                model, Synthesizer.load(paths[name], device="cpu"), eyes[name]
            ),
            "calls": [describe(times_ms[name, size], size) for size in SIZES],
        }
        for name, model in models.items()
    }


def main() -> None:
    """Prints the tables as JSON."""
    parser = argparse.ArgumentParser(description="What a device makes of a model.")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default=Settings().device)
    parser.add_argument("--model", action="append", help="name or path of an ONNX file; may be repeated")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=100, help="of a model with a number of eyes, in a round")
    given = parser.parse_args()
    try:
        names = given.model or [Settings().model]
        told = compare(names, given.device, num_rounds=given.rounds, num_calls=given.calls)
    except Eye2FaceError as error:
        sys.exit(str(error))
    print(json.dumps({"models": told, "memory_mb": round(measure_usage(os.getpid()).memory_mb, 1)}, indent=1))


if __name__ == "__main__":
    main()
