"""BentoML. BENCH_TUNED=0: its documentation's way, one service in one process.

Tuned: as many workers as cores for the CPU model; for the stand-in the model is a service of its own with
adaptive batches, behind services that crop and encode.
"""

import os
from pathlib import Path
from typing import Annotated, Any

import bentoml
import cv2
import numpy as np
from bentoml.validators import ContentType

from bench.workload import Workload, default_face
from service.system.host import count_cores

STANDIN = os.environ.get("BENCH_MODEL") == "standin"
TUNED = os.environ.get("BENCH_TUNED") == "1"

LOGGING = {"access": {"enabled": not TUNED}}


def _open() -> Workload:
    if TUNED:
        cv2.setNumThreads(1)
    return Workload("standin" if STANDIN else "cpu", num_threads=1 if TUNED else 0)


@bentoml.service(workers=1, traffic={"timeout": 60}, logging=LOGGING)
class Draw:
    """Eyes to faces, in batches."""

    def __init__(self) -> None:
        self.workload = _open()

    @bentoml.api(batchable=True, max_batch_size=32, max_latency_ms=1000)
    def draw(self, eyes: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
        return np.asarray(self.workload.run(eyes))


@bentoml.service(workers=count_cores() if TUNED else 1, traffic={"timeout": 60}, logging=LOGGING)
class Faces:
    """Photo to PNG, by itself."""

    def __init__(self) -> None:
        self.workload = _open()

    @bentoml.api
    def synthesize(self, image: Path, ctx: bentoml.Context) -> Annotated[Path, ContentType("image/png")]:
        return _write(self.workload(image.read_bytes()), ctx)


@bentoml.service(workers=count_cores(), traffic={"timeout": 60}, logging=LOGGING)
class Front:
    """Photo to PNG, with the model in a service of its own."""

    draw = bentoml.depends(Draw)

    def __init__(self) -> None:
        self.workload = _open()

    @bentoml.api
    async def synthesize(
        self, image: Path, ctx: bentoml.Context
    ) -> Annotated[Path, ContentType("image/png")]:
        crop = self.workload.crop(image.read_bytes())
        faces: Any = await self.draw.to_async.draw(crop.pixels[None])
        return _write(self.workload.encode(default_face(crop, np.asarray(faces[0]))), ctx)


def _write(png: bytes, ctx: bentoml.Context) -> Path:
    path = Path(ctx.temp_dir) / "face.png"
    path.write_bytes(png)
    return path


served = Front if STANDIN and TUNED else Faces
