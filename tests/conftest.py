"""What all tests share: property tests without time limits, for other work on the machine is no failure."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("shared machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared machine")

TRAINING = Path(__file__).parent / "training"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Training's tests compute, each on one core."""
    for item in items:
        if TRAINING in item.path.parents:
            item.add_marker(pytest.mark.beside_others)
