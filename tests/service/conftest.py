"""A running service with the tiny model and the real finder, and a broker and a Frigate to go with it."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from starlette.testclient import TestClient

from service.http.app import create_app
from service.settings import Settings
from tests.fakes import astronaut, encoded, tiny_model
from tests.mqtt import Mosquitto, Wire
from tests.running import run_service
from tests.troubled import Server, Trouble, answer, make_trouble, snapshots


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
    with run_service(model=model, max_pixels=1_000_000) as address:
        yield address


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    """A real mosquitto that runs."""
    broker = Mosquitto(tmp_path / "mosquitto")
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture
def wire(broker: Mosquitto) -> Iterator[Wire]:
    """A listener to it, which speaks for Frigate too."""
    wire = Wire(broker.port)
    yield wire
    wire.close()


@pytest.fixture(scope="session")
def snapshot() -> bytes:
    """What Frigate crops around a person: her head and shoulders, a JPEG."""
    return encoded(astronaut()[0:256, 96:352], "jpeg", quality=90)


@pytest.fixture
def frigate(snapshot: bytes) -> Iterator[Server]:
    """A stand-in for Frigate's API that gives the snapshot for every event."""
    with make_trouble([], then=snapshots(snapshot)) as server:
        yield server


@pytest.fixture(scope="session")
def ready_answer(address: str, snapshot: bytes) -> Trouble:
    """The real service's answer to the snapshot, for tests that need more of them than it can give."""
    headers = {"accept": "application/json", "content-type": "image/jpeg"}
    got = httpx.post(f"{address}/synthesize", content=snapshot, headers=headers, timeout=60)
    assert got.status_code == 200
    return answer(200, got.content, content_type="application/json")
