"""A bounded queue before worker threads, which do each piece of work in three steps: read, draw, finish.

Where much waits, a worker takes several pieces of work and makes one call of `read`, and one of `draw`, for
all of them: it is woken once, and what a model holds is read from memory once. Knows nothing of images or
HTTP.
"""

import asyncio
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from service.errors import NotReady, Overloaded
from service.observability.stage_timer import StageObserver, StageTimer

T = TypeVar("T")
Subject = TypeVar("Subject")
Read = TypeVar("Read")
Drawn = TypeVar("Drawn")

MAX_TOGETHER: Final = 4
"""Pieces of work that share calls. Two, six and eight gave no more, on two cores."""

_MEAN_WEIGHT: Final = 0.1
"""Weight of the newest piece of work in the moving average of the time that one takes."""

_MAX_TOGETHER_S: Final = 0.2
"""What a worker takes at once is no more work than this, on average: the first photo waits for the last."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Work(Generic[Subject, Read, Drawn, T]):
    """A piece of work in three steps; one without `draw` and `finish` results in what it reads.

    `read` and `draw` are called with all pieces of work that a worker took and whose functions are the same;
    `read` returns for each what it read or the error that it met, and `finish` is called for each alone.
    """

    subject: Subject
    read: Callable[[Sequence[tuple[Subject, StageTimer]]], Sequence[Read | Exception]]
    draw: Callable[[Sequence[Read]], Sequence[Drawn]] | None = None
    finish: Callable[[Drawn, StageTimer], T] | None = None

    @staticmethod
    def of(function: Callable[[StageTimer], T]) -> "Work[None, T, None, T]":
        """Work of a single step."""
        return Work(None, lambda alone: [function(timer) for _, timer in alone])


@dataclass(eq=False, slots=True)
class WorkItem(Generic[T]):
    """A piece of work in the pool, and the future of its result, which belongs to an event loop."""

    work: Work[Any, Any, Any, T]
    timer: StageTimer
    future: "asyncio.Future[T]"
    timeout: asyncio.TimerHandle | None = None
    value: Any = None
    """What its last step gave."""
    error: Exception | None = None

    def run(self, step: Callable[..., Any], *arguments: Any) -> None:
        """Takes a step; called by a worker."""
        self.value, self.error = attempt(step, *arguments)

    def fail(self, error: Exception) -> None:
        """Ends the wait; called in the loop. Work that runs stops at its next check."""
        self.timer.is_cancelled = True
        self._resolve(None, error)

    def stop_waiting(self) -> None:
        """Cancels the timeout, which keeps the work in memory; called in the loop."""
        if self.timeout is not None:
            self.timeout.cancel()

    def publish(self) -> None:
        """Resolves the future with the outcome; called in the loop."""
        self._resolve(self.value, self.error)

    def _resolve(self, result: T | None, error: Exception | None) -> None:
        self.stop_waiting()
        if self.future.done():
            return
        if error is None:
            self.future.set_result(result)  # type: ignore[arg-type]  # T where there is no error
        else:
            self.future.set_exception(error)


def attempt(function: Callable[..., T], *arguments: Any) -> tuple[T | None, Exception | None]:
    """The function's result and None, or None and its exception; for threads that must survive exceptions."""
    try:
        return function(*arguments), None
    except BaseException as error:  # noqa: BLE001 - a worker survives whatever a photo does, even SystemExit
        if isinstance(error, Exception) and not isinstance(error, StopIteration):  # futures do not take it
            return None, error
        return None, RuntimeError(f"the work raised {type(error).__name__}")


def attempt_aside(function: Callable[[], T]) -> Future[tuple[T | None, Exception | None]]:
    """`attempt` in a daemon thread: if the function hangs, the process can end."""
    outcome: Future[tuple[T | None, Exception | None]] = Future()
    outcome.set_running_or_notify_cancel()  # whoever waits may go, the thread goes on
    threading.Thread(target=lambda: outcome.set_result(attempt(function)), daemon=True).start()
    return outcome


def call_together(
    function: Callable[[Sequence[T]], Sequence[Read | Exception]], arguments: Sequence[T]
) -> list[tuple[Read | None, Exception | None]]:
    """What the function gives for each argument, or its error; if a shared call fails, each has its own."""
    results, error = attempt(function, arguments)
    if results is not None:
        return [(None, each) if isinstance(each, Exception) else (each, None) for each in results]
    if len(arguments) == 1:
        return [(None, error)]
    return [outcome for argument in arguments for outcome in call_together(function, [argument])]


def _share(
    step: Callable[..., Any], items: Sequence[WorkItem[Any]], argument: Callable[[WorkItem[Any]], Any]
) -> None:
    """Takes a step of all items without an error in one call; called by a worker."""
    if going := [item for item in items if item.error is None]:
        outcomes = call_together(step, [argument(item) for item in going])
        for item, (value, error) in zip(going, outcomes, strict=True):
            item.value, item.error = value, item.timer.exceeded() if item.timer.is_cancelled else error


def _deliver(items: Sequence[WorkItem[Any]]) -> None:
    """Hands outcomes to the event loops that wait for them, each woken once; called by a worker."""
    for loop, own in _grouped(items, lambda item: item.future.get_loop()).items():
        try:
            loop.call_soon_threadsafe(_publish, own)
        except RuntimeError:  # the loop has ended, and its callers with it
            _log.warning("a result came after the event loop had ended")


def _publish(items: Sequence[WorkItem[Any]]) -> None:
    for item in items:
        item.publish()


