"""Crops of the mouth and the nose in place of eyes: where they are, and how they are used."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from service.errors import ModelContractUnknown
from service.inference.synthesizer import Synthesizer
from service.vision.eyes import crop_eye, eyes_from_points
from tests.drawn_faces import DrawnPhoto
from tests.fakes import KnownEyes
from training.data.augmentation import Jitter
from training.data.dataset import EyeFacePairs, SampleKey
from training.data.face_alignment import align_face
from training.data.face_parts import locate_part
from training.data.photos import from_csv, from_folder
from training.data.prepare import PrepareSettings, prepare, read_pixels
from training.data.store import Pairs, Part, open_pairs
from training.errors import DataError
from training.evaluation.benchmark import make_benchmark
from training.evaluation.simclr import FaceEncoder
from training.evaluation.systems import load_synthesizer, nearest_eye
from training.export.onnx import export
from training.synthesizer.recipes import RECIPES
from training.synthesizer.train import RunSettings, train


@pytest.mark.parametrize(("part", "at"), [("mouth", (0.5, 0.75)), ("nose", (0.5, 0.579))])
def test_a_part_lies_where_the_aligned_face_has_it(
    drawn_photos: list[DrawnPhoto], part: Part, at: tuple[float, float]
) -> None:
    for photo in drawn_photos[:5]:
        found = locate_part(*eyes_from_points(photo.right, photo.left), part)
        # A dot painted there appears at that place of the aligned face, however the head is turned.
        dotted = np.zeros_like(photo.pixels)
        dotted[round(found.y) - 1 : round(found.y) + 2, round(found.x) - 1 : round(found.x) + 2] = 255
        face = align_face(dotted, photo.right, photo.left, 128)[0][..., 0].astype(float)
        rows, columns = np.indices(face.shape) + 0.5
        center = (columns * face).sum() / face.sum() / 128, (rows * face).sum() / face.sum() / 128
        assert center == pytest.approx(at, abs=0.015)


def test_the_nose_is_where_it_is_drawn(drawn_photos: list[DrawnPhoto]) -> None:
    far = []
    for photo in drawn_photos:
        right, left = eyes_from_points(photo.right, photo.left)
        nose = locate_part(right, left, "nose")
        far.append(np.hypot(nose.x - photo.nose[0], nose.y - photo.nose[1]) / (nose.size_px / 0.8))
    assert np.median(far) < 0.1


@pytest.fixture(scope="module")
def mouths(tmp_path_factory: pytest.TempPathFactory, drawn_csv: Path) -> Pairs:
    """Pairs of mouth and face of the drawn photos."""
    out = tmp_path_factory.mktemp("pairs") / "mouths"
    prepare(PrepareSettings(drawn_csv, out, face_size=64, part="mouth", dev_part=0.33))
    return open_pairs(out)


def test_the_crops_on_disk_are_cut_at_the_part_of_each_rows_photo(mouths: Pairs, drawn_csv: Path) -> None:
    photos = {photo.file: photo for photo in from_csv(drawn_csv)}
    for index, row in enumerate(mouths.rows):
        photo = photos[row["file"]]
        assert photo.eyes is not None
        mouth, pixels = locate_part(*eyes_from_points(*photo.eyes), "mouth"), read_pixels(photo)
        assert mouth.side == "right"  # so that it is not mirrored
        assert (mouths.eyes[index] == crop_eye(pixels, mouth, 64)[None]).all()
        assert (mouths.eyes_wide[index] == crop_eye(pixels, mouth, 96, context=1.5)[None]).all()


def test_the_faces_are_those_of_pairs_of_eyes(mouths: Pairs, small_pairs: Pairs) -> None:
    assert (mouths.faces == small_pairs.faces).all()
    for name in ("file", "eye_distance_px"):
        assert (mouths.rows[name] == small_pairs.rows[name]).all()


def test_without_labels_the_part_is_where_the_finder_sees_the_eyes(tmp_path: Path, drawn_csv: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    shutil.copyfile(sorted(drawn_csv.with_suffix("").iterdir())[0], folder / "one.jpg")
    finder = KnownEyes(eyes_from_points((0.38, 0.45), (0.62, 0.45)))
    prepare(PrepareSettings(folder, tmp_path / "pairs", part="mouth"), finder=finder)
    (photo,) = from_folder(folder)
    pixels = read_pixels(photo)
    right, left = ((eye.x, eye.y) for eye in finder.detect(pixels).eyes)
    expected = crop_eye(pixels, locate_part(*eyes_from_points(right, left), "mouth"), 64)
    assert (open_pairs(tmp_path / "pairs").eyes == expected).all()


def test_a_folder_of_another_part_is_refused(tmp_path: Path, drawn_csv: Path) -> None:
    settings = PrepareSettings(drawn_csv, tmp_path / "pairs", limit=2)
    prepare(settings)
    with pytest.raises(DataError, match="part was 'eye', is 'mouth'"):
        prepare(replace(settings, part="mouth"))


def test_pairs_of_a_part_have_one_sample_a_row_and_the_faces_unmirrored(mouths: Pairs) -> None:
    assert mouths.part == "mouth"
    dataset = EyeFacePairs(mouths, "train")
    assert len(dataset) == (mouths.rows["split"] == "train").sum()
    for index, (row, side) in enumerate(dataset.samples):
        mouth, face = dataset[index]
        assert side == 0 and (face.permute(1, 2, 0).numpy() == mouths.faces[row]).all()
        assert (mouth.permute(1, 2, 0).numpy() == mouths.eyes[row, 0]).all()
    jittered = EyeFacePairs(mouths, "train", jitter=Jitter())
    assert jittered[SampleKey(0, 0)][0].shape == (3, 64, 64)


def test_systems_that_see_a_part_are_measured(mouths: Pairs, archives: str) -> None:
    encoder = FaceEncoder((8,)).eval().requires_grad_(False)
    benchmark = make_benchmark(mouths, "train", archives, encoder)
    drawn = benchmark.draw(nearest_eye(mouths))
    assert (drawn == benchmark.true).all() and len(drawn) == (mouths.rows["split"] == "train").sum()
    assert benchmark.measure({"it": drawn})["it"].numbers["l2"] == 0.0


@pytest.mark.slow
def test_a_model_of_a_part_says_so_and_the_service_refuses_it(mouths: Pairs, tmp_path: Path) -> None:
    recipe = replace(RECIPES["tiny"], num_steps=2, batch_size=4)
    recipe = replace(recipe, model=replace(recipe.model, face_size=64))
    run = train(recipe, mouths, RunSettings(tmp_path / "run", "", accelerator="cpu"))
    assert json.loads((run / "run.json").read_text())["data"]["settings"]["part"] == "mouth"
    crops = np.array(mouths.eyes[:4, 0])
    export(run, tmp_path / "mouth.onnx", mouths, licence_class="open")
    assert load_synthesizer(tmp_path / "mouth.onnx", "mouth")(crops).shape == (4, 64, 64, 3)
    with pytest.raises(ModelContractUnknown, match="part 'mouth'; expected one that draws them from"):
        Synthesizer.load(tmp_path / "mouth.onnx")
