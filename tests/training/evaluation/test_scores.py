"""Scores, of faces that are known."""

import numpy as np
import pytest
import torch

from service.vision.images import Image
from tests.training.perceptual import write_archives
from training.data.dataset import EyeFacePairs
from training.data.store import Pairs
from training.evaluation import scores as scores_module
from training.evaluation.benchmark import calibrate
from training.evaluation.scores import Moments, score_faces
from training.evaluation.systems import mean_face, true_faces
from training.synthesizer.vgg import VGGFeatures, load_features, report_layers


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory, tiny_pairs: Pairs) -> VGGFeatures:
    archives = str(write_archives(tmp_path_factory.mktemp("archives")))
    found = load_features(archives, report_layers(archives))
    calibrate(found, EyeFacePairs(tiny_pairs, "train"))
    return found


@pytest.fixture(scope="module")
def dataset(tiny_pairs: Pairs) -> EyeFacePairs:
    return EyeFacePairs(tiny_pairs, "train")


@pytest.fixture(scope="module")
def true(dataset: EyeFacePairs) -> Image:
    return true_faces(dataset)


def test_true_faces_score_perfectly(true: Image, features: VGGFeatures) -> None:
    scores = score_faces({"truth": true}, true, features)["truth"]
    assert not any(scores[name] for name in ("l2", "feature_loss", "std_features", "std_map_features"))
    assert scores["sigma_ratio"] == 1.0 and scores["ssim"] == pytest.approx(1.0)
    assert scores["frequency_error"] == 0.0 and scores["num_samples"] == len(true)


def test_the_mean_face_has_no_variety_and_the_variance_as_its_error(
    tiny_pairs: Pairs, true: Image, features: VGGFeatures
) -> None:
    drawn = {"mean face": mean_face(tiny_pairs)(true)}
    scores = score_faces(drawn, true, features)["mean face"]
    assert scores["sigma_ratio"] == 0.0
    assert scores["l2"] == pytest.approx((true / 255).var(axis=0).mean(), rel=1e-3)
    assert scores["std_features"] > 0
    assert scores["std_features"] == pytest.approx(scores["std_map_features"])


def test_half_of_the_deviation_is_half_the_sigma(true: Image, features: VGGFeatures) -> None:
    mean = true.mean(axis=0)
    drawn = {"half": np.round(mean + (true - mean) / 2).astype(np.uint8)}
    scores = score_faces(drawn, true, features)["half"]
    assert scores["sigma_ratio"] == pytest.approx(0.5, abs=0.01)


def test_half_of_the_contrast_is_an_octave_off_in_every_frequency(true: Image, features: VGGFeatures) -> None:
    drawn = {"half": np.round(true / 2).astype(np.uint8)}
    scores = score_faces(drawn, true, features)["half"]
    assert scores["frequency_error"] == pytest.approx(1.0, abs=0.1)  # rounded, to half levels of the finest


def test_a_faint_grid_is_off_in_its_frequencies(true: Image, features: VGGFeatures) -> None:
    columns = (4 * (np.arange(32) % 2)).astype(np.uint8)[:, None]
    drawn = {"grid": np.minimum(true, 250) + columns, "none": np.minimum(true, 250)}
    scores = score_faces(drawn, true, features)
    assert scores["grid"]["frequency_error"] > 20 * scores["none"]["frequency_error"]
    assert scores["grid"]["sigma_ratio"] == pytest.approx(scores["none"]["sigma_ratio"])


def test_moments_over_batches_equal_those_over_all() -> None:
    values = torch.rand(20, 3, 4, 4)
    moments = Moments()
    for part in torch.split(values, 7):
        moments.add(part)
    torch.testing.assert_close(moments.std(), values.double().std(0, unbiased=False))


def test_features_are_computed_of_a_batch_at_a_time(
    true: Image, features: VGGFeatures, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = {"half": np.round(true / 2).astype(np.uint8)}
    whole = score_faces(drawn, true, features)["half"]
    sizes: list[int] = []
    hook = features.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    monkeypatch.setattr(scores_module, "BATCH_SIZE", 5)
    assert score_faces(drawn, true, features)["half"] == pytest.approx(whole, rel=1e-4)
    hook.remove()
    assert max(sizes) == 5 and sum(sizes) == 2 * len(true)


def test_the_layers_are_described_with_their_scales(features: VGGFeatures) -> None:
    described = features.describe()
    assert described.startswith("genuine relu1_1 / ") and "distilled relu5_1 / " in described
