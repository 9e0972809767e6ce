"""Runs the model on its device: called by each worker on a CPU, in micro-batches on a GPU."""

import threading
from collections.abc import Callable
from functools import partial

import numpy as np

from service.engine.batching import MicroBatcher
from service.engine.worker_pool import MAX_TOGETHER, attempt_aside
from service.inference.synthesizer import Floats, Synthesizer
from service.observability.metrics import Metrics
from service.vision.images import Image


class DeviceRunner:
    """The model on its device: called as it is on a CPU, in batches by a thread of its own on a GPU."""

    def __init__(
        self, synthesizer: Synthesizer, cores: threading.Semaphore, metrics: Metrics, *, num_callers: int = 1
    ) -> None:
        """On a CPU `num_callers` threads may call at once, each with the eyes of MAX_TOGETHER photos."""
        self.synthesizer = synthesizer
        self.draw: Callable[[Image, Floats], tuple[Image, Floats]] = synthesizer.draw
        """Faces and certainties from eyes and noise, as the synthesizer gives them."""
        self._batcher: MicroBatcher | None = None
        if synthesizer.device == "cuda":
            self._batcher = MicroBatcher(synthesizer.draw, cores, observe=metrics.batch_sizes.observe)
            self._batcher.warm(*self._black_eye())
            self.draw = self._batcher
        else:
            self._warm(num_callers)
            synthesizer.observe = metrics.batch_sizes.observe

    @property
    def is_alive(self) -> bool:
        """Whether calls reach the model."""
        return self._batcher is None or self._batcher.is_alive

    def test(self) -> None:
        """Runs the model once on a black eye; the outcome is the synthesizer's `last_run`."""
        self.draw(*self._black_eye())

    def close(self) -> None:
        """Ends the batching thread, if there is one, after the queued calls."""
        if self._batcher is not None:
            self._batcher.close()

    def _warm(self, num_callers: int) -> None:
        """Allocates the memory of `num_callers` concurrent calls at the start, not under load."""
        eye, noise = self._black_eye()
        several = eye.repeat(MAX_TOGETHER, axis=0), noise.repeat(MAX_TOGETHER, axis=0)
        calls = [attempt_aside(partial(self.synthesizer.draw, *several)) for _ in range(num_callers)]
        for call in calls:
            _, error = call.result()
            if error is not None:
                raise error

    def _black_eye(self) -> tuple[Image, Floats]:
        """One eye, and the noise of the default face."""
        info = self.synthesizer.info
        return np.zeros((1, info.eye_size, info.eye_size, 3), np.uint8), np.zeros(
            (1, info.noise_size), np.float32
        )
