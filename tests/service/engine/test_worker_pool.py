"""The queue and its workers, with real threads and no pictures."""

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from service.engine.worker_pool import Work, WorkerPool, WorkItem, call_together
from service.errors import DeadlineExceeded, NotReady, Overloaded
from service.observability.stage_timer import StageTimer
from tests.running import kill


@contextmanager
def a_pool(num_workers: int = 1, **options: Any) -> Iterator[WorkerPool]:
    pool = WorkerPool(num_workers, **options)
    try:
        yield pool
    finally:
        assert pool.close(5)


class Gate:
    """Work that waits until it is released, and records when it began."""

    def __init__(self) -> None:
        self.begun, self.opened = threading.Event(), threading.Event()

    def __call__(self, timer: StageTimer) -> str:
        self.begun.set()
        assert self.opened.wait(10)
        return "through"


async def held(pool: WorkerPool, num_workers: int = 1) -> tuple[Gate, list[WorkItem[str]]]:
    """Occupies every worker with work that waits at one gate."""
    gate = Gate()
    items = [pool.submit(Work.of(gate), max_ms=10_000) for _ in range(num_workers)]
    while pool.state().num_busy < num_workers:
        await asyncio.sleep(0.001)
    return gate, items


def test_each_asker_gets_the_answer_to_its_own_work() -> None:
    async def ask() -> list[int]:
        with a_pool(3) as pool:
            items = [pool.submit(Work.of(lambda _, n=n: n * n), max_ms=10_000) for n in range(50)]  # type: ignore[misc]
            return [await item.future for item in items]

    assert asyncio.run(ask()) == [n * n for n in range(50)]


@pytest.mark.parametrize("error", [ValueError("odd"), StopIteration(), SystemExit(3), KeyboardInterrupt()])
def test_what_the_work_raises_reaches_who_asked_and_the_worker_lives_on(error: BaseException) -> None:
    def fail(timer: StageTimer) -> None:
        raise error

    async def ask() -> None:
        with a_pool() as pool:
            before = pool._threads[0]
            with pytest.raises((ValueError, RuntimeError)):
                await pool.submit(Work.of(fail), max_ms=10_000).future
            assert await pool.submit(Work.of(lambda _: "alive"), max_ms=10_000).future == "alive"
            assert pool._threads[0] is before

    asyncio.run(ask())


def test_a_full_queue_refuses_at_once_and_says_when_to_come_back() -> None:
    async def ask() -> None:
        with a_pool(max_queued=2) as pool:
            gate, items = await held(pool)
            items += [pool.submit(Work.of(gate), max_ms=10_000) for _ in range(2)]
            durations = []
            for _ in range(20):
                begin = time.perf_counter()
                with pytest.raises(Overloaded, match="2 photos wait already") as refused:
                    pool.submit(Work.of(gate), max_ms=10_000)
                durations.append(time.perf_counter() - begin)
            assert refused.value.retry_after_s >= 1
            with pytest.raises(Overloaded):
                pool.refuse_overload()
            assert sorted(durations)[10] < 0.01
            gate.opened.set()
            assert [await item.future for item in items] == ["through"] * 3
            pool.refuse_overload()

    asyncio.run(ask())


def test_work_that_would_wait_too_long_is_refused_although_there_is_room() -> None:
    async def ask() -> None:
        with a_pool(max_wait_s=0.15) as pool:
            for _ in range(20):  # the pool learns that work takes 50 ms
                await pool.submit(Work.of(lambda _: time.sleep(0.05)), max_ms=10_000).future
            gate, items = await held(pool)
            with pytest.raises(Overloaded, match="ms of work"):
                for _ in range(10):
                    items.append(pool.submit(Work.of(gate), max_ms=10_000))
            assert 2 <= pool.state().num_queued <= 6
            gate.opened.set()
            for item in items:
                await item.future

    asyncio.run(ask())


def test_refused_work_is_to_come_back_when_the_queue_is_done() -> None:
    async def ask() -> None:
        with a_pool(max_queued=2) as pool:
            gate, items = await held(pool)
            pool._mean_s = 2.6
            items += [pool.submit(Work.of(gate), max_ms=10_000) for _ in range(2)]
            with pytest.raises(Overloaded) as refused:
                pool.submit(Work.of(gate), max_ms=10_000)
            assert refused.value.retry_after_s == 6  # rounded up
            gate.opened.set()
            await answers(items)

    asyncio.run(ask())


