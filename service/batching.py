"""Work in threads: a bounded queue before a few workers, and batches for a device that likes them.

`WorkerPool` runs whole pieces of work, as many at once as there are cores. `MicroBatcher` is for a device
that takes one call at a time and is faster with many items in it. Neither knows of images or HTTP.
Letters of shapes: N items of any shape.
"""

import asyncio
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from service.errors import DeadlineExceeded, NotReady, Overloaded

T = TypeVar("T")
Items = npt.NDArray[np.uint8]

BATCH_SIZES: Final = (1, 2, 4, 8, 16, 32)
"""Batches are padded to these: cuDNN plans anew for each size it has not seen, and small convolutional
nets gain little beyond 16. Source: microsoft/onnxruntime issues 11047 and 22705."""

_MEMORY: Final = 0.1
"""Weight of the newest piece of work in the mean time of one: a few dozen are remembered."""

_log = logging.getLogger(__name__)


class Ticket:
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
class Job(Generic[T]):
    """One piece of work and its answer to come, which belongs to the event loop that asked."""

    work: Callable[[Ticket], T]
    ticket: Ticket
    answer: "asyncio.Future[T]"
    timer: asyncio.TimerHandle | None = None
    """Ends the wait when the time is over."""

    def settle(self, result: T | None, error: BaseException | None) -> None:
        """Hands the outcome to the loop; called by a worker."""
        try:
            self.answer.get_loop().call_soon_threadsafe(self._set, result, error)
        except RuntimeError:  # the loop has ended, and with it who waited
            _log.warning("an answer came after the end")

    def fail(self, error: Exception) -> None:
        """Ends the wait; called in the loop. Work that runs stops at its next check."""
        self.ticket.dropped = True
        self._set(None, error)

    def stop_waiting(self) -> None:
        """Lets go of the timer, which holds the work; called in the loop."""
        if self.timer is not None:
            self.timer.cancel()

    def _set(self, result: T | None, error: BaseException | None) -> None:
        self.stop_waiting()
        if self.answer.done():
            return
        if error is None:
            self.answer.set_result(result)  # type: ignore[arg-type]  # T where there is no error
        else:
            self.answer.set_exception(error)


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
    """Threads that do one piece of work at a time, before them a queue that does not grow without end."""

    def __init__(
        self,
        num_workers: int,
        *,
        num_cores: int,
        max_queued: int = 64,
        max_wait_s: float = math.inf,
        cores: threading.Semaphore | None = None,
    ) -> None:
        """`num_cores` of the workers compute at once; the others wait, for instance for a device."""
        # A semaphore that never lets anybody wait would cost as much as a lock that does.
        self.cores = cores or (threading.Semaphore(num_cores) if num_cores < num_workers else nullcontext())
        self._max_queued = max_queued
        self._max_wait_s = max_wait_s
        self._queue: deque[Job[Any]] = deque()
        self._lock = threading.Lock()
        self._idle: list[threading.Lock] = []
        """Held by each worker without work until somebody opens it; the last one went idle last. A condition
        makes a lock anew for each wait."""
        self._begun: list[float | None] = [None] * num_workers
        self._mean_s = 0.0
        self._closing = False
        self._threads = [self._start(number) for number in range(num_workers)]

    def submit(self, work: Callable[[Ticket], T], *, max_ms: float) -> Job[T]:
        """The job, to be done within `max_ms`; its `answer` is to be awaited in the running event loop.

        Work that is still queued when its time is over, or that is dropped, is never begun.

        Raises:
            Overloaded: too many wait, or so many that this one would be late.
            NotReady: the pool is closing, or a worker that died could not be replaced.
        """
        self.replace_dead()
        loop = asyncio.get_running_loop()
        job = Job(work, Ticket(time.monotonic() + max_ms / 1000), loop.create_future())
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

    def drop(self, job: Job[Any]) -> None:
        """Forgets a job whose answer nobody waits for; one that runs stops at its next check."""
        job.stop_waiting()
        job.ticket.dropped = True
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

    def _expire(self, job: Job[Any]) -> None:
        self.drop(job)
        job.fail(DeadlineExceeded(job.ticket.explain()))

    def _start(self, number: int) -> threading.Thread:
        # Daemons: a worker that hangs in a device's driver must not keep the process from ending.
        thread = threading.Thread(target=self._work, args=(number,), name=f"worker-{number}", daemon=True)
        thread.start()
        return thread

    def _work(self, number: int) -> None:
        while (job := self._take()) is not None:
            with self.cores:
                self._begun[number] = begun = time.monotonic()
                self._perform(job)
                self._mean_s += _MEMORY * (time.monotonic() - begun - self._mean_s)
                self._begun[number] = None
            del job  # or the photo would stay until the next one comes

    def _take(self) -> Job[Any] | None:
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

    @staticmethod
    def _perform(job: Job[Any]) -> None:
        try:
            job.ticket.check()
            result = job.work(job.ticket)
        except BaseException as error:  # noqa: BLE001 - the worker lives on, whoever asked is told
            # Not even SystemExit ends a worker, and futures do not take StopIteration.
            plain = isinstance(error, Exception) and not isinstance(error, StopIteration)
            job.settle(None, error if plain else RuntimeError(f"the work raised {type(error).__name__}"))
        else:
            job.settle(result, None)


