"""mosec: crops, model and PNG in stages of their own. BENCH_TUNED=0: one process a stage, no batches.

Tuned: for the stand-in as many processes for crops as cores and batches of 32; for the CPU model the whole
workload in as many processes as cores, which spares the way between stages, and batches of 4.
"""

import os
from typing import Any

import cv2
import mosec

from bench.workload import Workload
from service.system.host import count_cores

STANDIN = os.environ.get("BENCH_MODEL") == "standin"
TUNED = os.environ.get("BENCH_TUNED") == "1"


class _Stage(mosec.Worker):
    def __init__(self) -> None:
        if TUNED:
            cv2.setNumThreads(1)
        self.workload = Workload("standin" if STANDIN else "cpu", num_threads=1 if TUNED else 0)


class Crop(_Stage):
    """Photo to eye."""

    def deserialize(self, data: bytes) -> bytes:
        return data

    def forward(self, data: bytes) -> Any:
        return self.workload.crop(data)


class Draw(_Stage):
    """Eyes to faces."""

    def forward(self, data: Any) -> Any:
        return self.workload.draw(data) if isinstance(data, list) else self.workload.draw([data])[0]


class Encode(_Stage):
    """Face to PNG."""

    def forward(self, data: Any) -> bytes:
        return self.workload.encode(data)

    def serialize(self, data: bytes) -> bytes:
        return data


class Whole(_Stage):
    """Photo to PNG, or several photos."""

    def deserialize(self, data: bytes) -> bytes:
        return data

    def forward(self, data: Any) -> Any:
        return self.workload.run_batch(data) if isinstance(data, list) else self.workload(data)

    def serialize(self, data: bytes) -> bytes:
        return data


if __name__ == "__main__":
    server = mosec.Server()
    if TUNED and not STANDIN:
        server.append_worker(Whole, num=count_cores(), max_batch_size=4, max_wait_time=1)
    else:
        server.append_worker(Crop, num=count_cores() if TUNED else 1)
        server.append_worker(Draw, num=1, max_batch_size=32 if TUNED else 1, max_wait_time=2)
        server.append_worker(Encode, num=1)
    server.run()
