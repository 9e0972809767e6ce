"""The service does what its OpenAPI document says, whatever is sent: schemathesis makes the requests.

A short run by default; `make fuzz` sends more, and so does FUZZ_EXAMPLES=1000 with this file.
"""

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS, load_all_checks

from service.http.app import create_app
from service.settings import Settings
from tests.fakes import astronaut, encoded
from tests.running import serving

pytestmark = pytest.mark.slow

NUM_EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "12"))
"""For each route."""

KEY = "open sesame"
PHOTO = encoded(astronaut()[:256, 96:352], "jpeg")
GRAY = encoded(np.full((40, 30, 3), 128, np.uint8))


def damaged(photo: bytes) -> st.SearchStrategy[bytes]:
    """The photo cut off somewhere, or with one byte changed."""
    place = st.integers(0, len(photo) - 1)
    changed = st.tuples(place, st.binary(min_size=1, max_size=1))
    return place.map(lambda end: photo[:end]) | changed.map(
        lambda change: photo[: change[0]] + change[1] + photo[change[0] + 1 :]
    )


PICTURES = st.sampled_from([PHOTO, GRAY]) | damaged(PHOTO) | damaged(GRAY) | st.binary(max_size=300)
schemathesis.openapi.format("binary", PICTURES)
schemathesis.openapi.media_type("image/*", PICTURES)

load_all_checks()
WANTED = CHECKS.get_by_names(
    [
        "status_code_conformance",
        "content_type_conformance",
        "response_headers_conformance",
        "response_schema_conformance",
    ]
)
DOCUMENT = create_app(Settings()).openapi()
INTERFACE = schemathesis.openapi.from_dict(DOCUMENT)
ROUTES = [(path, method.upper()) for path, item in DOCUMENT["paths"].items() for method in item]


@pytest.fixture(scope="module")
def address(model: Path) -> Iterator[str]:
    hashes = (hashlib.sha256(KEY.encode()).hexdigest(),)
    known = Settings(model=str(model), device="cpu", api_keys=hashes, max_upload_bytes=10**6)
    with serving(create_app(known)) as address:
        yield address


def explore(strategy: st.SearchStrategy[Any], act: Callable[[Any], None]) -> None:
    """Calls `act` with examples; hypothesis shrinks the one that fails."""

    @settings(
        max_examples=NUM_EXAMPLES,
        derandomize=NUM_EXAMPLES < 100,  # a short run is the same each time, a long one looks further
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def explored(example: Any) -> None:
        act(example)

    explored()


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: str(mode.name).lower())
@pytest.mark.parametrize(("path", "method"), ROUTES)
def test_every_answer_is_as_documented_and_none_is_a_failure_of_the_service(
    address: str, path: str, method: str, mode: GenerationMode
) -> None:
    def ask(case: Any) -> None:
        answer = case.call(base_url=address, headers={"X-API-Key": KEY}, timeout=60)
        case.validate_response(answer, checks=WANTED)
        # Who gives a photo next to no time is told, as documented, that it was not enough.
        in_vain = answer.status_code == 504 and "X-Deadline-Ms" in (case.headers or {})
        assert answer.status_code < 500 or in_vain, answer.text

    try:
        explore(INTERFACE[path][method].as_strategy(generation_mode=mode), ask)
    except Unsatisfiable:  # what takes nothing cannot be given wrong things
        assert (
            mode is GenerationMode.NEGATIVE and "requestBody" not in DOCUMENT["paths"][path][method.lower()]
        )
