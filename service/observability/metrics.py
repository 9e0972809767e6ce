"""Prometheus metrics: requests, problems, stages, queue and batches.

Each service has its own registry, so that two of them in one process do not add up.
"""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from service.observability.stage_timer import StageTimer

_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_BATCH_SIZES: Final = (1, 2, 4, 8, 16, 32)


class Metrics:
    """The metrics of one service."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry(auto_describe=True)
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        self._requests = Counter(
            "eye2face_requests", "Answered requests.", ["route", "status"], registry=registry
        )
        self._request_seconds = Histogram(
            "eye2face_request_seconds", "From a request's head to the end of its answer.", ["route"],
            buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self._problems = Counter(
            "eye2face_problems", "Requests refused or failed, by the code of their problem.", ["code"],
            registry=registry,
        )  # fmt: skip
        self._stages = Histogram(
            "eye2face_stage_seconds", "One photo in one stage.", ["stage"],
            buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self._queue_seconds = Histogram(
            "eye2face_queue_seconds", "From the end of an upload until a worker takes it.",
            buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self.batch_sizes = Histogram(
            "eye2face_batch_size", "Eyes in one call of the model.", buckets=_BATCH_SIZES, registry=registry
        )
        # Time series are looked up once: `labels` takes longer than counting.
        self._count, self._duration = cache(self._requests.labels), cache(self._request_seconds.labels)
        self._stage = cache(self._stages.labels)
        self._model = Info("eye2face_model", "The model in use.", registry=registry)

    def add_gauge(self, name: str, meaning: str, read: Callable[[], float]) -> None:
        """Adds a gauge that is read at each scrape."""
        Gauge(f"eye2face_{name}", meaning, registry=self.registry).set_function(read)

    def set_model_info(self, facts: Mapping[str, str]) -> None:
        """Sets the labels of the model and the device that it runs on."""
        self._model.info(dict(facts))

    def count_request(self, route: str, status: int, seconds: float) -> None:
        """Counts an answered request and its duration."""
        self._count(route, status).inc()
        self._duration(route).observe(seconds)

    def count_problem(self, code: str) -> None:
        """Counts a request that was answered with this problem."""
        self._problems.labels(code).inc()

    def observe_photo(self, timer: StageTimer) -> None:
        """Records the queue and the stages of one photo; those that it did not reach spent nothing."""
        self._queue_seconds.observe(timer.queued_ms / 1000)
        for stage, ms in timer.spent_ms.items():
            if ms > 0:
                self._stage(stage).observe(ms / 1000)

    def write(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry)
