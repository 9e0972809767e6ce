"""The exported finder: the same candidates as in torch, at any size, with its facts, in under a megabyte."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from service.inference.detector import Detection, crops_for_refiner
from service.inference.eye_finder import LearnedEyeFinder
from tests.fake_finders import seen_right, tiny_finder
from tests.fakes import astronaut
from tests.training.labeled_astronaut import photo
from training.finder.export import (
    NUM_CANDIDATES,
    FinderMetadata,
    FinderWithDecoding,
    RefinerWithPreprocessing,
    describe_photos,
    export_calibrated,
    finder_to_onnx,
    refiner_to_onnx,
    write_finder,
)
from training.finder.finder_model import STRIDE, EyeFinderNet
from training.finder.refiner_model import RefinerNet
from training.finder.scenes import Scenes
from training.finder.test_sets import Example
from training.finder.train import FINDER, train_finder
from training.loop.run_folder import RunOutput

FACTS = FinderMetadata(
    "7", "nobody", "open", "abc", threshold=0.25, score_weights=(1.0, 0.5, 0.25, 0.125, 0.0, 2.0, 3.0, 4.0)
)


@pytest.fixture(scope="module")
def net() -> EyeFinderNet:
    torch.manual_seed(0)
    return EyeFinderNet().eval()


@pytest.fixture(scope="module")
def exported(net: EyeFinderNet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("finder") / "eye_finder.onnx"
    write_finder(finder_to_onnx(net), path, FACTS, {"recall": 0.5})
    return path


@pytest.mark.slow
@pytest.mark.parametrize("size", [(64, 64), (256, 320), (96, 640)])
def test_onnx_runtime_sees_what_torch_sees_at_any_size(
    exported: Path, net: EyeFinderNet, size: tuple[int, int]
) -> None:
    picture = np.ascontiguousarray(np.resize(astronaut(), (1, *size, 3)))
    finder = LearnedEyeFinder.load(exported)
    (seen,) = finder._detect._session.run(["candidates"], {"picture": picture})
    with torch.no_grad():
        expected = FinderWithDecoding(net)(torch.from_numpy(picture)).numpy()
    assert seen.shape == (NUM_CANDIDATES, 9)
    peaks = expected[:, 0] > -20
    # Logits agree to float32; where two are equal their order may differ, so they are compared sorted.
    np.testing.assert_allclose(seen[peaks, 0], expected[peaks, 0], atol=1e-3)
    np.testing.assert_allclose(seen[:3], expected[:3], rtol=1e-3, atol=1e-2)


def test_a_peak_of_the_heat_map_is_decoded_to_its_place(net: EyeFinderNet) -> None:
    class OnePeak(EyeFinderNet):
        def forward(self, pixels_BCHW: torch.Tensor) -> torch.Tensor:
            maps = torch.zeros(1, 9, 20, 24)
            maps[0, 0] = -5
            maps[0, 0, 7, 10:13] = torch.tensor([1.0, 2.0, 1.5])  # two of them beside the peak
            maps[0, 1:, 7, 11] = torch.tensor([0.25, -0.5, 0.0, 0.0, 1.0, 0.0, 1.0, 0.0])
            return maps

    rows = FinderWithDecoding(OnePeak())(torch.zeros(1, 80, 96, 3, dtype=torch.uint8))
    expected = [2, 11.25 * STRIDE + 1.5, 6.5 * STRIDE + 1.5, 32, 0.5, 1, 0, 1, 0]
    assert rows[0].tolist() == pytest.approx(expected)
    assert rows[1, 0] <= -5


@pytest.mark.slow
def test_the_file_says_what_it_is(exported: Path) -> None:
    info = LearnedEyeFinder.load(exported).info
    assert (info.name, info.version, info.training_data, info.licence_class) == (
        "eye_finder",
        "7",
        "nobody",
        "open",
    )
    assert (info.threshold, info.score_weights) == (0.25, (1.0, 0.5, 0.25, 0.125, 0.0, 2.0, 3.0, 4.0))
    assert info.metrics == {"recall": 0.5}
    onnx.checker.check_model(onnx.load(exported), full_check=True)


@pytest.mark.slow
def test_the_file_is_smaller_than_a_megabyte(exported: Path) -> None:
    assert exported.stat().st_size < 1_000_000


@pytest.mark.slow
def test_the_refiner_in_the_file_answers_as_torch_does(exported: Path, tmp_path: Path) -> None:
    torch.manual_seed(1)
    refiner = RefinerNet().eval()
    path = tmp_path / "eye_finder.onnx"
    write_finder(onnx.load(exported), path, FACTS, {}, refiner_to_onnx(refiner))
    finder = LearnedEyeFinder.load(path)
    seen = [
        Detection(220, 110, 44, 0.1, 5, 1.0, 44, (264, 110)),
        Detection(90, 90, 20, 0.9, -9, 1.0, 20, (70, 90)),
    ]
    assert finder._detect._refiner is not None
    refined = finder._detect._refiner.refine(astronaut(), seen)
    close = np.stack(crops_for_refiner(astronaut(), seen))
    with torch.no_grad():
        expected = RefinerWithPreprocessing(refiner)(torch.from_numpy(close)).numpy()
    assert [each.refiner_logit for each in refined] == pytest.approx(list(expected[:, 0]), abs=2e-2)
    moved = [
        np.hypot(new.x - old.x, new.y - old.y) / old.distance for new, old in zip(refined, seen, strict=True)
    ]
    assert moved == pytest.approx(list(np.hypot(expected[:, 1], expected[:, 2])), abs=1e-2)
    assert path.stat().st_size < 1_000_000


def test_a_run_says_on_photos_of_which_licenses_it_was_trained(tmp_path: Path) -> None:
    photos = [replace(photo(), file=f"{n}.jpg", licence=("open", "nc", "nc")[n]) for n in range(3)]
    scenes = Scenes(photos, [np.zeros((64, 64, 3), np.uint8)])
    run = train_finder(replace(FINDER, num_steps=0), scenes, RunOutput(tmp_path / "run"))
    assert describe_photos(run) == ("photos by licence: 2 nc, 1 open", frozenset({"nc", "open"}))


def test_scores_and_threshold_are_fitted_on_the_examples(tmp_path: Path) -> None:
    graph = onnx.load(tiny_finder(tmp_path / "f.onnx", [seen_right(30, 30, 20, 2.0)]))
    negatives = [Example("no people: black", np.zeros((64, 64, 3), np.uint8), ())] * 150
    written = export_calibrated(graph, None, tmp_path / "out.onnx", FACTS, negatives)
    info = LearnedEyeFinder.load(tmp_path / "out.onnx").info
    assert (info.threshold, info.score_weights) == (written.threshold, written.score_weights)
    assert info.score_weights != FACTS.score_weights
    assert info.metrics["pictures_without_people"] == 150 <= info.metrics["candidates_fitted_on"]
    assert LearnedEyeFinder.load(tmp_path / "out.onnx").detect(negatives[0].picture).eyes == []
