"""Measuring a system against a split."""

import numpy as np
import pytest
import torch

from service.vision.images import Image
from training.data.corruptions import CORRUPTIONS
from training.data.face_alignment import LEFT_EYE_AT, RIGHT_EYE_AT
from training.data.store import Pairs
from training.evaluation.benchmark import (
    BACKGROUND,
    IN_FACE,
    Benchmark,
    face_region,
    make_benchmark,
)
from training.evaluation.embeddings import embed_true
from training.evaluation.metrics import Metrics
from training.evaluation.simclr import FaceEncoder
from training.evaluation.systems import true_faces


@pytest.fixture(scope="module")
def benchmark(small_pairs: Pairs, archives: str) -> Benchmark:
    return make_benchmark(small_pairs, "train", archives, FaceEncoder((8,)).eval().requires_grad_(False))


def measure(benchmark: Benchmark, drawn: Image) -> tuple[Metrics, dict[str, Metrics]]:
    """The numbers of drawn faces, and those by part of the picture."""
    return benchmark.measure({"it": drawn})["it"].numbers, benchmark.measure_regions(drawn)


def test_true_faces_of_left_eyes_are_mirrored(benchmark: Benchmark) -> None:
    for i, face in enumerate(true_faces(benchmark.dataset)):
        assert np.array_equal(face, benchmark.dataset[i][1].permute(1, 2, 0).numpy())


def test_the_truth_measures_perfectly_everywhere(benchmark: Benchmark) -> None:
    numbers, slices = measure(benchmark, benchmark.true)
    assert numbers["l2"] == numbers["feature_loss"] == numbers["perceptual"] == 0.0
    for name in ("diversity_ratio", "sharpness_ratio", "sigma_ratio", "ssim"):
        assert numbers[name] == pytest.approx(1.0)
    for side in ("vgg", "encoder"):
        # A training face against training faces: nothing is nearer than itself, on both sides.
        assert numbers[f"rank_{side}"] == pytest.approx(0.0, abs=0.01)
        assert abs(numbers[f"kid_{side}"]) <= 3 * numbers[f"kid_{side}_error"] + 1e-6
    assert set(slices) == {IN_FACE, BACKGROUND} and all(each["l2"] == 0.0 for each in slices.values())


def test_wrong_faces_measure_worse(benchmark: Benchmark) -> None:
    # Shifted by half of the split: other persons' faces, so all that looks at sets alone sees nothing.
    numbers, _ = measure(benchmark, np.roll(benchmark.true, len(benchmark.true) // 2, axis=0))
    assert numbers["l2"] > 0.01 and numbers["feature_loss"] > 0
    assert numbers["sigma_ratio"] == pytest.approx(1.0) and numbers["diversity_ratio"] == pytest.approx(1.0)
    assert numbers["rank_vgg"] > 0.2


def test_the_picture_is_told_apart_into_face_and_background(benchmark: Benchmark) -> None:
    wrong, region = benchmark.true.copy(), face_region(64).numpy()
    wrong[:, ~region] = 255 - wrong[:, ~region]
    numbers, slices = measure(benchmark, wrong)
    assert slices[IN_FACE]["l2"] == 0.0 < numbers["l2"]
    assert slices[BACKGROUND]["l2"] * (~region).mean() == pytest.approx(numbers["l2"], rel=1e-4)


def test_the_face_is_symmetric_and_holds_the_eyes_but_no_corner() -> None:
    region = face_region(64)
    assert region.equal(region.flip(1))
    for x, y in (LEFT_EYE_AT, RIGHT_EYE_AT):
        assert region[int(y * 64), int(x * 64)]
    assert not (region[0, 0] or region[-1, 0] or region[-1, -1])
    assert 0.6 < region.float().mean() < 0.7


def test_corrupted_eyes_are_shown_to_a_system_and_measured_against_the_true_faces(
    benchmark: Benchmark,
) -> None:
    seen: list[float] = []

    def system(eyes: np.ndarray) -> np.ndarray:
        seen.append(float(eyes.mean()))
        return np.full((len(eyes), 64, 64, 3), 255, np.uint8)

    found = benchmark.measure_corruptions(system)
    assert list(found) == list(CORRUPTIONS)
    dark = len(seen) // len(CORRUPTIONS) * list(CORRUPTIONS).index("made dark")
    assert seen[dark] < 0.4 * seen[0]
    squares = np.square(1 - benchmark.true / 255).mean()
    for numbers in found.values():
        assert numbers["l2"] == pytest.approx(squares) and numbers["num_samples"] == len(benchmark.true)
        assert 0 <= numbers["rank_encoder"] <= 1


def test_training_faces_are_embedded_a_batch_at_a_time(
    benchmark: Benchmark, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    embed = benchmark.spaces[0].embed

    def counted(faces: torch.Tensor) -> torch.Tensor:
        asked.append(len(faces))
        return embed(faces)

    monkeypatch.setattr("training.evaluation.embeddings.EMBED_BATCH", 5)
    torch.testing.assert_close(embed_true(counted, benchmark.dataset), benchmark.spaces[0].true)
    assert max(asked) == 5 and sum(asked) == len(benchmark.dataset)
    chosen = np.array([3, 0])
    torch.testing.assert_close(embed_true(embed, benchmark.dataset, chosen), benchmark.spaces[0].true[[3, 0]])


def test_without_an_encoder_faces_are_embedded_by_a_layer_that_nothing_trains_on(
    small_pairs: Pairs, archives: str
) -> None:
    found = make_benchmark(small_pairs, "dev", archives)
    numbers, _ = measure(found, found.true)
    assert [space.name for space in found.spaces] == ["vgg", "relu3_4"]
    assert numbers["rank_relu3_4"] == pytest.approx(0.0, abs=0.01) and "memorisation_relu3_4" not in numbers


def test_both_eyes_are_shown_to_a_system(benchmark: Benchmark) -> None:
    seen: list[tuple[int, ...]] = []

    def system(eyes: np.ndarray) -> np.ndarray:
        seen.append(eyes.shape[1:])
        return np.zeros((len(eyes), 64, 64, 3), np.uint8)

    assert benchmark.draw(system).shape == benchmark.true.shape
    assert set(seen) == {(64, 64, 6)}