def _grouped(
    items: Sequence[WorkItem[Any]], key: Callable[[WorkItem[Any]], Any]
) -> dict[Any, list[WorkItem[Any]]]:
    groups: dict[Any, list[WorkItem[Any]]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


@dataclass(frozen=True, slots=True)
class PoolState:
    """Load of the pool: live and busy workers, and the queue."""

    num_workers: int
    num_alive: int
    num_busy: int
    num_queued: int
    shortest_busy_s: float
    """Seconds since the last worker began; 0 unless all are busy."""


class WorkerPool:
    """Worker threads behind a bounded queue, with admission control by length, waiting time and deadline."""

    def __init__(
        self,
        num_workers: int,
        *,
        max_queued: int = 64,
        max_wait_s: float = math.inf,
        cores: threading.Semaphore | None = None,
        trace: Callable[[], StageObserver | None] | None = None,
        on_end: Callable[[StageTimer], object] = lambda timer: None,
    ) -> None:
        """`cores`, which a worker holds while it computes, are fewer than workers that wait for a device.

        `trace` gives the observer of the stages of work that is submitted. `on_end` is called by the worker,
        after the last step.
        """
        self.cores = cores or nullcontext()
        self._max_queued = max_queued
        self._max_wait_s = max_wait_s
        self._trace, self._on_end = trace, on_end
        self._queue: deque[WorkItem[Any]] = deque()
        self._changed = threading.Condition(threading.Lock())
        self._begun: list[float | None] = [None] * num_workers
        self._mean_s = 0.0
        self._closing = False
        self._num_lost = 0
        """Workers whose thread ended and was not replaced yet; to ask each thread takes longer."""
        self._threads = [self._start(number) for number in range(num_workers)]

    def submit(self, work: Work[Any, Any, Any, T], *, max_ms: float) -> WorkItem[T]:
        """The work in the queue, to be done within `max_ms`; await its `future` in the running event loop.

        Work that is still queued when its time is over, or that is dropped, is never begun.

        Raises:
            Overloaded: too many wait, or so many that this one would be late.
            NotReady: the pool is closing, or a worker that died could not be replaced.
        """
        if self._num_lost:
            self.replace_dead()
        loop = asyncio.get_running_loop()
        with self._changed:
            if self._closing:
                raise NotReady(
                    "The service is stopping. Send the photo to another one, or again in a moment."
                )
            self._refuse_overload(max_ms / 1000)
            timer = StageTimer(time.monotonic() + max_ms / 1000, self._trace and self._trace())
            item = WorkItem(work, timer, loop.create_future())
            self._queue.append(item)
            self._changed.notify()
        item.timeout = loop.call_later(max_ms / 1000, self._expire, item)
        return item

    def drop(self, item: WorkItem[Any]) -> None:
        """Removes an item from the queue, or stops it at its next check if it runs."""
        item.stop_waiting()
        item.timer.is_cancelled = True
        with self._changed:
            if item in self._queue:
                self._queue.remove(item)

    def refuse_overload(self) -> None:
        """Returns if more work would be taken now.

        Raises:
            Overloaded: it would not.
        """
        self._refuse_overload(math.inf)

    def state(self) -> PoolState:
        """The current load; never waits for work."""
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
                    with self._changed:
                        self._num_lost -= 1
                except RuntimeError as error:  # "can't start new thread"
                    if not any(each.is_alive() for each in self._threads):
                        raise NotReady(f"The workers died and cannot be replaced: {error}.") from error

    def close(self, max_wait_s: float) -> bool:
        """Takes no more work and ends the workers; False if some still run after `max_wait_s`."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
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

    def _expire(self, item: WorkItem[Any]) -> None:
        self.drop(item)
        item.fail(item.timer.exceeded())

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
                with self._changed:
                    self._num_lost += 1

    def _keep_working(self, number: int) -> None:
        while items := self._take():
            with self.cores:
                self._begun[number] = begun = time.monotonic()
                self._perform(items)
                each_s = (time.monotonic() - begun) / len(items)
                self._mean_s += _MEAN_WEIGHT * (each_s - self._mean_s)
                self._begun[number] = None
            del items  # or the photos would stay until the next ones come

    def _perform(self, items: Sequence[WorkItem[Any]]) -> None:
        """Takes all steps; items of the same functions share calls, those that are only read come first."""
        for item in items:
            item.run(item.timer.leave_queue)
        groups = _grouped(items, lambda item: (item.work.read, item.work.draw))
        for (read, draw), alike in sorted(groups.items(), key=lambda group: group[0][1] is not None):
            _share(read, alike, lambda item: (item.work.subject, item.timer))
            if draw is not None:
                _share(draw, alike, lambda item: item.value)
                for item in alike:
                    if item.error is None and item.work.finish is not None:
                        item.run(item.work.finish, item.value, item.timer)
            for item in alike:
                self._on_end(item.timer)
            _deliver(alike)

    def _take(self) -> list[WorkItem[Any]]:
        """The oldest item, once there is one, and others where every worker finds as many; none: the end."""
        with self._changed:
            while not self._queue:
                if self._closing:
                    return []
                self._changed.wait()
            fair_share = len(self._queue) // len(self._begun)
            soon_done = int(_MAX_TOGETHER_S / self._mean_s) if self._mean_s else MAX_TOGETHER
            num_items = max(1, min(MAX_TOGETHER, fair_share, soon_done))
            return [self._queue.popleft() for _ in range(num_items)]
