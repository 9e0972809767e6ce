"""Batches for a device, with real threads and no pictures."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from service.engine.batching import Items, MicroBatcher
from service.errors import NotReady
from tests.running import kill

Array = npt.NDArray[Any]


class Device:
    """Adds 1 to the first items and doubles the second, and remembers the size of each batch."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.threads: set[int] = set()
        self.ready, self.open = threading.Event(), threading.Event()
        self.open.set()

    def __call__(self, first: Array, second: Array) -> Items:
        self.ready.set()
        assert self.open.wait(10)
        assert len(first) == len(second)
        self.sizes.append(len(first))
        self.threads.add(threading.get_ident())
        if (first == 13).any():
            raise ValueError("thirteen")
        return first + np.uint8(1), second[:, 0] * 2


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
                answers[number] = batcher(*askers[number])
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
    return np.array(values, np.uint8)[:, None], np.array(values, np.float32)[:, None]


def assert_done(answer: Items, asked: Items) -> None:
    np.testing.assert_array_equal(answer[0], asked[0] + 1)
    np.testing.assert_array_equal(answer[1], asked[1][:, 0] * 2)


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
            assert_done(answer, asked)
    assert set(device.sizes) <= {1, 2, 4, 8, 16, 32}


def test_more_items_than_the_largest_batch_are_split() -> None:
    device = Device()
    with a_batcher(device, sizes=(1, 4)) as (batcher, cores), cores:
        many = items(*range(20, 30))
        assert_done(batcher(*many), many)
    assert device.sizes == [4, 4, 4]


def test_one_call_that_fails_spoils_no_other_one_in_its_batch() -> None:
    device = Device()
    with a_batcher(device, 4) as (batcher, cores):
        odd, good = ask_while_busy(device, batcher, cores, items(13), items(3))
        assert isinstance(odd, ValueError)
        assert_done(good, items(3))
        assert batcher.is_alive


def test_every_size_is_warmed_in_the_thread_that_runs_it_later() -> None:
    device = Device()
    with a_batcher(device, sizes=(1, 2, 4)) as (batcher, cores), cores:
        batcher.warm(*items(1))
        batcher(*items(5))
    assert device.sizes == [1, 2, 4, 1]
    assert device.threads == {batcher._thread.ident}


def test_a_call_that_would_end_the_device_thread_is_told_and_the_thread_lives_on() -> None:
    class Fatal(Device):
        def __call__(self, first: Array, second: Array) -> Items:
            raise SystemExit

    with a_batcher(Fatal(), 2) as (batcher, cores):
        (answer,) = ask_all(batcher, cores, [items(1)])
        assert isinstance(answer, RuntimeError)
        assert batcher.is_alive


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_nobody_waits_for_a_device_thread_that_died() -> None:
    with a_batcher(Device(), 2) as (batcher, cores):
        kill(batcher._thread)
        with batcher._changed:
            batcher._changed.notify_all()
        batcher._thread.join(10)
        assert not batcher.is_alive
        (answer,) = ask_all(batcher, cores, [items(1)])
        assert isinstance(answer, NotReady)
