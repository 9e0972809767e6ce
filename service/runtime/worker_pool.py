"""Work in threads: a bounded queue before a few workers, which run whole pieces of work.

Where much waits, a worker takes several pieces whose calls are made together (`service.runtime.coalescing`).
Knows nothing of images or HTTP.
"""

import asyncio
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from service.errors import DeadlineExceeded, NotReady, Overloaded
from service.runtime.coalescing import SharedCall, Steps, go_on, make_calls

T = TypeVar("T")

_MEMORY: Final = 0.1
"""Weight of the newest piece of work in the mean time of one: a few dozen are remembered."""

_LONG_S: Final = 0.1
"""After so long a worker takes nothing more to do at once: what it has done would wait too long for it."""

_log = logging.getLogger(__name__)


class CancellationToken:
    """Whether the answer to a piece of work is still wanted; shared by the loop and a worker."""

    def __init__(self, deadline: float) -> None:
        self.arrived = time.monotonic()
        self.deadline = deadline
        self.dropped = False

    def check(self) -> None:
        """Returns if the answer is still wanted.

        Raises:
            DeadlineExceeded: it comes too late, or nobody is there to take it.
        """
        if self.dropped or time.monotonic() > self.deadline:
            raise DeadlineExceeded(self.explain())

    def explain(self) -> str:
        """The sentence for whoever waited in vain."""
        given_ms = (self.deadline - self.arrived) * 1000
        return (
            f"The photo was not done within the {given_ms:,.0f} ms given to it, counted from the end of its "
            "upload. Send it again later, give it more time (X-Deadline-Ms), or send fewer at once."
        )


@dataclass(eq=False, slots=True)
class WorkItem(Generic[T]):
    """One piece of work and its answer to come, which belongs to the event loop that asked."""

    work: Callable[[CancellationToken], T | Steps[T]]
    token: CancellationToken
    answer: "asyncio.Future[T]"
    timer: asyncio.TimerHandle | None = None
    """Ends the wait when the time is over."""
    steps: Steps[T] | None = None
    """The work since it began, if it is done in steps."""
    result: T | None = None
    error: Exception | None = None

    def advance(self, made: SharedCall[Any, Any] | None = None) -> SharedCall[Any, Any] | None:
        """Begins, or goes on from a call that was made: to the next call, or to the outcome (None)."""
        try:
            self.token.check()
            if self.steps is not None and made is not None:
                return go_on(self.steps, made)
            result = self.work(self.token)
            if isinstance(result, Generator):
                self.steps = result
                return next(self.steps)
            self.result = result
        except StopIteration as end:
            if self.steps is None:  # futures do not take it
                self.error = RuntimeError("the work raised StopIteration")
            else:
                self.result = end.value
        except BaseException as error:  # noqa: BLE001 - the worker lives on, whoever asked is told
            if self.steps is not None:
                self.steps.close()  # where the error is not its own
            # Not even SystemExit ends a worker.
            plain = error if isinstance(error, Exception) else None
            self.error = plain or RuntimeError(f"the work raised {type(error).__name__}")
        return None

    def fail(self, error: Exception) -> None:
        """Ends the wait; called in the loop. Work that runs stops at its next check."""
        self.token.dropped = True
        self._answer(None, error)

    def stop_waiting(self) -> None:
        """Lets go of the timer, which holds the work; called in the loop."""
        if self.timer is not None:
            self.timer.cancel()

    def publish(self) -> None:
        """Answers with the outcome; called in the loop."""
        self._answer(self.result, self.error)

    def _answer(self, result: T | None, error: Exception | None) -> None:
        self.stop_waiting()
        if self.answer.done():
            return
        if error is None:
            self.answer.set_result(result)  # type: ignore[arg-type]  # T where there is no error
        else:
            self.answer.set_exception(error)