def test_work_that_would_miss_its_own_deadline_is_refused() -> None:
    async def ask() -> None:
        with a_pool() as pool:
            for _ in range(20):
                await pool.submit(Work.of(lambda _: time.sleep(0.03)), max_ms=10_000).future
            gate, items = await held(pool)
            items += [pool.submit(Work.of(gate), max_ms=10_000) for _ in range(5)]
            with pytest.raises(Overloaded):
                pool.submit(Work.of(gate), max_ms=50)
            items.append(pool.submit(Work.of(gate), max_ms=10_000))
            gate.opened.set()
            for item in items:
                await item.future

    asyncio.run(ask())


def test_queued_work_whose_time_is_over_is_told_so_in_time_and_never_begun() -> None:
    async def ask() -> None:
        with a_pool() as pool:
            gate, (first,) = await held(pool)
            ran: list[int] = []
            late = pool.submit(Work.of(lambda _: ran.append(1)), max_ms=30)
            begin = time.monotonic()
            with pytest.raises(DeadlineExceeded, match="not done within the 30 ms"):
                await late.future
            assert time.monotonic() - begin < 5  # the worker is held for longer
            assert pool.state().num_queued == 0
            gate.opened.set()
            await first.future
            await pool.submit(Work.of(lambda _: None), max_ms=10_000).future
            assert not ran

    asyncio.run(ask())


def test_work_that_nobody_waits_for_is_never_begun_and_running_work_stops_at_its_next_check() -> None:
    stopped = threading.Event()

    def long_work(timer: StageTimer) -> None:
        try:
            while True:
                timer.check()
                time.sleep(0.001)
        except DeadlineExceeded:
            stopped.set()
            raise

    async def ask() -> None:
        with a_pool() as pool:
            ran: list[int] = []
            running = pool.submit(Work.of(long_work), max_ms=10_000)
            while pool.state().num_busy == 0:
                await asyncio.sleep(0.001)
            queued = pool.submit(Work.of(lambda _: ran.append(1)), max_ms=10_000)
            pool.drop(queued)
            pool.drop(running)
            assert pool.state().num_queued == 0
            with pytest.raises(DeadlineExceeded):
                await running.future
            await pool.submit(Work.of(lambda _: None), max_ms=10_000).future
            assert stopped.is_set() and not ran

    asyncio.run(ask())


def test_no_timer_keeps_work_that_nobody_waits_for() -> None:
    async def ask() -> None:
        with a_pool(1) as pool:
            done = pool.submit(Work.of(lambda _: "done"), max_ms=60_000)
            await done.future
            dropped = pool.submit(Work.of(lambda _: "dropped"), max_ms=60_000)
            dropped.future.cancel()
            pool.drop(dropped)
            for item in (done, dropped):
                assert item.timeout is not None and item.timeout.cancelled()

    asyncio.run(ask())


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_worker_that_dies_is_replaced() -> None:
    async def ask() -> None:
        with a_pool(2) as pool:
            victim = pool._threads[0]
            kill(victim)
            with pool._changed:
                pool._changed.notify_all()
            victim.join(10)
            assert not victim.is_alive() and pool.state().num_alive == 1
            assert await pool.submit(Work.of(lambda _: "done"), max_ms=10_000).future == "done"
            assert pool.state().num_alive == 2

    asyncio.run(ask())


def test_a_closed_pool_finishes_what_it_has_and_takes_no_more() -> None:
    async def ask() -> None:
        pool = WorkerPool(1)
        gate, (item,) = await held(pool)
        queued = pool.submit(Work.of(lambda _: "too"), max_ms=10_000)
        closing = asyncio.create_task(asyncio.to_thread(pool.close, 10))
        while not pool._closing:
            await asyncio.sleep(0.001)
        with pytest.raises(NotReady, match="stopping"):
            pool.submit(Work.of(gate), max_ms=10_000)
        gate.opened.set()
        assert await closing
        assert [await item.future, await queued.future] == ["through", "too"]

    asyncio.run(ask())


