"""LitServe. BENCH_TUNED=0: its documentation's way, one photo at a time in one worker.

Tuned: batches; for the CPU model smaller ones, in as many workers as cores.
"""

import os
from typing import Any

import cv2
import litserve
from fastapi import Request, Response

from bench.workload import Workload
from service.system.host import count_cores

STANDIN = os.environ.get("BENCH_MODEL") == "standin"
TUNED = os.environ.get("BENCH_TUNED") == "1"
BATCH = (32 if STANDIN else 4) if TUNED else 1


class Faces(litserve.LitAPI):
    """Decoding and crops in `decode_request`, the model in `predict`."""

    def setup(self, device: str) -> None:
        if TUNED:
            cv2.setNumThreads(1)
        self.workload = Workload("standin" if STANDIN else "cpu", num_threads=1 if TUNED else 0)

    def decode_request(self, request: Request) -> Any:
        return self.workload.crop(request["image"].file.read())

    def predict(self, crops: Any) -> Any:
        return self.workload.draw(crops) if BATCH > 1 else self.workload.draw([crops])[0]

    def encode_response(self, output: Any) -> Response:
        return Response(self.workload.encode(output), media_type="image/png")


class BatchedFaces(Faces):
    """The same, many photos in one call of the model."""

    def batch(self, inputs: list[Any]) -> list[Any]:
        return inputs

    def unbatch(self, output: Any) -> Any:
        return output


if __name__ == "__main__":
    batching = {"max_batch_size": BATCH, "batch_timeout": 0.002} if BATCH > 1 else {}
    server = litserve.LitServer(
        (BatchedFaces if batching else Faces)(api_path="/synthesize", **batching),
        accelerator="cpu",
        workers_per_device=count_cores() if TUNED and not STANDIN else 1,
    )
    server.run(port=int(os.environ["BENCH_PORT"]), generate_client_file=False, log_level="warning")
