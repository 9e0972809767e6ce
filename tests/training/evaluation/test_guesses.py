"""What is measured of many guesses, on a model whose guesses are known."""

from pathlib import Path

import numpy as np
import pytest

from service.inference.synthesizer import Floats, Synthesizer
from service.vision.images import Image
from training.data.store import Pairs
from training.evaluation.benchmark import Benchmark, make_benchmark
from training.evaluation.guesses import measure_guesses
from training.evaluation.metrics import rank_correlation
from training.evaluation.tables import GUESS_COLUMNS

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def benchmark(tiny_pairs: Pairs, archives: str) -> Benchmark:
    return make_benchmark(tiny_pairs, "train", archives)


class Knowing(Synthesizer):
    """Draws the true face; the noise makes it lighter or darker as a whole."""

    def __init__(self, exported: Path, benchmark: Benchmark) -> None:
        self.info = Synthesizer.load(exported, device="cpu").info
        pairs = benchmark.dataset.pairs
        self.faces = {}
        for row, side in benchmark.dataset.samples:
            face = pairs.faces[row] if side == 0 else pairs.faces[row][:, ::-1]
            self.faces[pairs.eyes[row, side].tobytes()] = face

    def draw(self, eyes_BHWC: Image, noise_BD: Floats) -> tuple[Image, Floats]:
        faces = [self.faces.get(eye.tobytes(), np.zeros((32, 32, 3), np.uint8)) for eye in eyes_BHWC]
        lighter = 20 * noise_BD[:, 0, None, None, None]
        drawn = np.clip(np.stack(faces) + np.round(lighter), 0, 255).astype(np.uint8)
        return drawn, eyes_BHWC.mean((1, 2, 3)).astype(np.float32) / 255


def test_guesses_that_differ_in_light_alone(exported: Path, benchmark: Benchmark) -> None:
    numbers = measure_guesses(Knowing(exported, benchmark), benchmark)
    assert numbers["default"] == pytest.approx(0, abs=1e-5)
    assert 0 < numbers["best_of_16"] < numbers["best_of_4"] < numbers["best_of_1"]
    true = benchmark.true.astype(np.float64) / 255
    assert numbers["between_guesses"] == pytest.approx(20 / 255 / np.sqrt(true.var(0).mean()), rel=0.3)
    assert numbers["l2_of_mean"] == pytest.approx(0, abs=2 * (20 / 255) ** 2 / 16)
    assert numbers["certainty, made dark"] < 0.5 * numbers["certainty, as they are"]
    assert numbers["num_eyes"] == len(benchmark.dataset)


def test_every_column_of_the_table_is_measured(exported: Path, benchmark: Benchmark) -> None:
    numbers = measure_guesses(Synthesizer.load(exported, device="cpu"), benchmark)
    assert {column.key for column in GUESS_COLUMNS} <= set(numbers)


def test_the_rank_correlation_sees_order_alone() -> None:
    assert rank_correlation(np.array([1.0, 2.0, 9.0]), np.array([0.1, 0.5, 0.6])) == pytest.approx(1)
    assert rank_correlation(np.array([1.0, 2.0, 9.0]), np.array([9.0, 3.0, 1.0])) == pytest.approx(-1)
