"""Models that are refused because of their output."""

from contextlib import nullcontext
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from service.errors import ModelSelfTestFailed
from service.inference.model_files import model_path
from service.inference.self_test import check_model, draw_eye
from service.inference.synthesizer import Floats, Synthesizer
from service.vision.images import Image
from tests.fakes import spoil, tiny_model


def test_the_shipped_model_passes() -> None:
    check_model(Synthesizer.load(model_path("synthesizer"), device="cpu"))


@pytest.mark.parametrize("eye_size", [16, 64, 65])
def test_a_model_of_any_size_passes_that_answers_what_it_sees(tmp_path: Path, eye_size: int) -> None:
    model = tiny_model(tmp_path / "tiny.onnx", eye_size, 2 * eye_size)
    check_model(Synthesizer.load(model, device="cpu"))


@pytest.mark.parametrize(("how", "message"), [("black", "one single color"), ("same", "the same face")])
def test_a_model_that_draws_no_faces_is_refused(
    tmp_path: Path, how: Literal["black", "same"], message: str
) -> None:
    model = Synthesizer.load(spoil(tiny_model(tmp_path / "tiny.onnx"), how), device="cpu")
    with pytest.raises(ModelSelfTestFailed, match=f"The model tiny 0.0.1 draws .*{message}"):
        check_model(model)


class Odd(Synthesizer):
    """The tiny model, with a fault that only batches show."""

    def draw(self, eyes_BHWC: Image, noise_BD: Floats) -> tuple[Image, Floats]:
        faces_BHWC, certainty_B = super().draw(eyes_BHWC, noise_BD)
        return np.roll(faces_BHWC, 1, axis=0), certainty_B


class Unsure(Synthesizer):
    """The tiny model, with an impossible certainty."""

    certainty = 0.5

    def draw(self, eyes_BHWC: Image, noise_BD: Floats) -> tuple[Image, Floats]:
        faces_BHWC, certainty_B = super().draw(eyes_BHWC, noise_BD)
        return faces_BHWC, np.full_like(certainty_B, self.certainty)


@pytest.mark.parametrize(
    ("certainty", "is_possible"), [(1.0, True), (1.1, False), (-0.1, False), (np.nan, False)]
)
def test_a_model_whose_certainty_is_no_share_is_refused(
    tmp_path: Path, certainty: float, is_possible: bool
) -> None:
    model = Unsure.load(tiny_model(tmp_path / "tiny.onnx"), device="cpu")
    model.certainty = certainty
    with nullcontext() if is_possible else pytest.raises(ModelSelfTestFailed, match="has a certainty of"):
        check_model(model)


def test_a_model_that_mixes_up_its_batch_is_refused(tmp_path: Path) -> None:
    model = Odd.load(tiny_model(tmp_path / "tiny.onnx"), device="cpu")
    with pytest.raises(ModelSelfTestFailed, match="when it draws several at once"):
        check_model(model)


def test_a_model_that_cannot_be_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelSelfTestFailed, match=r"cannot be run \(.*Reshape"):
        check_model(Synthesizer.load(spoil(tiny_model(tmp_path / "tiny.onnx"), "crash"), device="cpu"))


def test_the_drawn_eye_has_skin_white_iris_and_pupil() -> None:
    eye = draw_eye(64, skin=(224, 178, 150), iris=(90, 60, 30))
    assert eye.shape == (64, 64, 3) and eye.dtype == np.uint8
    assert tuple(eye[32, 32]) == (12, 10, 10)
    assert tuple(eye[32, 40]) == (90, 60, 30)
    assert tuple(eye[32, 50]) == (235, 232, 228)
    assert eye[2, 32, 0] > eye[2, 32, 2] > 100