def test_a_worker_that_hangs_does_not_keep_the_pool_from_closing() -> None:
    async def ask() -> None:
        pool = WorkerPool(1)
        gate, (item,) = await held(pool)
        assert not pool.close(0.05)
        gate.opened.set()
        await item.future

    asyncio.run(ask())


def numbers(asked: Sequence[tuple[int, StageTimer]]) -> list[int]:
    """Reads each number."""
    return [number for number, _ in asked]


class Model:
    """Adds one; records the items of each call, and fails where it is told to."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.fails_on: int | None = None

    def __call__(self, items: Sequence[int]) -> list[int]:
        self.sizes.append(len(items))
        if self.fails_on in items:
            raise ValueError("the model met it")
        return [item + 1 for item in items]

    def asked(self, number: int) -> Work[int, int, int, int]:
        """Work that wants the model's result for the number, and results in ten times that."""
        return Work(number, numbers, self, lambda drawn, timer: 10 * drawn)


async def answers(items: list[WorkItem[Any]]) -> list[Any]:
    return await asyncio.gather(*(item.future for item in items), return_exceptions=True)


async def after_waiting(pool: WorkerPool, works: list[Any]) -> list[Any]:
    """The answers of work that waits until the only worker is free."""
    gate, held_items = await held(pool)
    items = [pool.submit(work, max_ms=10_000) for work in works]
    gate.opened.set()
    await answers(held_items)
    return await answers(items)


def test_work_that_waits_shares_its_calls_and_each_asker_gets_its_own_answer() -> None:
    async def ask() -> None:
        model = Model()
        with a_pool() as pool:
            told = await after_waiting(pool, [model.asked(number) for number in range(8)])
        assert told == [10 * (number + 1) for number in range(8)]
        assert model.sizes == [4, 4]

    asyncio.run(ask())


def test_the_answers_of_a_shared_call_wake_the_event_loop_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def ask() -> None:
        loop, calls, model = asyncio.get_running_loop(), list[object](), Model()
        wake = loop.call_soon_threadsafe
        with a_pool() as pool:
            gate, held_items = await held(pool)
            items = [pool.submit(model.asked(number), max_ms=10_000) for number in range(4)]
            monkeypatch.setattr(loop, "call_soon_threadsafe", lambda *call: calls.append(wake(*call)))
            gate.opened.set()
            assert await answers(items) == [10, 20, 30, 40]
            await answers(held_items)
        assert len(calls) == 2  # one held the worker

    asyncio.run(ask())


@pytest.mark.parametrize(
    ("num_waiting", "num_together"), [(1, 1), (3, 1), (4, 2), (5, 2), (6, 3), (7, 3), (8, 4), (13, 4)]
)
def test_as_much_is_done_at_once_as_every_worker_finds(num_waiting: int, num_together: int) -> None:
    async def ask() -> None:
        with a_pool(2) as pool:
            gate, held_items = await held(pool, 2)
            waiting = [pool.submit(Work.of(lambda _: "done"), max_ms=10_000) for _ in range(num_waiting)]
            taken = pool._take()
            assert taken == waiting[:num_together]
            for item in taken:
                item.fail(KeyError("taken by the test"))
            gate.opened.set()
            await answers([*held_items, *waiting])

    asyncio.run(ask())


def test_work_that_takes_long_on_average_is_done_one_after_the_other() -> None:
    async def ask() -> None:
        model = Model()
        with a_pool() as pool:
            pool._mean_s = 1.0
            await after_waiting(pool, [model.asked(number) for number in range(8)])
        assert model.sizes == [1] * 8

    asyncio.run(ask())


def test_an_error_of_the_model_reaches_the_work_that_met_it_alone() -> None:
    async def ask() -> None:
        model = Model()
        model.fails_on = 5
        with a_pool() as pool:
            told = await after_waiting(pool, [model.asked(number) for number in range(3, 7)])
        assert told[:2] + told[3:] == [40, 50, 70]
        assert isinstance(told[2], ValueError)

    asyncio.run(ask())


