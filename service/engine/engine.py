"""The engine of one process: the model on its device, the worker pool, and their health."""

import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Final

import cv2

from service.decoding.process_pool import open_reader
from service.decoding.reader import PhotoReader
from service.engine.device_runner import DeviceRunner
from service.engine.model_reload import LoadedModel, ReloadableModel
from service.engine.worker_pool import Work, WorkerPool, WorkItem, attempt
from service.errors import NotReady, Overloaded
from service.inference.synthesizer import Synthesizer
from service.observability.metrics import Metrics
from service.observability.tracing import stage_spans
from service.settings import Settings
from service.system.host import count_cores

HANG_S: Final = 60.0
"""If all workers are busy with one photo for longer, they hang: the largest photos take seconds."""

MAX_FAILURES: Final = 3
"""Consecutive failures of the model after which it counts as broken; a single one may be due to its photo."""

_WORKERS_PER_CORE: Final = 2
"""Workers for each core beside a GPU: while one waits for the device, or for a process that reads, another
has work for the core."""

_SPARE_WORKERS: Final = 1
"""Photos worked on beside those that have a core, on a CPU: one computes while another waits for Python's
lock."""

_LINGER_S: Final = 2.0
"""The server closes the engine when every request is answered or cut: what still runs is of no use."""


class Engine:
    """The loaded model and the workers, from the start of the process to its end."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        """Raises ModelError: the model or the eye finder cannot be used, or not on the configured device."""
        cv2.setNumThreads(1)  # the cores belong to our own workers, one photo each
        self._metrics = metrics
        num_cores = settings.num_threads or count_cores()
        cores = threading.Semaphore(num_cores)
        self.settings = settings
        self._num_cores = num_cores
        self._cores = cores
        self._reader: PhotoReader | None = None
        num_at_once = settings.num_threads or num_cores + _SPARE_WORKERS
        run_with = partial(DeviceRunner, cores=cores, metrics=metrics, num_callers=num_at_once)
        load = partial(LoadedModel.open, settings, run_with, self._open_reader)
        candidate = partial(load, is_candidate=True)
        self.model = ReloadableModel(load(), candidate, self._publish_model_info)
        on_gpu = self.synthesizer.device == "cuda"
        num_workers = num_cores * _WORKERS_PER_CORE if on_gpu else num_at_once
        self.pool = WorkerPool(
            num_workers,
            max_queued=settings.max_queued,
            max_wait_s=settings.max_wait_ms / 1000,
            cores=cores if on_gpu else None,
            trace=stage_spans if settings.tracing else None,
            on_end=metrics.observe_photo,
        )
        self._self_test: WorkItem[None] | None = None
        self._reader_test: WorkItem[None] | None = None
        self._test_failed = False
        self._publish_model_info(self.model.current)
        self._add_gauges(metrics)

    @property
    def synthesizer(self) -> Synthesizer:
        """The model in use; a request keeps one `model.current` instead."""
        return self.model.current.synthesizer

    @property
    def runner(self) -> DeviceRunner:
        """The same model on its device."""
        return self.model.current.runner

    def refuse_unready(self) -> None:
        """Returns if photos can be drawn; waits for nothing.

        After a run of the model that failed, each call asks a worker for a test of it.

        Raises:
            NotReady: they cannot; the sentence names every reason.
        """
        self.pool.replace_dead()
        state = self.pool.state()
        reasons = []
        if state.num_alive < state.num_workers:
            reasons.append(f"{state.num_workers - state.num_alive} of {state.num_workers} workers died")
        if state.shortest_busy_s > HANG_S:
            reasons.append(f"every worker hangs, for {state.shortest_busy_s:.0f} s at least")
        if not self.runner.is_alive:
            reasons.append("the thread that runs the model died")
        reasons += [why for why in (self._model_failure(), self._reader_failure()) if why]
        if reasons:
            raise NotReady(f"Photos cannot be drawn: {'; '.join(reasons)}. See the service's log.")

    def close(self) -> None:
        """Ends the workers, or leaves those that are still busy."""
        self.pool.close(_LINGER_S)
        self.runner.close()
        if self._reader is not None:
            self._reader.close()

    def _open_reader(self, synthesizer: Synthesizer) -> PhotoReader:
        """The photo reader, created for the first model and shared by later ones."""
        if self._reader is None:
            on_gpu = synthesizer.device == "cuda"
            self._reader = open_reader(self.settings, self._num_cores, on_gpu=on_gpu, cores=self._cores)
        return self._reader

    def _model_failure(self) -> str | None:
        last = self.synthesizer.last_run
        if last.error is None:
            self._test_failed = False
            return None
        self._self_test = self._test_again(self._self_test, self._test_model)
        if not self._test_failed and last.num_failed < MAX_FAILURES:
            return None
        what = "its test too" if self._test_failed else f"{last.num_failed} times in a row"
        return f"the model failed {time.monotonic() - last.ended_at:.0f} s ago, {what} ({last.error})"

    def _reader_failure(self) -> str | None:
        if self._reader is None or (failure := self._reader.last_failure) is None:
            return None
        self._reader_test = self._test_again(self._reader_test, self._reader.test)
        return f"photos cannot be read: {failure}"

    def _test_model(self) -> None:
        _, error = attempt(self.runner.test)
        self._test_failed = error is not None

    def _test_again(self, last: WorkItem[None] | None, test: Callable[[], None]) -> WorkItem[None] | None:
        """Submits a test: after a failure perhaps no more photos arrive that would show a recovery."""
        if last is not None and not last.future.done():
            return last
        try:
            item = self.pool.submit(Work.of(lambda _: test()), max_ms=HANG_S * 1000)
        except Overloaded:  # then photos are there, which test it as well
            return last
        item.future.add_done_callback(lambda done: done.cancelled() or done.exception())  # not for the log
        return item

    def _publish_model_info(self, loaded: LoadedModel) -> None:
        names = ("name", "version", "part", "licence_class", "sha256")
        facts = {k: str(v) for k, v in asdict(loaded.synthesizer.info).items() if k in names}
        self._metrics.set_model_info(facts | {"device": loaded.synthesizer.device})

    def _add_gauges(self, metrics: Metrics) -> None:
        pool = self.pool
        metrics.add_gauge("queue_depth", "Photos in the queue.", lambda: pool.state().num_queued)
        metrics.add_gauge("workers", "Live workers.", lambda: pool.state().num_alive)
        metrics.add_gauge("workers_busy", "Busy workers.", lambda: pool.state().num_busy)
        metrics.add_gauge(
            "inference_age_seconds", "Since the model last ran.",
            lambda: time.monotonic() - self.synthesizer.last_run.ended_at,
        )  # fmt: skip
        metrics.add_gauge(
            "inference_ok", "1 if the model's last run succeeded.",
            lambda: float(self.synthesizer.last_run.error is None),
        )  # fmt: skip
