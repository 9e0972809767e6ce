"""The model in models/: its checksum, its facts, its golden faces, the documents that show its numbers."""

import hashlib
import json
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest

from service.inference.model_files import model_path
from service.inference.synthesizer import Synthesizer
from service.vision.eyes import crop_eye, eyes_from_points
from service.vision.images import Image
from tests import fakes, readme_picture
from tests.drawn_faces import draw_photos
from training.evaluation import tables

ROOT = Path(__file__).parents[1]
MODELS = ROOT / "models"
GOLDEN = Path(__file__).parent / "golden" / "synthesizer.png"

MAX_BYTES = 12_000_000
MAX_DIFFERENCE = 2
"""Levels of 255 between any two CPUs. Source: design.md, section 3."""


@pytest.fixture(scope="module")
def synthesizer() -> Synthesizer:
    return Synthesizer.load(model_path("synthesizer"), device="cpu")


def golden_eyes(size: int) -> Image:
    """The astronaut's two eyes and the right eyes of six drawn people."""
    astronaut = eyes_from_points(fakes.ASTRONAUT_RIGHT_EYE, fakes.ASTRONAUT_LEFT_EYE)
    crops = [crop_eye(fakes.astronaut(), eye, size) for eye in astronaut]
    by_person = {photo.person: photo for photo in draw_photos(16, seed=1)}
    for photo in list(by_person.values())[:6]:
        crops.append(crop_eye(photo.pixels, eyes_from_points(photo.right, photo.left)[0], size))
    return np.stack(crops)


def in_a_row(faces_BHWC: Image) -> Image:
    return np.asarray(np.hstack(list(faces_BHWC)), dtype=np.uint8)


def test_every_model_is_small_and_has_its_checksum() -> None:
    lines = (MODELS / "SHA256SUMS").read_text().splitlines()
    sums = {name: digest for digest, name in (line.split("  ") for line in lines)}
    files = sorted(MODELS.glob("*.onnx"))
    assert {path.name for path in files} == set(sums)
    for path in files:
        assert hashlib.sha256(path.read_bytes()).hexdigest() == sums[path.name], path.name
        assert path.stat().st_size < MAX_BYTES


@pytest.mark.parametrize("path", sorted(MODELS.glob("*.onnx")), ids=lambda path: path.name)
def test_no_model_tells_where_it_was_made(path: Path) -> None:
    assert b"training/export" not in path.read_bytes()
    assert b"stack_trace" not in path.read_bytes()


def test_it_draws_its_golden_faces(synthesizer: Synthesizer, tmp_path: Path) -> None:
    drawn = in_a_row(synthesizer(golden_eyes(synthesizer.info.eye_size)))
    expected = cv2.imread(str(GOLDEN))
    assert expected is not None, f"{GOLDEN} is missing: write it with python -m tests.test_shipped_model"
    difference = np.abs(drawn.astype(np.int16) - expected[..., ::-1]).max()
    if difference > MAX_DIFFERENCE:
        cv2.imwrite(str(tmp_path / "compared.png"), np.vstack([expected, drawn[..., ::-1]]))
    assert difference <= MAX_DIFFERENCE, f"expected above, drawn below: {tmp_path / 'compared.png'}"


def test_different_eyes_have_different_faces(synthesizer: Synthesizer) -> None:
    faces = synthesizer(golden_eyes(synthesizer.info.eye_size)).astype(np.int16)
    apart = [np.abs(faces[i] - faces[j]).mean() for i in range(2, len(faces)) for j in range(2, i)]
    # The faces of a collapsed model are one: a mean face differs from itself by 0 levels.
    assert min(apart) > 4 and np.median(apart) > 20


def test_its_facts_are_those_of_its_card(synthesizer: Synthesizer) -> None:
    info = synthesizer.info
    assert (info.part, info.eye_size, info.face_size, info.face_frame_version) == ("eye", 64, 192, 2)
    assert (info.name, info.version, info.recipe) == ("synthesizer", "8", "eye2face-192")
    assert info.licence_class == "open"
    assert "open)" in info.training_data and "research" not in info.training_data
    assert f"version {info.version}" in (MODELS / "MODEL_CARD.md").read_text()


def test_its_numbers_are_those_of_the_evaluation_and_of_the_documents(synthesizer: Synthesizer) -> None:
    scores_file = MODELS / "evaluation.json"
    written = json.loads(scores_file.read_text())
    assert written["split"] == "val"
    assert synthesizer.info.metrics == pytest.approx(written["scores"]["synthesizer"], abs=1e-3)
    for document in (ROOT / "docs" / "results.md", MODELS / "MODEL_CARD.md"):
        assert tables.render_scores(scores_file) in document.read_text(), document.name


def test_its_numbers_are_what_is_claimed() -> None:
    scores = json.loads((MODELS / "evaluation.json").read_text())["scores"]
    drawn, mean = scores["synthesizer"], scores["mean face"]
    assert 0.9 <= drawn["sigma_ratio"] <= 1.1
    assert drawn["l2"] <= 0.9 * mean["l2"]
    assert drawn["feature_loss"] < mean["feature_loss"]


def test_its_convolutions_work_on_small_pictures() -> None:
    graph = onnx.load(MODELS / "synthesizer.onnx").graph
    assert "Resize" not in {node.op_type for node in graph.node}
    assert sum(list(tensor.dims[2:]) == [2, 2] for tensor in graph.initializer) == 4 * 4


def test_the_picture_in_the_readme_is_what_the_model_draws() -> None:
    drawn, face = readme_picture.draw_picture()
    shown = cv2.imread(str(readme_picture.PICTURE))
    assert shown is not None and shown.shape == drawn.shape
    side = readme_picture.SIDE
    difference = np.abs(shown[:, -side:, ::-1].astype(np.int16) - drawn[:, -side:]).max()
    assert difference <= MAX_DIFFERENCE + 1 and face.shape == (192, 192, 3)
    assert "docs/astronaut.png" in (ROOT / "README.md").read_text()


if __name__ == "__main__":
    model = Synthesizer.load(model_path("synthesizer"), device="cpu")
    GOLDEN.parent.mkdir(exist_ok=True)
    cv2.imwrite(str(GOLDEN), in_a_row(model(golden_eyes(model.info.eye_size)))[..., ::-1])
