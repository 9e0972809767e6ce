"""Queue, workers and batches, with real threads and no pictures."""

import asyncio
import ctypes
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from service.batching import Items, Job, MicroBatcher, Ticket, WorkerPool
from service.errors import DeadlineExceeded, NotReady, Overloaded


@contextmanager
def a_pool(num_workers: int = 1, **options: Any) -> Iterator[WorkerPool]:
    pool = WorkerPool(num_workers, num_cores=num_workers, **options)
    try:
        yield pool
    finally:
        assert pool.close(5)


class Gate:
    """Work that waits until it is let through, and tells when it began."""

    def __init__(self) -> None:
        self.begun, self.opened = threading.Event(), threading.Event()

    def __call__(self, ticket: Ticket) -> str:
        self.begun.set()
        assert self.opened.wait(10)
        return "through"


async def held(pool: WorkerPool, num_workers: int = 1) -> tuple[Gate, list[Job[str]]]:
    """Occupies every worker with work that waits at one gate."""
    gate = Gate()
    jobs = [pool.submit(gate, max_ms=10_000) for _ in range(num_workers)]
    while pool.state().num_busy < num_workers:
        await asyncio.sleep(0.001)
    return gate, jobs


def test_each_asker_gets_the_answer_to_its_own_work() -> None:
    async def ask() -> list[int]:
        with a_pool(3) as pool:
            jobs = [pool.submit(lambda _, n=n: n * n, max_ms=10_000) for n in range(50)]  # type: ignore[misc]
            return [await job.answer for job in jobs]

    assert asyncio.run(ask()) == [n * n for n in range(50)]


@pytest.mark.parametrize("error", [ValueError("odd"), StopIteration(), SystemExit(3), KeyboardInterrupt()])
def test_what_the_work_raises_reaches_who_asked_and_the_worker_lives_on(error: BaseException) -> None:
    def fail(ticket: Ticket) -> None:
        raise error

    async def ask() -> None:
        with a_pool() as pool:
            before = pool._threads[0]
            with pytest.raises((ValueError, RuntimeError)):
                await pool.submit(fail, max_ms=10_000).answer
            assert await pool.submit(lambda _: "alive", max_ms=10_000).answer == "alive"
            assert pool._threads[0] is before

    asyncio.run(ask())


def test_a_full_queue_refuses_at_once_and_says_when_to_come_back() -> None:
    async def ask() -> None:
        with a_pool(max_queued=2) as pool:
            gate, jobs = await held(pool)
            jobs += [pool.submit(gate, max_ms=10_000) for _ in range(2)]
            durations = []
            for _ in range(20):
                begin = time.perf_counter()
                with pytest.raises(Overloaded, match="2 photos wait already") as refused:
                    pool.submit(gate, max_ms=10_000)
                durations.append(time.perf_counter() - begin)
            assert refused.value.retry_after_s >= 1
            with pytest.raises(Overloaded):
                pool.refuse_overload()
            assert sorted(durations)[10] < 0.01
            gate.opened.set()
            assert [await job.answer for job in jobs] == ["through"] * 3
            pool.refuse_overload()

    asyncio.run(ask())


def test_work_that_would_wait_too_long_is_refused_although_there_is_room() -> None:
    async def ask() -> None:
        with a_pool(max_wait_s=0.15) as pool:
            for _ in range(20):  # the pool learns that work takes 50 ms
                await pool.submit(lambda _: time.sleep(0.05), max_ms=10_000).answer
            gate, jobs = await held(pool)
            with pytest.raises(Overloaded, match="ms of work"):
                for _ in range(10):
                    jobs.append(pool.submit(gate, max_ms=10_000))
            assert 2 <= pool.state().num_queued <= 6
            gate.opened.set()
            for job in jobs:
                await job.answer

    asyncio.run(ask())


def test_work_that_would_miss_its_own_deadline_is_refused() -> None:
    async def ask() -> None:
        with a_pool() as pool:
            for _ in range(20):
                await pool.submit(lambda _: time.sleep(0.03), max_ms=10_000).answer
            gate, jobs = await held(pool)
            jobs += [pool.submit(gate, max_ms=10_000) for _ in range(5)]
            with pytest.raises(Overloaded):
                pool.submit(gate, max_ms=50)
            jobs.append(pool.submit(gate, max_ms=10_000))
            gate.opened.set()
            for job in jobs:
                await job.answer

    asyncio.run(ask())


