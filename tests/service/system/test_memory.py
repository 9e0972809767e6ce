"""Memory: the limit of the process, and the budget of pixels."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from service.system import memory
from service.system.memory import MemoryBudget, count_memory

MB = 1 << 20


def look_away() -> None:
    """Nobody minds how long it takes."""


@pytest.mark.parametrize("name", ["memory.max", "memory.limit_in_bytes"])
def test_the_least_limit_counts(tmp_path: Path, name: str) -> None:
    above, own = tmp_path / "above", tmp_path / "own"
    for folder, limit in ((above, 300 * MB), (own, 200 * MB)):
        folder.mkdir()
        (folder / name).write_text(f"{limit}\n")
    assert count_memory([above, own]) == count_memory([own, above]) == 200 * MB


@pytest.mark.parametrize("text", ["max", str(2**63 - 4096), "", "nonsense"])
def test_without_a_limit_the_machines_memory_counts(tmp_path: Path, text: str) -> None:
    (tmp_path / "memory.max").write_text(text)
    (total,) = [line for line in Path("/proc/meminfo").read_text().splitlines() if "MemTotal" in line]
    assert count_memory([tmp_path]) == int(total.split()[1]) * 1024


def test_more_than_there_is_goes_to_one_alone_and_the_next_one_waits() -> None:
    budget = MemoryBudget(100 * MB, 2)
    events: list[str] = []

    def take(name: str) -> None:
        with budget.reserve(90 * MB, look_away):
            events.append(f"{name} has it")
            time.sleep(0.2)
            events.append(f"{name} is done")

    with ThreadPoolExecutor(3) as threads:
        list(threads.map(take, "abc"))
    assert [event[2:] for event in events] == ["has it", "is done"] * 3


def test_memory_goes_to_those_who_wait_in_the_order_of_their_arrival() -> None:
    budget, order = MemoryBudget(100 * MB, 2), list[int]()
    waits = [threading.Event() for _ in range(12)]

    def take(index: int) -> None:
        with budget.reserve(90 * MB, waits[index].set):
            order.append(index)

    with ThreadPoolExecutor(len(waits)) as threads, budget.reserve(90 * MB, look_away):
        for index, waiting in enumerate(waits):
            threads.submit(take, index)
            waiting.wait()
    assert order == list(range(len(waits)))


def test_what_fits_is_had_at_once() -> None:
    budget = MemoryBudget(400 * MB, 2)
    with ExitStack() as lent:
        for _ in range(2):
            lent.enter_context(budget.reserve(100 * MB, look_away))


def test_a_small_photo_does_not_wait_for_large_ones() -> None:
    budget = MemoryBudget(100 * MB, 2)
    with ThreadPoolExecutor(1) as threads, budget.reserve(90 * MB, look_away):
        done = threading.Event()

        def give_up() -> None:
            if done.is_set():
                raise TimeoutError

        waiting = threads.submit(budget.reserve(90 * MB, give_up).__enter__)
        time.sleep(0.1)
        assert not waiting.done()
        with budget.reserve(budget.unreserved_bytes, look_away):
            done.set()
        with pytest.raises(TimeoutError):
            waiting.result(10)


def test_who_gives_up_waiting_takes_nothing_along() -> None:
    def give_up() -> None:
        raise TimeoutError

    budget = MemoryBudget(100 * MB, 1)
    with budget.reserve(60 * MB, look_away):
        for _ in range(3):
            with pytest.raises(TimeoutError), budget.reserve(60 * MB, give_up):
                raise AssertionError("it was not free")
    with pytest.raises(KeyError), budget.reserve(60 * MB, give_up):
        raise KeyError
    with budget.reserve(60 * MB, give_up):
        pass


def test_what_users_have_without_asking_is_at_most_half() -> None:
    for num_users in (1, 3, 100):
        budget = MemoryBudget(100 * MB, num_users)
        assert 0 < budget.unreserved_bytes * num_users <= 50 * MB


def test_where_nothing_can_be_said_of_what_goes_first_it_is_not_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "_OOM_SCORE", tmp_path / "none")
    memory.prefer_oom_kill()
    assert not list(tmp_path.iterdir())
    (tmp_path / "none").write_text("700\n")
    memory.prefer_oom_kill()
    assert (tmp_path / "none").read_text() == "1000"
