"""The numbers of the report, on systems whose scores are known."""

from pathlib import Path

import numpy as np
import pytest
import torch

from service.errors import ModelContractUnknown
from service.vision.images import Image
from tests.fakes import tiny_model
from tests.training.perceptual import write_archives
from training.data.dataset import EyeFacePairs
from training.data.store import Pairs
from training.errors import DataError, RunNotFound
from training.evaluation import evaluate as evaluation
from training.evaluation.benchmark import true_faces
from training.evaluation.evaluate import Moments
from training.synthesizer.vgg import VGGFeatures, load_features, report_layers


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory, tiny_pairs: Pairs) -> VGGFeatures:
    archives = str(write_archives(tmp_path_factory.mktemp("archives")))
    found = load_features(archives, report_layers(archives))
    evaluation.calibrate(found, tiny_pairs)
    return found


@pytest.fixture(scope="module")
def dataset(tiny_pairs: Pairs) -> EyeFacePairs:
    return EyeFacePairs(tiny_pairs, "train")


@pytest.fixture(scope="module")
def true(dataset: EyeFacePairs) -> Image:
    return true_faces(dataset)


def test_true_faces_score_perfectly(true: Image, features: VGGFeatures) -> None:
    scores = evaluation.evaluate({"truth": true}, true, features)["truth"]
    assert not any(scores[name] for name in ("l2", "feature_loss", "std_features", "std_map_features"))
    assert scores["sigma_ratio"] == 1.0 and scores["ssim"] == pytest.approx(1.0)
    assert scores["frequency_error"] == 0.0 and scores["num_samples"] == len(true)


def test_the_mean_face_has_no_variety_and_the_variance_as_its_error(
    tiny_pairs: Pairs, true: Image, features: VGGFeatures
) -> None:
    drawn = {"mean face": evaluation.mean_face(tiny_pairs)(true)}
    scores = evaluation.evaluate(drawn, true, features)["mean face"]
    assert scores["sigma_ratio"] == 0.0
    assert scores["l2"] == pytest.approx((true / 255).var(axis=0).mean(), rel=1e-3)
    assert scores["std_features"] > 0
    assert scores["std_features"] == pytest.approx(scores["std_map_features"])


def test_half_of_the_deviation_is_half_the_sigma(true: Image, features: VGGFeatures) -> None:
    mean = true.mean(axis=0)
    drawn = {"half": np.round(mean + (true - mean) / 2).astype(np.uint8)}
    scores = evaluation.evaluate(drawn, true, features)["half"]
    assert scores["sigma_ratio"] == pytest.approx(0.5, abs=0.01)


def test_half_of_the_contrast_is_an_octave_off_in_every_frequency(true: Image, features: VGGFeatures) -> None:
    drawn = {"half": np.round(true / 2).astype(np.uint8)}
    scores = evaluation.evaluate(drawn, true, features)["half"]
    assert scores["frequency_error"] == pytest.approx(1.0, abs=0.1)  # rounded, to half levels of the finest


def test_a_faint_grid_is_off_in_its_frequencies(true: Image, features: VGGFeatures) -> None:
    columns = (4 * (np.arange(32) % 2)).astype(np.uint8)[:, None]
    drawn = {"grid": np.minimum(true, 250) + columns, "none": np.minimum(true, 250)}
    scores = evaluation.evaluate(drawn, true, features)
    assert scores["grid"]["frequency_error"] > 20 * scores["none"]["frequency_error"]
    assert scores["grid"]["sigma_ratio"] == pytest.approx(scores["none"]["sigma_ratio"])


def test_moments_over_batches_equal_those_over_all() -> None:
    values = torch.rand(20, 3, 4, 4)
    moments = Moments()
    for part in torch.split(values, 7):
        moments.add(part)
    torch.testing.assert_close(moments.std(), values.double().std(0, unbiased=False))


def test_a_run_and_its_export_are_both_systems(run: Path, exported: Path, tiny_pairs: Pairs) -> None:
    eyes = tiny_pairs.eyes[:3, 0]
    served = evaluation.default_faces(evaluation.load_synthesizer(exported))
    faces, of_file = (draw(eyes) for draw in (evaluation.load_system(run), served))
    assert faces.shape == (3, 32, 32, 3) and faces.dtype == np.uint8
    assert np.abs(faces.astype(int) - of_file).max() <= 1


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunNotFound, match=r"expected an \.onnx file or the folder of a run"):
        evaluation.load_system(tmp_path)


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    path.write_bytes(b"rubbish")
    with pytest.raises(ModelContractUnknown):
        evaluation.load_synthesizer(path)


def test_a_model_of_another_face_frame_is_refused(tmp_path: Path) -> None:
    first = tiny_model(tmp_path / "first.onnx", face_frame_version="1")
    with pytest.raises(DataError, match="draws faces in frame 1"):
        evaluation.load_synthesizer(first)


def test_the_layers_are_described_with_their_scales(features: VGGFeatures) -> None:
    described = evaluation.describe(features)
    assert described.startswith("genuine relu1_1 / ") and "distilled relu5_1 / " in described


def test_smaller_faces_are_enlarged_and_others_stay_as_they_are() -> None:
    small = np.full((2, 32, 32, 3), 100, np.uint8)
    drawn = evaluation.enlarged(lambda eyes: small, 128)(small)
    assert drawn.shape == (2, 128, 128, 3) and (drawn == 100).all()
    assert evaluation.enlarged(lambda eyes: small, 32)(small) is small
