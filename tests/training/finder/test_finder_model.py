"""The detector network: its output maps, their targets, and the loss."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from training.finder.finder_model import (
    DISTANCE_UNIT_PX,
    MAPS,
    NUM_TARGETS,
    STRIDE,
    EyeFinderNet,
    detection_loss,
    target_maps,
)
from training.finder.scenes import EyeLabel

EYE = EyeLabel(x=101.5, y=62.5, distance=64.0, roll=0.5, left=True, sure=True)
"""Its center is a quarter of a cell right of that of column 25 (pixel 101.5) and of row 15 (61.5)."""


def perfect_maps(wanted: torch.Tensor) -> torch.Tensor:
    maps = wanted[:, : len(MAPS)].clone()
    maps[:, 0] = torch.where(wanted[:, 0] == 1, 12.0, -12.0)
    maps[:, 4] = (wanted[:, 4] * 2 - 1) * 12
    return maps


def test_maps_are_a_quarter_of_the_picture() -> None:
    maps = EyeFinderNet().eval()(torch.rand(2, 3, 64, 96) * 255)
    assert maps.shape == (2, len(MAPS), 16, 24)


def test_a_dark_picture_gives_the_maps_of_a_bright_one() -> None:
    torch.manual_seed(0)
    net = EyeFinderNet().eval()
    bright, other = (torch.rand(1, 3, 64, 64) * 255 for _ in range(2))
    with torch.no_grad():
        maps, dark, different = (net(each) for each in (bright, bright * 0.3 + 20, other))
    # The spread has a small constant added, so that a black picture divides by no zero.
    assert (dark - maps).abs().max() < 0.1 * (different - maps).abs().max()


def test_targets_say_where_and_what_an_eye_is() -> None:
    maps = target_maps([EYE], side=128)
    assert maps.shape == (NUM_TARGETS, 32, 32)
    row, column = np.unravel_index(maps[0].argmax(), maps[0].shape)
    assert (row, column) == (15, 25)
    x = (column + maps[1, row, column]) * STRIDE + (STRIDE - 1) / 2
    y = (row + maps[2, row, column]) * STRIDE + (STRIDE - 1) / 2
    np.testing.assert_allclose((x, y), (EYE.x, EYE.y), atol=1e-4)
    expected = [math.log(64 / DISTANCE_UNIT_PX), 1, *(f(0.5) for f in (math.cos, math.sin))]
    np.testing.assert_allclose(maps[3:7, row, column], expected, atol=1e-6)
    np.testing.assert_allclose(maps[7:9, row, column], [-math.cos(0.5), -math.sin(0.5)], atol=1e-6)


def test_each_eye_counts_once_however_large_it_is() -> None:
    small = EyeLabel(20, 20, 8, 0, False, True)
    near = target_maps([EYE, small], side=128)[9]
    np.testing.assert_allclose(near.sum(), 2, atol=1e-5)


def test_nothing_is_learned_where_an_eye_is_not_sure() -> None:
    unsure = EyeLabel(EYE.x, EYE.y, EYE.distance, EYE.roll, EYE.left, sure=False)
    maps = target_maps([unsure], side=128)
    assert maps[0].max() == 0
    assert maps[10, 15, 25] == 0
    assert maps[10, 0, 0] == 1


def test_perfect_maps_cost_next_to_nothing_and_any_wrong_one_costs() -> None:
    wanted = torch.from_numpy(target_maps([EYE], side=128))[None]
    best, terms = detection_loss(perfect_maps(wanted), wanted)
    assert best < 1e-3
    assert set(terms) == {"heat", "offset", "size", "left", "roll", "partner"}
    for channel in range(len(MAPS)):
        wrong = perfect_maps(wanted)
        wrong[:, channel] = -wrong[:, channel] if channel in (0, 4) else wrong[:, channel] + 1
        assert detection_loss(wrong, wanted)[0] > best + 0.01, MAPS[channel]


def test_a_false_eye_costs_only_where_heat_is_learned() -> None:
    unsure = EyeLabel(EYE.x, EYE.y, EYE.distance, EYE.roll, EYE.left, sure=False)
    wanted = torch.from_numpy(target_maps([unsure], side=128))[None]
    there, elsewhere = perfect_maps(wanted), perfect_maps(wanted)
    there[0, 0, 15, 25] = elsewhere[0, 0, 2, 2] = 12.0
    assert detection_loss(there, wanted)[0] < 1e-3
    assert detection_loss(elsewhere, wanted)[0] > 1


def test_a_crowd_counts_as_much_as_a_close_up() -> None:
    crowd = [EyeLabel(16.0 * n + 20, 40, 10, 0, False, True) for n in range(6)]
    pictures = [target_maps(eyes, side=128) for eyes in ([EYE], crowd)]
    wanted = torch.from_numpy(np.stack(pictures))
    losses = []
    for at in (0, 1):
        maps = perfect_maps(wanted)
        maps[at, 3] += 1  # the size of every eye of one picture is wrong
        losses.append(float(detection_loss(maps, wanted)[1]["size"]))
    np.testing.assert_allclose(losses, 0.5, rtol=1e-4)


def test_a_center_off_by_a_part_of_the_eye_costs_alike_for_small_and_large_eyes() -> None:
    costs = []
    for distance in (16.0, 64.0):
        wanted = torch.from_numpy(target_maps([replace(EYE, distance=distance)]))[None]
        maps = perfect_maps(wanted)
        maps[:, 1] += 0.1 * distance / STRIDE
        costs.append(float(detection_loss(maps, wanted)[1]["offset"]))
    assert costs[0] == pytest.approx(costs[1], rel=0.02)


def test_the_heat_of_a_large_eye_is_wider() -> None:
    small, large = (target_maps([replace(EYE, distance=distance)])[0] for distance in (8.0, 200.0))
    assert (small > 0.3).sum() < 8
    # A twentieth of the eye distance is 2.5 cells: a disc of 3.9 cells around the center.
    assert (large > 0.3).sum() == pytest.approx(np.pi * 2.5**2 * 2 * np.log(1 / 0.3), rel=0.15)
