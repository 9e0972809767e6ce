"""A pool of decoder processes, sandboxed where the system supports it.

One Python process runs Python on one core at a time. Beside a GPU, which draws faster than that, photos are
read by processes of their own, as many as there are cores. A photo that crashes a decoder, or keeps it busy
for ever, ends one of them and not the service; code that breaks out of a decoder sees the photos of its
process and reaches nothing else.
"""

import logging
import queue
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final, Literal, TypeVar

from service.decoding.decoder_process import DecoderProcess
from service.decoding.messages import KnownError, Result, StageTimes
from service.decoding.reader import InProcessReader, PhotoReader, PhotoTask, ReadRequest, pixel_memory
from service.errors import ModelError, SandboxMissing
from service.inference.eye_finder import open_eye_finder
from service.observability.stage_timer import StageTimer
from service.settings import Sandbox, Settings

T = TypeVar("T")

_MAX_READERS: Final = 32
"""Beside a GPU, unless the settings ask for more: this process has half a millisecond of Python and more to
do for each photo, on one core; one that reads photos of 1080p takes some 15 for each, and 100 MB."""

_POLL_S: Final = 0.05
_log = logging.getLogger(__name__)


def open_reader(
    settings: Settings, num_cores: int, *, on_gpu: bool = False, cores: threading.Semaphore | None = None
) -> PhotoReader:
    """The reader that the settings ask for; whoever reads a photo's pixels gets it here.

    Raises:
        ModelError: the eye finder cannot be used, or there is no sandbox and must be one.
    """
    number, in_sandbox = settings.num_readers, settings.sandbox == "required"
    if number < 0:
        number = min(num_cores, _MAX_READERS) if in_sandbox or on_gpu else 0
    if number == 0 and in_sandbox:
        raise SandboxMissing("EYE2FACE_SANDBOX=required: with EYE2FACE_NUM_READERS=0 there is none.")
    if number == 0:
        memory = pixel_memory(settings.num_threads or num_cores + 1)
        finder = open_eye_finder(settings.eye_finder)
        return InProcessReader(finder, max_pixels=settings.max_pixels, memory=memory)
    return ProcessPoolReader(
        number, settings.eye_finder, max_pixels=settings.max_pixels, cores=cores, sandbox=settings.sandbox
    )


class ProcessPoolReader:
    """A `PhotoReader` that lets processes read, each one photo after the other.

    Calls come from the workers of a pool, whose core is free for others while they wait.
    """

    def __init__(
        self,
        num_processes: int,
        eye_finder: Literal["learned", "haar"],
        *,
        max_pixels: int,
        cores: threading.Semaphore | None = None,
        sandbox: Sandbox = "auto",
    ) -> None:
        """Raises ModelError: the eye finder cannot be used, or no process can be started or sandboxed."""
        self._cores = cores or threading.Semaphore()
        self.last_failure: str | None = None
        """Why no process could be started the last time; None if one could."""
        memory = pixel_memory(num_processes)
        self._all = [DecoderProcess(eye_finder, max_pixels, memory, sandbox) for _ in range(num_processes)]
        self._idle: queue.LifoQueue[DecoderProcess] = queue.LifoQueue()
        try:
            for process in self._all:
                process.start()
            for process in self._all:
                process.make_ready(StageTimer())
                self._idle.put(process)
        except BaseException:
            self.close()
            raise
        if reason := self._all[0].not_sandboxed:
            _log.warning("the decoder processes run without a sandbox: %s", reason)

    @property
    def pids(self) -> list[int]:
        """The processes that were started and did not end yet, as far as is known."""
        return [pid for process in self._all if (pid := process.pid) is not None]

    def __call__(self, data: bytes, task: PhotoTask[T], timer: StageTimer) -> T:
        """What the task returns; see `PhotoReader`. A process that ends is replaced before the next photo."""
        (result,) = self.read_together([(data, task, timer)])
        timer.check()
        if isinstance(result, Exception):
            raise result
        return result

    def read_together(self, requests: Sequence[ReadRequest[T]]) -> list[T | Exception]:
        """The same for several photos, read by one process: it is woken once, and so is the caller."""
        timers = [timer for _, _, timer in requests]
        self._cores.release()
        try:
            with self._borrow(timers[0]) as process:
                outcomes = process.ask(requests)
        finally:
            self._cores.acquire()
        results: list[T | Exception] = []
        for outcome, timer in zip(outcomes, timers, strict=True):
            _add_times(outcome.spent_ms, timer)
            if isinstance(outcome, Result):
                results.append(outcome.value)
            else:
                results.append(outcome.error if isinstance(outcome, KnownError) else outcome.as_error())
        return results

    def test(self) -> None:
        """Raises ModelError: no process can be started."""
        with self._borrow(StageTimer()):
            pass

    def close(self) -> None:
        """Ends the processes; those that still work are killed."""
        for process in self._all:
            process.stop()

    @contextmanager
    def _borrow(self, timer: StageTimer) -> Iterator[DecoderProcess]:
        """A ready process, for exclusive use within the context."""
        process = self._take(timer)
        try:
            try:
                process.make_ready(timer)
            except ModelError as error:
                self.last_failure = str(error)
                raise
            self.last_failure = None
            yield process
        finally:
            self._idle.put(process)

    def _take(self, timer: StageTimer) -> DecoderProcess:
        while True:
            timer.check()
            try:
                return self._idle.get(timeout=_POLL_S)
            except queue.Empty:
                continue


def _add_times(spent_ms: StageTimes, timer: StageTimer) -> None:
    """Adds a process's times to the timer's: told at once, they followed one another."""
    left_ms = sum(spent_ms.values())
    for stage, stage_ms in spent_ms.items():
        left_ms -= stage_ms
        if stage_ms:
            timer.add(stage, stage_ms, ago_ms=left_ms)