@dataclass(eq=False, slots=True)
class _Call:
    """Items that one thread waits for."""

    items: Items
    done: threading.Event = field(default_factory=threading.Event)
    results: Items | None = None
    error: BaseException | None = None


class MicroBatcher:
    """Calls a device from one thread of its own, with whatever waits by then; no call waits for company.

    Calls come from the workers of a pool, whose core is free for others while they wait.
    """

    def __init__(
        self,
        run: Callable[[Items], Items],
        cores: threading.Semaphore,
        *,
        sizes: Sequence[int] = BATCH_SIZES,
        observe: Callable[[int], None] = lambda size: None,
    ) -> None:
        """`run` is given batches of one of `sizes`; `observe` is told how many items of each were real."""
        self._run = run
        self._cores = cores
        self._sizes = sorted(sizes)
        self._observe = observe
        self._calls: deque[_Call] = deque()
        self._changed = threading.Condition(threading.Lock())
        self._closing = False
        self._thread = threading.Thread(target=self._own, name="device", daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether the thread that owns the device is there, and not about to end."""
        return self._thread.is_alive() and not self._closing

    def warm(self, item: Items) -> None:
        """Runs every size of batch once, in the thread that runs them later."""
        for size in self._sizes:
            self(np.repeat(item[None], size, axis=0))

    def __call__(self, items_N: Items) -> Items:
        """The results of the items, in their order; what `run` raises comes through."""
        most = self._sizes[-1]
        parts = [self._ask(items_N[start : start + most]) for start in range(0, len(items_N), most)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def close(self) -> None:
        """Ends the thread once all that waits is done."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout=10)

    def _ask(self, items: Items) -> Items:
        call = _Call(items)
        with self._changed:
            if self._closing or not self.is_alive:
                raise NotReady("The thread that runs the model has ended; the service must be started anew.")
            self._calls.append(call)
            self._changed.notify()
        self._cores.release()
        try:
            call.done.wait()
        finally:
            self._cores.acquire()
        if call.error is not None:
            raise call.error
        assert call.results is not None
        return call.results

    def _own(self) -> None:
        calls: list[_Call] = []
        try:
            while calls := self._take():
                self._answer(calls)
        finally:  # whatever ends this thread, nobody may wait for it
            with self._changed:
                self._closing = True
                calls += self._calls
            for call in calls:
                call.error = call.error or NotReady("The thread that runs the model has ended.")
                call.done.set()

    def _take(self) -> list[_Call]:
        """As many calls as fit into one batch, the oldest first; none: the end."""
        with self._changed:
            while not self._calls and not self._closing:
                self._changed.wait()
            calls: list[_Call] = []
            num_items = 0
            while self._calls and num_items + len(self._calls[0].items) <= self._sizes[-1]:
                calls.append(self._calls.popleft())
                num_items += len(calls[-1].items)
            return calls

    def _answer(self, calls: list[_Call]) -> None:
        try:
            results = self._run_padded(np.concatenate([call.items for call in calls]))
        except Exception as error:  # noqa: BLE001 - the thread lives on, each caller is told
            if len(calls) > 1:  # one of them spoils the batch for the others: each alone
                for call in calls:
                    self._answer([call])
                return
            calls[0].error = error
        else:
            start = 0
            for call in calls:
                call.results = results[start : start + len(call.items)]
                start += len(call.items)
        for call in calls:
            call.done.set()

    def _run_padded(self, items: Items) -> Items:
        size = next(each for each in self._sizes if each >= len(items))
        padding = np.zeros((size - len(items), *items.shape[1:]), items.dtype)
        self._observe(len(items))
        return self._run(np.concatenate([items, padding]) if len(padding) else items)[: len(items)]
