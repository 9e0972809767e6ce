"""Grids and curves: the right pictures at the right places."""

import json
from pathlib import Path

import cv2
import numpy as np

from training.loop import previews as pictures


def test_rows_stand_under_each_other_enlarged_to_the_last(tmp_path: Path) -> None:
    red, blue = np.zeros((2, 4, 4, 3), np.uint8), np.zeros((2, 8, 8, 3), np.uint8)
    red[..., 0], blue[..., 2] = 255, 255
    pictures.write_rows(tmp_path / "grid.png", [red, blue])
    grid = cv2.imread(str(tmp_path / "grid.png"))
    assert grid is not None and grid.shape == (16, 16, 3)
    assert grid[0, 0].tolist() == [0, 0, 255] and grid[15, 15].tolist() == [255, 0, 0]


def test_curves_are_drawn_from_the_statistics(tmp_path: Path) -> None:
    lines = [{"step": step, "total": 1 / step, "l1": 2 / step, "seconds_per_step": 0.1} for step in (1, 2, 3)]
    (tmp_path / "stats.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    pictures.draw_curves(tmp_path)
    curves = cv2.imread(str(tmp_path / "curves.png"))
    assert curves is not None and curves.min() == 0 and curves.shape[1] > curves.shape[0]


def test_a_run_without_statistics_has_no_curves(tmp_path: Path) -> None:
    (tmp_path / "stats.jsonl").write_text("")
    pictures.draw_curves(tmp_path)
    assert not (tmp_path / "curves.png").exists()
