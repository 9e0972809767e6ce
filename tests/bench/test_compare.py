"""Throughput of two checkouts, measured in interleaved rounds and printed side by side."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.compare import describe
from bench.servers import ROOT

pytestmark = pytest.mark.slow


def test_checkouts_are_measured_in_turns_and_told_a_line_each() -> None:
    load = ["--connections", "1", "--seconds", "2"]  # a hundred answers on a machine that is not busy
    done = subprocess.run(
        [sys.executable, "-m", "bench.compare", str(ROOT), "--rounds", "2", *load],
        cwd=ROOT, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    ours, other = map(json.loads, done.stdout.splitlines())
    assert ours["checkout"] == other["checkout"] == ROOT.name
    assert ours["per_s_of_ours"] == [1.0, 1.0, 1.0]
    assert ours["per_s"] > 0 and other["per_s"] > 0 and ours["memory_mb"] > 20


def test_a_folder_that_is_no_checkout_is_refused(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench.compare", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert f"{tmp_path} is no checkout of this repository" in done.stderr


def test_throughput_is_told_in_parts_of_ours_in_the_same_round() -> None:
    def rounds(*per_s: float) -> list[dict[str, float]]:
        return [{"per_s": each, "p50_ms": 1.0, "cpu_ms": 2.0, "memory_mb": 3.0} for each in per_s]

    told = describe(rounds(50, 120, 90), rounds(100, 100, 100))
    assert told == {
        "per_s": 90, "p50_ms": 1.0, "cpu_ms": 2.0, "memory_mb": 3.0, "per_s_of_ours": [0.5, 0.9, 1.2],
    }  # fmt: skip
