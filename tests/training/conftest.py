"""Drawn photos and their pairs, made once for all tests of training."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.drawn_faces import DrawnPhoto, draw_photos, write_csv
from tests.training.exported import FACTS
from tests.training.perceptual import write_archives
from training.data.dataset import EyeFacePairs
from training.data.face_parts import add_part
from training.data.prepare import PrepareSettings, prepare
from training.data.store import Pairs, open_pairs
from training.export.onnx import export
from training.synthesizer.recipes import RECIPES
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
    """They, as files with a labelled CSV."""
    return write_csv(tmp_path_factory.mktemp("drawn"), drawn_photos)


@pytest.fixture(scope="session")
def drawn_folder(tmp_path_factory: pytest.TempPathFactory, drawn_csv: Path) -> Path:
    """They, prepared at the usual sizes; not to be written to."""
    out = tmp_path_factory.mktemp("pairs") / "drawn"
    prepare(PrepareSettings(drawn_csv, out, chunk=8), progress=False)
    return out


@pytest.fixture(scope="session")
def drawn_pairs(drawn_folder: Path) -> Pairs:
    """They, opened."""
    return open_pairs(drawn_folder)


@pytest.fixture(scope="session")
def eyes(drawn_pairs: Pairs) -> Tensor:
    """The eyes of its `train` split, B x 3 x 64 x 64 in 0…1."""
    dataset = EyeFacePairs(drawn_pairs, "train")
    return torch.stack([dataset[i][0] for i in range(len(dataset))]).float() / 255


@pytest.fixture(scope="session")
def small_folder(tmp_path_factory: pytest.TempPathFactory, drawn_csv: Path) -> Path:
    """They, with mouths and faces of 64 px, as the experiment wants them; a third of the training persons
    are `dev`."""
    out = tmp_path_factory.mktemp("pairs") / "small"
    add_part(PrepareSettings(drawn_csv, out, face_size=64, dev_part=0.33), "mouth", progress=False)
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
def run(tmp_path_factory: pytest.TempPathFactory, drawn_pairs: Pairs) -> Path:
    """A short run's folder; not to be written to."""
    recipe = replace(RECIPES["tiny"], num_steps=20, batch_size=8)
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    return train(recipe, drawn_pairs, RunSettings(folder, "", accelerator="cpu"))


@pytest.fixture(scope="session")
def exported(run: Path, drawn_pairs: Pairs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of that run."""
    path = tmp_path_factory.mktemp("models") / "tiny.onnx"
    export(run, path, FACTS, drawn_pairs.eyes[:, 0])
    return path