def test_work_of_every_kind_can_be_done_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work of one step, an error in each step, and one whose asker leaves in between."""
    monkeypatch.setattr("service.engine.worker_pool.MAX_TOGETHER", 6)
    model, ended = Model(), list[StageTimer]()

    def fails(*_: object) -> Any:
        raise KeyError("a step")

    def leaves(alone: Sequence[tuple[int, StageTimer]]) -> list[int]:
        ((number, timer),) = alone
        timer.is_cancelled = True
        return [number]

    async def ask() -> None:
        with a_pool(on_end=ended.append) as pool:
            works = [
                Work.of(lambda _: "plain"),
                Work(1, numbers, model, fails),
                Work(1, fails, model, fails),
                Work(1, lambda _: [ValueError("this one")], model, fails),
                Work(2, leaves, model, lambda drawn, timer: timer.check()),
                model.asked(7),
            ]
            told = await after_waiting(pool, works)
            assert told[0] == "plain"
            assert [type(each) for each in told[1:5]] == [KeyError, KeyError, ValueError, DeadlineExceeded]
            assert told[5] == 80
            assert len(set(ended)) == len(ended) == 7  # one held the worker
            assert await pool.submit(Work.of(lambda _: "alive"), max_ms=10_000).future == "alive"

    asyncio.run(ask())


def test_work_that_is_read_by_the_same_function_is_read_in_one_call() -> None:
    calls: list[list[int]] = []

    def read(asked: Sequence[tuple[int, StageTimer]]) -> list[int | Exception]:
        calls.append(numbers(asked))
        return [ValueError("two") if number == 2 else number for number in calls[-1]]

    async def ask() -> None:
        with a_pool() as pool:
            told = await after_waiting(pool, [Work(number, read) for number in range(1, 5)])
        assert [told[0], *told[2:]] == [1, 3, 4] and isinstance(told[1], ValueError)

    asyncio.run(ask())
    assert calls == [[1, 2, 3, 4]]


def test_work_that_draws_by_another_function_shares_no_call_with_it() -> None:
    one, other = Model(), Model()

    async def ask() -> None:
        with a_pool() as pool:
            works = [one.asked(1), other.asked(2), one.asked(3), other.asked(4), one.asked(5), one.asked(6)]
            assert await after_waiting(pool, works) == [20, 30, 40, 50, 60, 70]

    asyncio.run(ask())
    assert sum(one.sizes) == 4 and sum(other.sizes) == 2


def test_what_is_only_read_waits_for_no_call_of_others() -> None:
    drawing, go_on = threading.Event(), threading.Event()

    def draw(items: Sequence[int]) -> Sequence[int]:
        drawing.set()
        assert go_on.wait(10)
        return items

    async def ask() -> None:
        with a_pool() as pool:
            gate, held_items = await held(pool)
            drawn = pool.submit(Work(1, numbers, draw, lambda result, timer: result), max_ms=10_000)
            plain = pool.submit(Work.of(lambda _: "plain"), max_ms=10_000)
            gate.opened.set()
            await answers(held_items)
            assert await plain.future == "plain"
            assert not drawn.future.done()
            go_on.set()
            assert await drawn.future == 1

    asyncio.run(ask())


def test_a_call_that_ends_its_thread_is_told_to_all_who_share_it_and_the_worker_lives_on() -> None:
    def exits(items: Sequence[int]) -> list[int]:
        raise SystemExit

    async def ask() -> None:
        with a_pool() as pool:
            before = pool._threads[0]
            told = await after_waiting(pool, [Work(1, numbers, exits, lambda drawn, timer: drawn)] * 5)
            assert [str(each) for each in told] == ["the work raised SystemExit"] * 5
            assert await pool.submit(Work.of(lambda _: "alive"), max_ms=10_000).future == "alive"
            assert pool._threads[0] is before

    asyncio.run(ask())


def test_where_one_item_spoils_a_call_each_has_a_call_of_its_own() -> None:
    model = Model()
    model.fails_on = 2
    (one, _), (none, error), (three, _) = call_together(model, [1, 2, 3])
    assert (one, none, three) == (2, None, 4) and isinstance(error, ValueError)
    assert model.sizes == [3, 1, 1, 1]
