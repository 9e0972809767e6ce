"""A bounded queue before worker threads, which do each piece of work in three steps: read, draw, finish.

Where much waits, a worker reads several pieces and makes one call of `draw` for all of them: what a model
holds is then read from memory once. Knows nothing of images or HTTP.
"""

import asyncio
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from service.errors import NotReady, Overloaded
from service.observability.stage_timer import StageObserver, StageTimer

T = TypeVar("T")
Read = TypeVar("Read")
Drawn = TypeVar("Drawn")

MAX_TOGETHER: Final = 4
"""Pieces of work that share a call of `draw`. Two, six and eight gave no more, on two cores."""

_MEAN_WEIGHT: Final = 0.1
"""Weight of the newest piece of work in the moving average of the time that one takes."""

_LONG_S: Final = 0.1
"""After so long a worker reads no further piece of work: those that it has read would wait too long."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Work(Generic[Read, Drawn, T]):
    """A piece of work in three steps; one without `draw` and `finish` results in what it reads.

    `draw` is given what several pieces of work have read, if theirs is the same function.
    """

    read: Callable[[StageTimer], Read]
    draw: Callable[[Sequence[Read]], Sequence[Drawn]] | None = None
    finish: Callable[[Read, Drawn, StageTimer], T] | None = None

    @staticmethod
    def of(function: Callable[[StageTimer], T]) -> "Work[T, None, T]":
        """Work of a single step."""
        return Work(function)


@dataclass(eq=False, slots=True)
class WorkItem(Generic[T]):
    """A piece of work in the pool, and the future of its result, which belongs to an event loop."""

    work: Work[Any, Any, T]
    timer: StageTimer
    future: "asyncio.Future[T]"
    timeout: asyncio.TimerHandle | None = None
    value: Any = None
    """What its last step gave."""
    error: Exception | None = None

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to do once it was read."""
        return self.error is not None or self.work.draw is None

    def run(self, step: Callable[..., Any], *arguments: Any) -> None:
        """Takes a step; called by a worker."""
        self.value, self.error = attempt(self._checked, step, *arguments)

    def fail(self, error: Exception) -> None:
        """Ends the wait; called in the loop. Work that runs stops at its next check."""
        self.timer.is_cancelled = True
        self._resolve(None, error)

    def stop_waiting(self) -> None:
        """Lets go of the timeout, which holds the work; called in the loop."""
        if self.timeout is not None:
            self.timeout.cancel()

    def publish(self) -> None:
        """Resolves the future with the outcome; called in the loop."""
        self._resolve(self.value, self.error)

    def _checked(self, step: Callable[..., Any], *arguments: Any) -> Any:
        self.timer.check()
        return step(*arguments)

    def _resolve(self, result: T | None, error: Exception | None) -> None:
        self.stop_waiting()
        if self.future.done():
            return
        if error is None:
            self.future.set_result(result)  # type: ignore[arg-type]  # T where there is no error
        else:
            self.future.set_exception(error)


def attempt(function: Callable[..., T], *arguments: Any) -> tuple[T | None, Exception | None]:
    """What the function returns, or what it raises: for threads that outlive the failure of what they run."""
    try:
        return function(*arguments), None
    except BaseException as error:  # noqa: BLE001 - a worker survives whatever a photo does, even SystemExit
        if isinstance(error, Exception) and not isinstance(error, StopIteration):  # futures do not take it
            return None, error
        return None, RuntimeError(f"the work raised {type(error).__name__}")


def call_together(
    function: Callable[[Sequence[Read]], Sequence[Drawn]], items: Sequence[Read]
) -> list[tuple[Drawn | None, Exception | None]]:
    """What the function gives for each item, or its error; if one call for all fails, each has its own."""
    results, error = attempt(function, items)
    if results is not None:
        return [(result, None) for result in results]
    if len(items) == 1:
        return [(None, error)]
    return [outcome for item in items for outcome in call_together(function, [item])]


def _draw_and_finish(items: Sequence[WorkItem[Any]]) -> None:
    by_function: dict[Callable[..., Any], list[WorkItem[Any]]] = {}
    for item in items:
        assert item.work.draw is not None
        by_function.setdefault(item.work.draw, []).append(item)
    for draw, same in by_function.items():
        outcomes = call_together(draw, [item.value for item in same])
        for item, (drawn, error) in zip(same, outcomes, strict=True):
            if error is None and item.work.finish is not None:
                item.run(item.work.finish, item.value, drawn, item.timer)
            else:
                item.value, item.error = drawn, error


