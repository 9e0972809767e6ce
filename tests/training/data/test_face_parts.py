"""Crops of the mouth and the nose beside those of the eyes: where they are, and how they are used."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from service.errors import ModelContractUnknown
from service.inference.synthesizer import Synthesizer
from service.vision.eyes import crop_eye, eyes_from_points
from service.vision.haar import HaarEyeFinder
from tests.drawn_faces import DrawnPhoto
from tests.fakes import KnownEyes
from training.data import face_parts
from training.data.augmentation import Jitter
from training.data.dataset import EyeFacePairs, SampleKey
from training.data.face_alignment import align_face
from training.data.face_parts import add_part, locate_part
from training.data.photos import Photo, from_csv
from training.data.prepare import PrepareSettings, photos_of, prepare, read_pixels
from training.data.store import Pairs, Part, open_pairs
from training.errors import DataError
from training.evaluation import evaluate as evaluation
from training.export.onnx import ModelMetadata, export
from training.synthesizer.recipes import RECIPES
from training.synthesizer.train import RunSettings, train


@pytest.fixture
def settings(tmp_path: Path, drawn_csv: Path, drawn_folder: Path) -> PrepareSettings:
    """Those of a finished folder without other parts, a copy that may be written to."""
    return PrepareSettings(drawn_csv, Path(shutil.copytree(drawn_folder, tmp_path / "pairs")), chunk=8)


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
        centre = (columns * face).sum() / face.sum() / 128, (rows * face).sum() / face.sum() / 128
        assert centre == pytest.approx(at, abs=0.015)


def test_the_nose_is_where_it_is_drawn(drawn_photos: list[DrawnPhoto]) -> None:
    far = []
    for photo in drawn_photos:
        right, left = eyes_from_points(photo.right, photo.left)
        nose = locate_part(right, left, "nose")
        far.append(np.hypot(nose.x - photo.nose[0], nose.y - photo.nose[1]) / (nose.size_px / 0.8))
    assert np.median(far) < 0.1


def test_the_crops_on_disk_are_cut_at_the_part_of_each_rows_photo(settings: PrepareSettings) -> None:
    add_part(settings, "mouth", progress=False)
    pairs, photos = open_pairs(settings.out), {photo.file: photo for photo in from_csv(settings.source)}
    crops, wide = pairs.others["mouth"]
    for index, row in enumerate(pairs.rows):
        photo = photos[row["file"]]
        assert photo.eyes is not None
        mouth, pixels = locate_part(*eyes_from_points(*photo.eyes), "mouth"), read_pixels(photo)
        assert mouth.side == "right"  # so that it is not mirrored
        assert (crops[index] == crop_eye(pixels, mouth, 64)).all()
        assert (wide[index] == crop_eye(pixels, mouth, 96, context=1.5)).all()


def test_adding_a_part_leaves_what_was_there_and_does_nothing_twice(
    settings: PrepareSettings, drawn_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add_part(settings, "nose", progress=False)
    for path in drawn_folder.iterdir():
        assert (settings.out / path.name).read_bytes() == path.read_bytes()
    before = {path: path.stat().st_mtime_ns for path in settings.out.iterdir()}
    add_part(settings, "nose")
    assert {path: path.stat().st_mtime_ns for path in settings.out.iterdir()} == before
    assert "holds the crops of the nose: nothing to do" in capsys.readouterr().err
    assert json.loads((settings.out / "nose.json").read_text())["part"] == "nose"


def test_a_part_that_was_cut_off_goes_on_to_the_same_bytes(
    settings: PrepareSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    cropped: list[str] = []

    def read(photo: Photo) -> np.ndarray:
        cropped.append(photo.file)
        if len(cropped) == 13:
            raise Killed
        return read_pixels(photo)

    monkeypatch.setattr(face_parts, "read_pixels", read)
    with pytest.raises(Killed):
        add_part(settings, "mouth", progress=False)
    assert open_pairs(settings.out).others == {}
    with (settings.out / "mouth.npy").open("ab") as file:  # half of the next chunk
        file.write(b"half a row")
    add_part(settings, "mouth", progress=False)
    assert cropped.count(cropped[0]) == 1  # the first chunk was not made again
    resumed = {name: (settings.out / name).read_bytes() for name in ("mouth.npy", "mouth_wide.npy")}
    (settings.out / "mouth.json").unlink()
    for name in resumed:
        (settings.out / name).unlink()
    add_part(settings, "mouth", progress=False)
    assert resumed == {name: (settings.out / name).read_bytes() for name in resumed}


def test_without_labels_the_part_is_where_the_finder_sees_the_eyes(tmp_path: Path, drawn_csv: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    first = sorted(drawn_csv.with_suffix("").iterdir())[0]
    shutil.copyfile(first, folder / "one.jpg")
    settings = PrepareSettings(folder, tmp_path / "pairs")
    finder = KnownEyes(eyes_from_points((0.38, 0.45), (0.62, 0.45)))
    add_part(settings, "mouth", finder=finder, progress=False)
    ((crop,), _) = open_pairs(settings.out).others["mouth"]
    (photo,) = photos_of(settings)
    pixels = read_pixels(photo)
    right, left = ((eye.x, eye.y) for eye in finder.detect(pixels).eyes)
    assert (crop == crop_eye(pixels, locate_part(*eyes_from_points(right, left), "mouth"), 64)).all()


def test_a_folder_of_another_finder_is_refused(tmp_path: Path, drawn_csv: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    shutil.copyfile(sorted(drawn_csv.with_suffix("").iterdir())[0], folder / "one.jpg")
    settings = PrepareSettings(folder, tmp_path / "pairs")
    prepare(settings, finder=HaarEyeFinder(), progress=False)
    with pytest.raises(DataError, match="points was 'HaarEyeFinder', is 'KnownEyes'"):
        add_part(settings, "mouth", finder=KnownEyes(), progress=False)


def test_pairs_of_a_part_have_one_sample_a_row_and_the_faces_unmirrored(small_pairs: Pairs) -> None:
    mouths = small_pairs.of_part("mouth")
    assert small_pairs.of_part("eye") is small_pairs and mouths.manifest["settings"]["part"] == "mouth"
    dataset = EyeFacePairs(mouths, "train")
    assert len(dataset) == (small_pairs.rows["split"] == "train").sum()
    for index, (row, side) in enumerate(dataset.samples):
        mouth, face = dataset[index]
        assert side == 0 and (face.permute(1, 2, 0).numpy() == small_pairs.faces[row]).all()
        assert (mouth.permute(1, 2, 0).numpy() == small_pairs.others["mouth"][0][row]).all()
    jittered = EyeFacePairs(mouths, "train", jitter=Jitter())
    assert jittered[SampleKey(0, 0)][0].shape == (3, 64, 64)


def test_a_folder_without_a_part_says_how_to_add_it(drawn_pairs: Pairs) -> None:
    with pytest.raises(DataError, match=r"no crops of the nose: add them with .* --part nose"):
        drawn_pairs.of_part("nose")


@pytest.mark.parametrize(
    ("written", "said"), [("{", "damaged"), ('{"part": "mouth"}', "prepare the part anew")]
)
def test_a_damaged_note_of_a_part_is_named(settings: PrepareSettings, written: str, said: str) -> None:
    (settings.out / "mouth.json").write_text(written)
    with pytest.raises(DataError, match=rf"mouth\.json.*{said}"):
        open_pairs(settings.out)


@pytest.mark.parametrize("name", ["mouth.npy", "mouth_wide.npy"])
def test_a_damaged_array_of_a_part_is_named(settings: PrepareSettings, name: str) -> None:
    add_part(settings, "mouth", progress=False)
    (settings.out / name).write_bytes(b"")
    with pytest.raises(DataError, match=rf"{name} cannot be read"):
        open_pairs(settings.out)


@pytest.mark.slow
def test_a_model_of_a_part_says_so_and_the_service_refuses_it(
    small_pairs: Pairs, drawn_pairs: Pairs, tmp_path: Path
) -> None:
    recipe = replace(RECIPES["tiny"], part="mouth", num_steps=2, batch_size=4)
    recipe = replace(recipe, model=replace(recipe.model, face_size=64))
    with pytest.raises(DataError, match="no crops of the mouth"):
        train(recipe, drawn_pairs, RunSettings(tmp_path / "never", "", accelerator="cpu"))
    run = train(recipe, small_pairs, RunSettings(tmp_path / "run", "", accelerator="cpu"))
    assert json.loads((run / "run.json").read_text())["data"]["settings"]["part"] == "mouth"
    facts = ModelMetadata("mouth", "1", "tiny", "l1", "drawn", "open", "abc", {}, part="mouth")
    mouths = np.array(small_pairs.of_part("mouth").eyes[:4, 0])
    export(run, tmp_path / "mouth.onnx", facts, mouths)
    assert evaluation.load_system(tmp_path / "mouth.onnx", "mouth")(mouths).shape == (4, 64, 64, 3)
    with pytest.raises(ModelContractUnknown, match="part 'mouth'; expected one that draws them from"):
        Synthesizer.load(tmp_path / "mouth.onnx")