def test_queued_work_whose_time_is_over_is_told_so_in_time_and_never_begun() -> None:
    async def ask() -> None:
        with a_pool() as pool:
            gate, (first,) = await held(pool)
            ran: list[int] = []
            late = pool.submit(lambda _: ran.append(1), max_ms=30)
            begin = time.monotonic()
            with pytest.raises(DeadlineExceeded, match="not done within the 30 ms"):
                await late.answer
            assert time.monotonic() - begin < 5  # the worker is held for longer
            assert pool.state().num_queued == 0
            gate.opened.set()
            await first.answer
            await pool.submit(lambda _: None, max_ms=10_000).answer
            assert not ran

    asyncio.run(ask())


def test_work_that_nobody_waits_for_is_never_begun_and_running_work_stops_at_its_next_check() -> None:
    stopped = threading.Event()

    def long_work(ticket: Ticket) -> None:
        try:
            while True:
                ticket.check()
                time.sleep(0.001)
        except DeadlineExceeded:
            stopped.set()
            raise

    async def ask() -> None:
        with a_pool() as pool:
            ran: list[int] = []
            running = pool.submit(long_work, max_ms=10_000)
            while pool.state().num_busy == 0:
                await asyncio.sleep(0.001)
            queued = pool.submit(lambda _: ran.append(1), max_ms=10_000)
            pool.drop(queued)
            pool.drop(running)
            assert pool.state().num_queued == 0
            with pytest.raises(DeadlineExceeded):
                await running.answer
            await pool.submit(lambda _: None, max_ms=10_000).answer
            assert stopped.is_set() and not ran

    asyncio.run(ask())


def kill(thread: threading.Thread) -> None:
    """Raises SystemExit in the thread, wherever it is; it ends when it next runs."""
    assert thread.ident is not None
    killed = ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(thread.ident), ctypes.py_object(SystemExit)
    )
    assert killed == 1


def test_no_timer_keeps_work_that_nobody_waits_for() -> None:
    async def ask() -> None:
        with a_pool(1) as pool:
            done = pool.submit(lambda _: "done", max_ms=60_000)
            await done.answer
            dropped = pool.submit(lambda _: "dropped", max_ms=60_000)
            dropped.answer.cancel()
            pool.drop(dropped)
            for job in (done, dropped):
                assert job.timer is not None and job.timer.cancelled()

    asyncio.run(ask())


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_worker_that_dies_is_replaced() -> None:
    async def ask() -> None:
        with a_pool(2) as pool:
            victim = pool._threads[0]
            kill(victim)
            with pool._lock:
                for woken in pool._idle:
                    woken.release()
            victim.join(10)
            assert not victim.is_alive() and pool.state().num_alive == 1
            assert await pool.submit(lambda _: "done", max_ms=10_000).answer == "done"
            assert pool.state().num_alive == 2

    asyncio.run(ask())


def test_a_closed_pool_finishes_what_it_has_and_takes_no_more() -> None:
    async def ask() -> None:
        pool = WorkerPool(1, num_cores=1)
        gate, (job,) = await held(pool)
        queued = pool.submit(lambda _: "too", max_ms=10_000)
        closing = asyncio.create_task(asyncio.to_thread(pool.close, 10))
        while not pool._closing:
            await asyncio.sleep(0.001)
        with pytest.raises(NotReady, match="stopping"):
            pool.submit(gate, max_ms=10_000)
        gate.opened.set()
        assert await closing
        assert [await job.answer, await queued.answer] == ["through", "too"]

    asyncio.run(ask())


def test_a_worker_that_hangs_does_not_keep_the_pool_from_closing() -> None:
    async def ask() -> None:
        pool = WorkerPool(1, num_cores=1)
        gate, (job,) = await held(pool)
        assert not pool.close(0.05)
        gate.opened.set()
        await job.answer

    asyncio.run(ask())