def _settle(jobs: Sequence[WorkItem[Any]]) -> None:
    """Hands outcomes to the loops that asked, each woken once for all that is its own; called by a worker."""
    by_loop: dict[asyncio.AbstractEventLoop, list[WorkItem[Any]]] = {}
    for job in jobs:
        by_loop.setdefault(job.answer.get_loop(), []).append(job)
    for loop, its in by_loop.items():
        try:
            loop.call_soon_threadsafe(_publish, its)
        except RuntimeError:  # the loop has ended, and with it who waited
            _log.warning("an answer came after the end")


def _publish(jobs: Sequence[WorkItem[Any]]) -> None:
    for job in jobs:
        job.publish()


@dataclass(frozen=True, slots=True)
class PoolState:
    """What the workers do at this moment."""

    num_workers: int
    num_alive: int
    num_busy: int
    num_queued: int
    shortest_busy_s: float
    """How long the worker that began last is at it; 0 unless all are busy."""


class WorkerPool:
    """Threads that do work, before them a queue that does not grow without end."""

    def __init__(
        self,
        num_workers: int,
        *,
        num_cores: int,
        max_queued: int = 64,
        max_wait_s: float = math.inf,
        max_at_once: int = 1,
        cores: threading.Semaphore | None = None,
    ) -> None:
        """`num_cores` of the workers compute at once; the others wait, for instance for a device.

        Where much waits, a worker takes up to `max_at_once` pieces of work, so that their steps share calls.
        """
        # A semaphore that never lets anybody wait would cost as much as a lock that does.
        self.cores = cores or (threading.Semaphore(num_cores) if num_cores < num_workers else nullcontext())
        self._max_queued = max_queued
        self._max_wait_s = max_wait_s
        self._max_at_once = max_at_once
        self._queue: deque[WorkItem[Any]] = deque()
        self._lock = threading.Lock()
        self._idle: list[threading.Lock] = []
        """Held by each worker without work until somebody opens it; the last one went idle last. A condition
        makes a lock anew for each wait."""
        self._begun: list[float | None] = [None] * num_workers
        self._mean_s = 0.0
        self._closing = False
        self._num_lost = 0
        """Workers whose thread ended and was not replaced yet; to ask each thread takes longer."""
        self._threads = [self._start(number) for number in range(num_workers)]

    def submit(self, work: Callable[[CancellationToken], T | Steps[T]], *, max_ms: float) -> WorkItem[T]:
        """The job, to be done within `max_ms`; its `answer` is to be awaited in the running event loop.

        Work that is still queued when its time is over, or that is dropped, is never begun.

        Raises:
            Overloaded: too many wait, or so many that this one would be late.
            NotReady: the pool is closing, or a worker that died could not be replaced.
        """
        if self._num_lost:
            self.replace_dead()
        loop = asyncio.get_running_loop()
        job = WorkItem(work, CancellationToken(time.monotonic() + max_ms / 1000), loop.create_future())
        with self._lock:
            if self._closing:
                raise NotReady(
                    "The service is stopping. Send the photo to another one, or again in a moment."
                )
            self._refuse_overload(max_ms / 1000)
            self._queue.append(job)
            if self._idle:  # the one that worked last: what it touched is still in the core's cache
                self._idle.pop().release()
        job.timer = loop.call_later(max_ms / 1000, self._expire, job)
        return job

    def drop(self, job: WorkItem[Any]) -> None:
        """Forgets a job whose answer nobody waits for; one that runs stops at its next check."""
        job.stop_waiting()
        job.token.dropped = True
        with self._lock:
            if job in self._queue:
                self._queue.remove(job)

    def refuse_overload(self) -> None:
        """Returns if a job would be taken now.

        Raises:
            Overloaded: it would not.
        """
        with self._lock:
            self._refuse_overload(math.inf)

    def state(self) -> PoolState:
        """What the workers do; waits for nothing but a lock that is held for microseconds."""
        begun = [each for each in self._begun if each is not None]
        num_alive = sum(thread.is_alive() for thread in self._threads)
        since = time.monotonic() - max(begun) if len(begun) == len(self._begun) else 0.0
        return PoolState(len(self._threads), num_alive, len(begun), len(self._queue), since)

    def replace_dead(self) -> None:
        """Starts a new thread for each worker that died.

        Raises:
            NotReady: the system gives no thread, and no worker is left.
        """
        for number, thread in enumerate(self._threads):
            if not thread.is_alive() and not self._closing:
                _log.error("worker %d died and is replaced", number)
                try:
                    self._begun[number] = None
                    self._threads[number] = self._start(number)
                    with self._lock:
                        self._num_lost -= 1
                except RuntimeError as error:  # "can't start new thread"
                    if not any(each.is_alive() for each in self._threads):
                        raise NotReady(f"The workers died and cannot be replaced: {error}.") from error

    def close(self, max_wait_s: float) -> bool:
        """Takes no more work and ends the workers; False if some still run after `max_wait_s`."""
        with self._lock:
            self._closing = True
            while self._idle:
                self._idle.pop().release()
        end = time.monotonic() + max_wait_s
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _refuse_overload(self, max_s: float) -> None:
        num_queued = len(self._queue)
        expected_s = num_queued * self._mean_s / len(self._threads)
        if num_queued < self._max_queued and (num_queued == 0 or expected_s <= min(self._max_wait_s, max_s)):
            return
        raise Overloaded(
            f"{num_queued} photos wait already, about {expected_s * 1000:,.0f} ms of work. "
            "Send the photo again after the time that Retry-After names.",
            retry_after_s=max(1, math.ceil(expected_s)),
        )

    def _expire(self, job: WorkItem[Any]) -> None:
        self.drop(job)
        job.fail(DeadlineExceeded(job.token.explain()))

    def _start(self, number: int) -> threading.Thread:
        # Daemons: a worker that hangs in a device's driver must not keep the process from ending.
        thread = threading.Thread(target=self._work, args=(number,), name=f"worker-{number}", daemon=True)
        thread.start()
        return thread

    def _work(self, number: int) -> None:
        try:
            self._keep_working(number)
        finally:
            if not self._closing:
                with self._lock:
                    self._num_lost += 1

    def _keep_working(self, number: int) -> None:
        while (job := self._take()) is not None:
            with self.cores:
                self._begun[number] = begun = time.monotonic()
                num_done = self._perform(job, begun)
                each_s = (time.monotonic() - begun) / num_done
                self._mean_s += _MEMORY * (each_s - self._mean_s)
                self._begun[number] = None
            del job  # or the photo would stay until the next one comes

    def _perform(self, job: WorkItem[Any] | None, begun: float) -> int:
        """Does the work and settles it, and as much other work as shares its calls; how many pieces."""
        waiting: list[tuple[WorkItem[Any], SharedCall[Any, Any]]] = []
        done: list[WorkItem[Any]] = []
        while job is not None:
            if (call := job.advance()) is None:
                done.append(job)
            else:
                waiting.append((job, call))
            job = self._take_another(len(done) + len(waiting), begun)
        num_taken = len(done) + len(waiting)
        while waiting:
            _settle(done)  # what needed no call waits for none
            make_calls([call for _, call in waiting])
            advanced = [(each, each.advance(made)) for each, made in waiting]
            done = [each for each, call in advanced if call is None]
            waiting = [(each, call) for each, call in advanced if call is not None]
        _settle(done)
        return num_taken

    def _take_another(self, num_taken: int, begun: float) -> WorkItem[Any] | None:
        """One more to do at once, where so many wait that every worker finds as many."""
        if num_taken >= self._max_at_once or time.monotonic() - begun > _LONG_S:
            return None
        with self._lock:
            enough = len(self._queue) + num_taken >= (num_taken + 1) * len(self._begun)
            return self._queue.popleft() if enough else None

    def _take(self) -> WorkItem[Any] | None:
        woken = threading.Lock()
        woken.acquire()
        while True:
            with self._lock:
                if self._queue:
                    return self._queue.popleft()
                if self._closing:
                    return None
                self._idle.append(woken)
            try:
                woken.acquire()
            finally:  # however the wait ends, nobody may be woken in vain
                if woken in self._idle:
                    self._forget(woken)

    def _forget(self, woken: threading.Lock) -> None:
        with self._lock:
            if woken in self._idle:
                self._idle.remove(woken)
