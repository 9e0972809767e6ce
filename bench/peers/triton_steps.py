"""What Triton's Python backend runs: each class is one model of `bench.peers.triton`."""

import os
import pickle
from typing import Any

import cv2
import numpy as np
import triton_python_backend_utils as triton

from bench.workload import Workload, default_face

STANDIN = os.environ.get("BENCH_MODEL") == "standin"
TUNED = os.environ.get("BENCH_TUNED") == "1"


class _Step:
    def initialize(self, _arguments: dict[str, str]) -> None:
        """Called once in each process."""
        if TUNED:
            cv2.setNumThreads(1)
        self.workload = Workload("standin" if STANDIN else "cpu", num_threads=1 if TUNED else 0)


def _input(request: Any, name: str) -> Any:
    return triton.get_input_tensor_by_name(request, name).as_numpy()


def _answer(**outputs: Any) -> Any:
    return triton.InferenceResponse([triton.Tensor(name, value) for name, value in outputs.items()])


def _string(data: bytes) -> Any:
    return np.array([[data]], np.object_)


class Whole(_Step):
    """Photo to PNG."""

    def execute(self, requests: list[Any]) -> list[Any]:
        """One answer for each request."""
        faces = self.workload.run_batch([_input(request, "photo").tobytes() for request in requests])
        return [_answer(face=_string(face)) for face in faces]


class Crop(_Step):
    """Photo to eye."""

    def execute(self, requests: list[Any]) -> list[Any]:
        """One answer for each request."""
        crops = [self.workload.crop(_input(request, "photo").tobytes()) for request in requests]
        return [_answer(eye=crop.pixels[None], crop=_string(pickle.dumps(crop))) for crop in crops]


class Draw(_Step):
    """Eyes to faces, all that wait in one call."""

    def execute(self, requests: list[Any]) -> list[Any]:
        """One answer for each request."""
        faces_BHWC = self.workload.run(np.concatenate([_input(request, "eye") for request in requests]))
        return [_answer(pixels=face[None]) for face in faces_BHWC]


class Encode(_Step):
    """Face to PNG."""

    def execute(self, requests: list[Any]) -> list[Any]:
        """One answer for each request."""
        crops = [pickle.loads(_input(request, "crop")[0, 0]) for request in requests]
        pixels = [_input(request, "pixels")[0] for request in requests]
        faces = [self.workload.encode(default_face(*each)) for each in zip(crops, pixels, strict=True)]
        return [_answer(face=_string(face)) for face in faces]
