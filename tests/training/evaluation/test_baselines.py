"""Systems without training."""

import numpy as np
import pytest

from service.vision.images import Image
from training.data.dataset import EyeFacePairs
from training.data.store import Pairs
from training.evaluation.baselines import amplified, nearest_eye
from training.evaluation.benchmark import draw_split, true_faces
from training.evaluation.evaluate import mean_face
from training.evaluation.metrics import std_ratio


def test_a_training_eye_finds_its_own_face(small_pairs: Pairs) -> None:
    train = EyeFacePairs(small_pairs, "train", num_eyes=2)
    assert np.array_equal(draw_split(nearest_eye(small_pairs), train), true_faces(train))


def test_the_amplified_regressor_varies_as_much_as_the_truth(small_pairs: Pairs) -> None:
    dataset = EyeFacePairs(small_pairs, "train", num_eyes=2)
    knowing, mean = nearest_eye(small_pairs), mean_face(small_pairs)

    def timid(eyes: Image) -> Image:
        middle = mean(eyes).astype(np.float32)
        return np.asarray(middle + (knowing(eyes) - middle) / 3, dtype=np.uint8)

    system = amplified(timid, small_pairs, dataset)
    drawn, true = draw_split(system, dataset), true_faces(dataset)
    assert std_ratio(drawn, true) == pytest.approx(1.0, abs=0.01)
    assert np.abs(drawn.astype(np.float32) - true).mean() < 5  # of 255: thrice what the timid one knows
