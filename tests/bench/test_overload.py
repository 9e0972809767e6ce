"""Overload, scaled down: excess requests are refused at once, and the others are answered."""

import json
import subprocess
import sys

import pytest

from bench.servers import ROOT

pytestmark = pytest.mark.slow


def test_too_much_is_refused_and_the_rest_answered() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench.overload", "--factors", "4", "--seconds", "1.5"],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    at_capacity, flooded, afterwards = map(json.loads, done.stdout.splitlines())
    assert flooded["other"] == 0
    assert flooded["refused"] > 0
    assert flooded["goodput_of_capacity"] > 0.15  # a collapse is near 0, and neighbors take a lot
    assert flooded["livez_p99_ms"] > 0
    assert afterwards["afterwards_per_s"] > at_capacity["capacity_per_s"] * 0.2