class Device:
    """Adds 1 to items, one call at a time, and remembers the size of each batch."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.threads: set[int] = set()
        self.ready, self.open = threading.Event(), threading.Event()
        self.open.set()

    def __call__(self, items: Items) -> Items:
        self.ready.set()
        assert self.open.wait(10)
        self.sizes.append(len(items))
        self.threads.add(threading.get_ident())
        if (items == 13).any():
            raise ValueError("thirteen")
        return items + np.uint8(1)


@contextmanager
def a_batcher(
    device: Device, num_cores: int = 1, **options: Any
) -> Iterator[tuple[MicroBatcher, threading.Semaphore]]:
    cores = threading.Semaphore(num_cores)
    batcher = MicroBatcher(device, cores, **options)
    try:
        yield batcher, cores
    finally:
        batcher.close()


def ask_all(batcher: MicroBatcher, cores: threading.Semaphore, askers: list[Items]) -> list[Any]:
    """Asks from one thread each, all at once; gives results or errors, in order."""
    answers: list[Any] = [None] * len(askers)

    def ask(number: int) -> None:
        with cores:
            try:
                answers[number] = batcher(askers[number])
            except Exception as error:  # noqa: BLE001 - handed to the test
                answers[number] = error

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(len(askers))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    return answers


def items(*values: int) -> Items:
    return np.array(values, np.uint8)[:, None]


def ask_while_busy(device: Device, batcher: MicroBatcher, cores: threading.Semaphore, *later: Items) -> Any:
    """Asks for `later`, all at once, while the device is at a call with one item; gives their answers."""
    device.open.clear()
    device.ready.clear()
    answers: list[Any] = []
    first = threading.Thread(target=ask_all, args=(batcher, cores, [items(1)]))
    first.start()
    assert device.ready.wait(10)
    asking = threading.Thread(target=lambda: answers.extend(ask_all(batcher, cores, list(later))))
    asking.start()
    end = time.monotonic() + 10
    while len(batcher._calls) < len(later):  # a caller's core is free while it waits: cores may be fewer
        assert time.monotonic() < end
        time.sleep(0.001)
    device.open.set()
    first.join(10)
    asking.join(10)
    return answers


def test_what_waits_for_the_device_is_one_batch_padded_to_a_known_size() -> None:
    device, observed = Device(), list[int]()
    with a_batcher(device, 2, sizes=(1, 4, 8), observe=observed.append) as (batcher, cores):
        ask_while_busy(device, batcher, cores, items(2), items(4), items(5))
        ask_while_busy(device, batcher, cores, items(2, 3, 4), items(5, 6))
    assert device.sizes == [1, 4, 1, 8]
    assert observed == [1, 3, 1, 5]
    assert len(device.threads) == 1


def test_each_caller_gets_its_own_results() -> None:
    device = Device()
    with a_batcher(device, 3) as (batcher, cores):
        askers = [items(*range(start, start + 1 + start % 3)) for start in range(20, 80)]
        for asked, answer in zip(askers, ask_all(batcher, cores, askers), strict=True):
            np.testing.assert_array_equal(answer, asked + 1)
    assert set(device.sizes) <= {1, 2, 4, 8, 16, 32}


def test_more_items_than_the_largest_batch_are_split() -> None:
    device = Device()
    with a_batcher(device, sizes=(1, 4)) as (batcher, cores), cores:
        many = items(*range(20, 30))
        np.testing.assert_array_equal(batcher(many), many + 1)
    assert device.sizes == [4, 4, 4]


def test_one_call_that_fails_spoils_no_other_one_in_its_batch() -> None:
    device = Device()
    with a_batcher(device, 4) as (batcher, cores):
        odd, good = ask_while_busy(device, batcher, cores, items(13), items(3))
        assert isinstance(odd, ValueError)
        np.testing.assert_array_equal(good, items(4))
        assert batcher.is_alive


def test_every_size_is_warmed_in_the_thread_that_runs_it_later() -> None:
    device = Device()
    with a_batcher(device, sizes=(1, 2, 4)) as (batcher, cores), cores:
        batcher.warm(items(1)[0])
        batcher(items(5))
    assert device.sizes == [1, 2, 4, 1]
    assert device.threads == {batcher._thread.ident}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_nobody_waits_for_a_device_thread_that_died() -> None:
    class Fatal(Device):
        def __call__(self, items: Items) -> Items:
            raise SystemExit

    with a_batcher(Fatal(), 2) as (batcher, cores):
        (answer,) = ask_all(batcher, cores, [items(1)])
        assert isinstance(answer, NotReady)
        batcher._thread.join(10)  # callers are told before it is quite gone
        assert not batcher.is_alive
        (answer,) = ask_all(batcher, cores, [items(1)])
        assert isinstance(answer, NotReady)
