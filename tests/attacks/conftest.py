"""The service that is attacked: one for all attacks, with a small model."""

from collections.abc import Iterator

import pytest

from tests.attacks.target import Target
from tests.fakes import tiny_model
from tests.running import running_service


@pytest.fixture(scope="package")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    folder = tmp_path_factory.mktemp("attacked")
    with running_service(folder, model=tiny_model(folder / "tiny.onnx"), max_wait_ms=60_000) as service:
        yield Target(int(service.address.rpartition(":")[2]), service.process.pid)
        said = service.log.read_text()
        assert "Traceback" not in said and "RecursionError" not in said, said[-3000:]
