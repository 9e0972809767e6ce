"""The soak in small: every kind of request is sent to the real service, and is answered as it should be."""

import json
import subprocess
import sys

import pytest

from bench.servers import ROOT

pytestmark = pytest.mark.slow

EXPECTED = {
    "raw": {200},
    "multipart": {200},
    "eyes": {200},
    "slow": {200},
    "readyz": {200},
    "metrics": {200},
    "models": {200},
    "aborted": {-1},
    "no picture": {415},
    "cut off": {422},
    "surplus pixels": {422},
    "empty": {400},
    "odd question": {422},
    "wrong type": {415},
    "broken form": {400},
    "nowhere": {404},
}


def test_every_kind_of_request_is_answered_as_it_should_be() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench.soak", "--requests", "600"],
        cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads("{" + done.stdout.partition("\n{\n")[2])
    assert {kind: set(map(int, told["statuses"][kind])) for kind in EXPECTED} == EXPECTED
    assert told["faults"] == told["good_without_answer"] == 0
    assert {name for name, endings in told["attacks"].items() if set(endings) & {"400", "431"}}
    assert told["livez_p99_ms"] > 0
    assert abs(told["last"]["threads"] - told["first"]["threads"]) <= 8
