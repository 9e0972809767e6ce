"""The floor: throughput of the same workload in one process without a server, on all cores.

    python -m bench.floor PHOTO --model cpu --threads 2 --seconds 10

With the stand-in more threads than cores wait in its queue, in batches as the service makes them: no server
can be faster than that. Prints one JSON object, as `bench.load` does.
"""

import argparse
import json
import statistics
import threading
import time
from pathlib import Path

import cv2
import numpy as np

from bench.workload import Workload
from service.engine.batching import MicroBatcher
from service.system.host import count_cores
from service.system.memory import keep_freed_memory


class Floor:
    """Threads that repeat the workload."""

    def __init__(self, model: str, photo: bytes) -> None:
        self._workload = Workload("standin" if model == "standin" else "cpu")
        self._photo = photo
        self._cores = threading.Semaphore(count_cores())
        if model == "standin":
            self._workload._draw = MicroBatched(self._workload._draw, self._cores)  # type: ignore[assignment]
        self.latencies_s: list[float] = []

    def run(self, num_threads: int, warm_s: float, seconds: float) -> None:
        """Counts the photos that are done between `warm_s` and `seconds` after it."""
        begin = time.monotonic() + warm_s
        threads = [
            threading.Thread(target=self._repeat, args=(begin, begin + seconds)) for _ in range(num_threads)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _repeat(self, begin: float, end: float) -> None:
        while (start := time.monotonic()) < end:
            with self._cores:
                self._workload(self._photo)
            if begin <= time.monotonic() < end:
                self.latencies_s.append(time.monotonic() - start)


class MicroBatched:
    """A synthesizer whose calls from several threads are one call."""

    def __init__(self, synthesizer: object, cores: threading.Semaphore) -> None:
        self.info = synthesizer.info  # type: ignore[attr-defined]
        self._batcher = MicroBatcher(synthesizer.draw, cores)  # type: ignore[attr-defined]

    def __call__(self, eyes_BHWC: np.ndarray) -> np.ndarray:
        """Faces from eyes."""
        return self._batcher(eyes_BHWC, np.zeros((len(eyes_BHWC), self.info.noise_size), np.float32))[0]


def main() -> None:
    """Prints throughput and latencies as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("photo", type=Path)
    parser.add_argument("--model", choices=["cpu", "standin"], default="cpu")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--warm", type=float, default=1.0)
    parser.add_argument("--seconds", type=float, default=10.0)
    given = parser.parse_args()
    keep_freed_memory()
    cv2.setNumThreads(1)
    floor = Floor(given.model, given.photo.read_bytes())
    num_threads = given.threads or count_cores() * (4 if given.model == "standin" else 1)
    floor.run(num_threads, given.warm, given.seconds)
    latencies = sorted(floor.latencies_s) or [0.0]  # none: num_good says so
    told = {
        "num_good": len(floor.latencies_s),
        "num_bad": 0,
        "per_s": len(floor.latencies_s) / given.seconds,
        "p50_ms": statistics.median(latencies) * 1000,
        "p99_ms": latencies[int(len(latencies) * 0.99)] * 1000,
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