def _deliver(item: WorkItem[Any]) -> None:
    """Hands the outcome to the event loop that waits for it; called by a worker."""
    try:
        item.future.get_loop().call_soon_threadsafe(item.publish)
    except RuntimeError:  # the loop has ended, and with it who waited
        _log.warning("a result came after the event loop had ended")


@dataclass(frozen=True, slots=True)
class PoolState:
    """What the workers of a pool do at this moment."""

    num_workers: int
    num_alive: int
    num_busy: int
    num_queued: int
    shortest_busy_s: float
    """How long the worker that began last is at it; 0 unless all are busy."""


class WorkerPool:
    """Worker threads behind a bounded queue, with admission control by length, waiting time and deadline."""

    def __init__(
        self,
        num_workers: int,
        *,
        max_queued: int = 64,
        max_wait_s: float = math.inf,
        cores: threading.Semaphore | None = None,
        on_start: Callable[[StageTimer], object] = lambda timer: None,
        on_end: Callable[[StageTimer], object] = lambda timer: None,
    ) -> None:
        """`cores`, which a worker holds while it computes, are fewer than workers that wait for a device.

        `on_start` and `on_end` are called by the worker, before the first step and after the last one.
        """
        self.cores = cores or nullcontext()
        self._max_queued = max_queued
        self._max_wait_s = max_wait_s
        self._on_start, self._on_end = on_start, on_end
        self._queue: deque[WorkItem[Any]] = deque()
        self._changed = threading.Condition(threading.Lock())
        self._begun: list[float | None] = [None] * num_workers
        self._mean_s = 0.0
        self._closing = False
        self._num_lost = 0
        """Workers whose thread ended and was not replaced yet; to ask each thread takes longer."""
        self._threads = [self._start(number) for number in range(num_workers)]

    def submit(
        self, work: Work[Any, Any, T], *, max_ms: float, observe: StageObserver | None = None
    ) -> WorkItem[T]:
        """The work in the queue, to be done within `max_ms`; await its `future` in the running event loop.

        Work that is still queued when its time is over, or that is dropped, is never begun.

        Raises:
            Overloaded: too many wait, or so many that this one would be late.
            NotReady: the pool is closing, or a worker that died could not be replaced.
        """
        if self._num_lost:
            self.replace_dead()
        loop = asyncio.get_running_loop()
        timer = StageTimer(time.monotonic() + max_ms / 1000, observe)
        item = WorkItem(work, timer, loop.create_future())
        with self._changed:
            if self._closing:
                raise NotReady(
                    "The service is stopping. Send the photo to another one, or again in a moment."
                )
            self._refuse_overload(max_ms / 1000)
            self._queue.append(item)
            self._changed.notify()
        item.timeout = loop.call_later(max_ms / 1000, self._expire, item)
        return item

    def drop(self, item: WorkItem[Any]) -> None:
        """Forgets an item whose result nobody waits for; one that runs stops at its next check."""
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
        with self._changed:
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
        while (item := self._take()) is not None:
            with self.cores:
                self._begun[number] = begun = time.monotonic()
                num_done = self._perform(item, begun)
                each_s = (time.monotonic() - begun) / num_done
                self._mean_s += _MEAN_WEIGHT * (each_s - self._mean_s)
                self._begun[number] = None
            del item  # or the photo would stay until the next one comes

    def _perform(self, item: WorkItem[Any] | None, begun: float) -> int:
        """Does the work of an item, and of others that share its call of `draw`; how many items."""
        to_draw: list[WorkItem[Any]] = []
        num_taken = 0
        while item is not None:
            self._on_start(item.timer)
            item.run(item.work.read, item.timer)
            num_taken += 1
            if item.is_done:
                self._end(item)
            else:
                to_draw.append(item)
            item = self._take_another(num_taken, begun)
        _draw_and_finish(to_draw)
        for each in to_draw:
            self._end(each)
        return num_taken

    def _end(self, item: WorkItem[Any]) -> None:
        self._on_end(item.timer)
        _deliver(item)

    def _take_another(self, num_taken: int, begun: float) -> WorkItem[Any] | None:
        """One more item to do at once, where so many wait that every worker finds as many."""
        if num_taken >= MAX_TOGETHER or time.monotonic() - begun > _LONG_S:
            return None
        with self._changed:
            enough = len(self._queue) + num_taken >= (num_taken + 1) * len(self._begun)
            return self._queue.popleft() if enough else None

    def _take(self) -> WorkItem[Any] | None:
        """The oldest item, once there is one; None when the pool closes."""
        with self._changed:
            while not self._queue:
                if self._closing:
                    return None
                self._changed.wait()
            return self._queue.popleft()
