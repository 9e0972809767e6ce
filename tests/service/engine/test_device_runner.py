"""A model on a CPU has allocated its memory before the first photo."""

import threading
from collections import Counter
from pathlib import Path

import pytest

from service.engine.device_runner import DeviceRunner
from service.engine.worker_pool import MAX_TOGETHER
from service.inference.synthesizer import Floats, Synthesizer
from service.observability.metrics import Metrics
from service.vision.images import Image
from tests.fakes import tiny_model


class Counting(Synthesizer):
    """Counts its calls by their size, and meets in each of several eyes as many others as it is told."""

    sizes: Counter[int]
    together: threading.Barrier

    def draw(self, eyes_BHWC: Image, noise_BD: Floats) -> tuple[Image, Floats]:
        """Draws."""
        if hasattr(self, "sizes"):  # loaded
            self.sizes[len(eyes_BHWC)] += 1
            if len(eyes_BHWC) > 1:
                self.together.wait(timeout=10)
        return super().draw(eyes_BHWC, noise_BD)


@pytest.mark.parametrize("num_callers", [1, 3])
def test_it_is_warmed_by_as_many_calls_at_once_as_may_come(tmp_path: Path, num_callers: int) -> None:
    synthesizer = Counting.load(tiny_model(tmp_path / "tiny.onnx"), device="cpu")
    synthesizer.sizes, synthesizer.together = Counter(), threading.Barrier(num_callers)
    runner = DeviceRunner(synthesizer, threading.Semaphore(1), Metrics(), num_callers=num_callers)
    assert synthesizer.sizes == {MAX_TOGETHER: num_callers}
    faces_BHWC, certainty_B = runner.draw(*runner._black_eye())
    assert (faces_BHWC.shape, certainty_B.shape) == ((1, 128, 128, 3), (1,))
