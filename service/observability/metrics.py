"""Numbers for Prometheus: how long each stage takes, what waits, what is refused; imports nothing of ours.

Each service has a registry of its own, so that two of them in one process do not add up.
"""

from collections.abc import Callable, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

MEDIA_TYPE: Final = CONTENT_TYPE_LATEST

_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_SIZES: Final = (1, 2, 4, 8, 16, 32)


class Metrics:
    """What one service counts and measures."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry(auto_describe=True)
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        self._requests = Counter(
            "eye2face_requests", "Requests answered.", ["route", "status"], registry=registry
        )
        self._by_route: dict[tuple[str, int], tuple[Counter, Histogram]] = {}
        self._seconds = Histogram(
            "eye2face_request_seconds", "From a request's head to the end of its answer.", ["route"],
            buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self._problems = Counter(
            "eye2face_problems", "Requests refused or failed, by the code of their problem.", ["code"],
            registry=registry,
        )  # fmt: skip
        self._stages = Histogram(
            "eye2face_stage_seconds",
            "One photo in one stage.",
            ["stage"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._by_stage: dict[str, Histogram] = {}
        self._waits = Histogram(
            "eye2face_queue_seconds", "From the end of an upload until a worker takes it.",
            buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self._batches = Histogram(
            "eye2face_batch_size", "Eyes in one call of the model.", buckets=_SIZES, registry=registry
        )
        self._model = Info("eye2face_model", "The model that answers.", registry=registry)

    def add_gauge(self, name: str, meaning: str, read: Callable[[], float]) -> None:
        """Adds a gauge that is read when somebody asks for the numbers."""
        Gauge(f"eye2face_{name}", meaning, registry=self.registry).set_function(read)

    def set_model_info(self, facts: Mapping[str, str]) -> None:
        """Names the model and the device that it runs on."""
        self._model.info(dict(facts))

    def count_request(self, route: str, status: int, seconds: float) -> None:
        """One request was answered."""
        counted = self._by_route.get((route, status))
        if counted is None:  # labels() takes longer than to count
            counted = self._requests.labels(route, str(status)), self._seconds.labels(route)
            self._by_route[route, status] = counted
        counted[0].inc()
        counted[1].observe(seconds)

    def count_problem(self, code: str) -> None:
        """One request was answered with this problem."""
        self._problems.labels(code).inc()

    def observe_stages(self, spent_ms: Mapping[str, float]) -> None:
        """One photo was worked on; stages that it did not come to spent nothing."""
        for stage, ms in spent_ms.items():
            if ms <= 0:
                continue
            counted = self._by_stage.get(stage)
            if counted is None:
                counted = self._by_stage[stage] = self._stages.labels(stage)
            counted.observe(ms / 1000)

    def observe_queue_wait(self, seconds: float) -> None:
        """A worker took a photo that had waited so long."""
        self._waits.observe(seconds)

    def observe_batch_size(self, num_items: int) -> None:
        """The model was called with so many eyes."""
        self._batches.observe(num_items)

    def write(self) -> bytes:
        """All of it, in Prometheus' text format."""
        return generate_latest(self.registry)
