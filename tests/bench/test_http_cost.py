"""CPU time of the HTTP layer, measured on real servers whose responses are checked."""

import pytest
import uvloop

from bench.http_cost import ROWS, ask, describe, measure
from bench.load import write_request
from tests.running import serving

pytestmark = pytest.mark.slow


def test_each_row_is_measured_in_each_round() -> None:
    told = measure(list(ROWS), num_rounds=2, num_requests=40)
    assert {name: len(each) for name, each in told.items()} == {row.name: 2 for row in ROWS}
    medians = {name: each["median_us"] for name, each in describe(told).items()}
    # A photo that were worked on would cost ten milliseconds.
    assert 0 < medians["empty route, raw"] < medians["eye2face, raw"] < 4000


def test_an_answer_that_is_no_face_ends_the_measurement() -> None:
    from fastapi import FastAPI

    with serving(FastAPI()) as address, pytest.raises(RuntimeError, match="answered with 404"):
        uvloop.run(ask(int(address.rpartition(":")[2]), write_request("/synthesize", b"x", "raw"), 16))
