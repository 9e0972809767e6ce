"""Drawn photos and their pairs, made once for all tests of training."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.drawn_faces import DrawnPhoto, draw_photos, write_csv
from tests.training.perceptual import write_archives
from tests.training.tiny import TINY
from training.data.prepare import PrepareSettings, prepare
from training.data.store import Pairs, open_pairs
from training.export.onnx import export
from training.synthesizer.train import RunSettings, train


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Sums in one order, and no threads that wait for each other on a busy machine."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def drawn_photos() -> list[DrawnPhoto]:
    """24 drawn photos of a dozen people."""
    return list(draw_photos(24, seed=0))


@pytest.fixture(scope="session")
def drawn_csv(tmp_path_factory: pytest.TempPathFactory, drawn_photos: list[DrawnPhoto]) -> Path:
    """The drawn photos, as files with a labeled CSV."""
    return write_csv(tmp_path_factory.mktemp("drawn"), drawn_photos)


@pytest.fixture(scope="session")
def drawn_folder(tmp_path_factory: pytest.TempPathFactory, drawn_csv: Path) -> Path:
    """The drawn photos, prepared at 128 px; not to be written to."""
    out = tmp_path_factory.mktemp("pairs") / "drawn"
    prepare(PrepareSettings(drawn_csv, out, face_size=128, chunk=8))
    return out


@pytest.fixture(scope="session")
def drawn_pairs(drawn_folder: Path) -> Pairs:
    """They, opened."""
    return open_pairs(drawn_folder)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory, drawn_csv: Path) -> Path:
    """The drawn photos, prepared at 32 px; a third of the training persons are `dev`."""
    out = tmp_path_factory.mktemp("pairs") / "tiny"
    settings = PrepareSettings(drawn_csv, out, eye_size=32, wide_size=48, face_size=32, dev_part=0.33)
    prepare(settings)
    return out


@pytest.fixture(scope="session")
def tiny_pairs(tiny_folder: Path) -> Pairs:
    """They, opened."""
    return open_pairs(tiny_folder)


@pytest.fixture(scope="session")
def small_folder(tmp_path_factory: pytest.TempPathFactory, drawn_csv: Path) -> Path:
    """The drawn photos, with faces of 64 px as in the experiment; a third of the people are `dev`."""
    out = tmp_path_factory.mktemp("pairs") / "small"
    prepare(PrepareSettings(drawn_csv, out, face_size=64, dev_part=0.33))
    return out


@pytest.fixture(scope="session")
def small_pairs(small_folder: Path) -> Pairs:
    """They, opened."""
    return open_pairs(small_folder)


@pytest.fixture(scope="session")
def archives(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of small perceptual networks of random weights."""
    return str(write_archives(tmp_path_factory.mktemp("archives")))


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_pairs: Pairs) -> Path:
    """A short run's folder; not to be written to."""
    recipe = replace(TINY, num_steps=20)
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    return train(recipe, tiny_pairs, RunSettings(folder, "", accelerator="cpu", preview_every=0))


@pytest.fixture(scope="session")
def exported(run: Path, tiny_pairs: Pairs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of that run."""
    path = tmp_path_factory.mktemp("models") / "tiny.onnx"
    export(run, path, tiny_pairs, licence_class="open", version="7", metrics={"l2": 0.25})
    return path
