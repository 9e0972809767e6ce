"""Systems: runs, their exports, and those without training."""

from pathlib import Path

import numpy as np
import pytest

from service.errors import ModelContractUnknown
from service.inference.synthesizer import Synthesizer
from service.vision.images import Image
from tests.fakes import tiny_model
from training.data.dataset import EyeFacePairs
from training.data.store import Pairs
from training.errors import DataError, RunNotFound
from training.evaluation.metrics import std_ratio
from training.evaluation.systems import (
    amplified,
    default_faces,
    draw_split,
    load_synthesizer,
    load_system,
    mean_face,
    nearest_eye,
    random_guess,
    resized,
    true_faces,
)


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


@pytest.mark.slow
def test_a_run_and_its_export_are_both_systems(run: Path, exported: Path, tiny_pairs: Pairs) -> None:
    eyes = tiny_pairs.eyes[:3, 0]
    served = default_faces(load_synthesizer(exported))
    faces, of_file = (draw(eyes) for draw in (load_system(run), served))
    assert faces.shape == (3, 32, 32, 3) and faces.dtype == np.uint8
    assert np.abs(faces.astype(int) - of_file).max() <= 1


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunNotFound, match=r"expected an \.onnx file or the folder of a run"):
        load_system(tmp_path)


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    path.write_bytes(b"rubbish")
    with pytest.raises(ModelContractUnknown):
        load_synthesizer(path)


def test_a_model_of_another_face_frame_is_refused(tmp_path: Path) -> None:
    first = tiny_model(tmp_path / "first.onnx", face_frame_version="1")
    with pytest.raises(DataError, match="draws faces in frame 1"):
        load_synthesizer(first)


def test_faces_of_another_size_are_resized_and_others_stay_as_they_are() -> None:
    faces = np.full((2, 32, 32, 3), 100, np.uint8)
    for side in (16, 128):
        drawn = resized(lambda eyes: faces, side)(faces)
        assert drawn.shape == (2, side, side, 3) and (drawn == 100).all()
    assert resized(lambda eyes: faces, 32)(faces) is faces


@pytest.mark.slow
def test_a_random_guess_is_another_for_each_eye_and_the_same_for_a_seed(
    exported: Path, tiny_pairs: Pairs
) -> None:
    synthesizer = Synthesizer.load(exported, device="cpu")
    eyes = tiny_pairs.eyes[[0, 0], 0]
    drawn = random_guess(synthesizer)(eyes)
    assert (drawn[0] != drawn[1]).any() and (drawn == random_guess(synthesizer)(eyes)).all()
