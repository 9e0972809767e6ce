"""Grids and curves: the right pictures at the right places."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from training.data.dataset import EyeFacePairs
from training.data.store import Pairs
from training.loop import previews as pictures


def test_a_grid_shows_eyes_above_drawn_above_true_faces(tiny_pairs: Pairs, tmp_path: Path) -> None:
    dataset = EyeFacePairs(tiny_pairs, "train", num_eyes=2)
    red = np.zeros((3, 16, 16, 3), np.uint8)
    red[..., 0] = 255
    pictures.draw_grid(tmp_path / "new" / "grid.png", dataset, [lambda eyes: red[: len(eyes)]], num_eyes=3)
    grid = cv2.imread(str(tmp_path / "new" / "grid.png"))
    assert grid is not None and grid.shape == (96, 96, 3)
    eye, face = (each.permute(1, 2, 0).numpy() for each in dataset[len(dataset) - 1])
    assert np.array_equal(grid[:32, 64:, ::-1], eye[..., :3])
    assert (grid[32:64] == (0, 0, 255)).all()
    assert np.array_equal(grid[64:, 64:, ::-1], face)


def test_a_grid_of_chosen_samples_goes_on_below_after_twelve(tiny_pairs: Pairs, tmp_path: Path) -> None:
    dataset = EyeFacePairs(tiny_pairs, "train")
    path, samples = tmp_path / "grid.png", [*range(12), 5]
    pictures.draw_grid(path, dataset, [], samples=samples)
    grid = cv2.imread(str(path))
    assert grid is not None and grid.shape == (4 * 32, 12 * 32, 3)
    faces = [dataset[i][1].permute(1, 2, 0).numpy() for i in samples]
    assert np.array_equal(grid[32:64, 11 * 32 :, ::-1], faces[11])
    assert np.array_equal(grid[96:, :32, ::-1], faces[12])
    assert not grid[64:, 32:].any()


def test_curves_are_drawn_from_the_statistics(tmp_path: Path) -> None:
    lines = [{"step": step, "total": 1 / step, "l1": 2 / step, "seconds_per_step": 0.1} for step in (1, 2, 3)]
    (tmp_path / "stats.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    pictures.draw_curves(tmp_path)
    curves = cv2.imread(str(tmp_path / "curves.png"))
    assert curves is not None and curves.min() == 0 and curves.shape[1] > curves.shape[0]


def test_a_term_that_came_later_has_a_shorter_curve(tmp_path: Path) -> None:
    (tmp_path / "stats.jsonl").write_text('{"step": 1, "l1": 2}\n{"step": 2, "l1": 1, "gan": 1}\n')
    pictures.draw_curves(tmp_path)
    assert (tmp_path / "curves.png").exists()


@pytest.mark.parametrize("content", ["", '{"step": 1}\n'])
def test_a_run_without_statistics_has_no_curves(tmp_path: Path, content: str) -> None:
    (tmp_path / "stats.jsonl").write_text(content)
    pictures.draw_curves(tmp_path)
    assert not (tmp_path / "curves.png").exists()
