"""A running service with the tiny model and the real finder, shared by the tests that speak HTTP."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from service.app import create_app
from service.settings import Settings
from tests.fakes import astronaut, encoded, tiny_model
from tests.running import run_service


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real ONNX file that answers the eye itself."""
    return tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx")


@pytest.fixture(scope="session")
def client(model: Path) -> Iterator[TestClient]:
    """Speaks to the service as a caller would, but without a network."""
    app = create_app(Settings(model=str(model), device="cpu", num_threads=2))
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture(scope="session")
def photo() -> bytes:
    """NASA's astronaut as a JPEG."""
    return encoded(astronaut(), "jpeg", quality=92)


@pytest.fixture(scope="session")
def address(model: Path) -> Iterator[str]:
    """Where a service of its own process listens, with the tiny model, for photos of a million pixels."""
    with run_service(model, EYE2FACE_MAX_PIXELS="1000000") as address:
        yield address
