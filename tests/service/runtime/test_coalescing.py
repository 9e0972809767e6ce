"""Work in steps, and calls that are made as one."""

from collections.abc import Sequence

import pytest

from service.runtime.coalescing import SharedCall, Steps, make_calls, run_alone, run_together


class Doubles:
    """Doubles each item; notes what it was given."""

    def __init__(self) -> None:
        self.given: list[list[int]] = []

    def __call__(self, items: Sequence[int]) -> list[int]:
        self.given.append(list(items))
        if 99 in items:
            raise ValueError("99")
        return [2 * item for item in items]


def test_calls_of_the_same_function_are_one_call_in_their_order() -> None:
    one, other = Doubles(), Doubles()
    calls = [SharedCall(one, [1]), SharedCall(other, [5]), SharedCall(one, [2, 3])]
    make_calls(calls)
    assert one.given == [[1, 2, 3]]
    assert other.given == [[5]]
    assert [call.results for call in calls] == [[2], [10], [4, 6]]
    assert calls[0].took_ms == calls[2].took_ms > 0


def test_where_one_spoils_a_call_each_is_made_alone() -> None:
    run = Doubles()
    calls = [SharedCall(run, [value]) for value in (1, 99, 2)]
    make_calls(calls)
    assert run.given == [[1, 99, 2], [1], [99], [2]]
    assert [call.error is None for call in calls] == [True, False, True]
    assert [list(call.results) for call in calls] == [[2], [], [4]]


def test_work_done_alone_goes_from_call_to_call_to_its_value() -> None:
    run = Doubles()

    def work() -> Steps[int]:
        total = 0
        for value in (3, 4):
            call = SharedCall(run, [value])
            yield call
            total += call.results[0]
        return total

    assert run_alone(work()) == 14
    assert run.given == [[3], [4]]


def test_the_error_of_a_call_is_thrown_into_the_work_which_may_go_on() -> None:
    run = Doubles()

    def gives_up() -> Steps[int]:
        yield SharedCall(run, [99])
        return 1

    def goes_on() -> Steps[str]:
        try:
            yield SharedCall(run, [99])
        except ValueError as error:
            return f"met {error}"
        return "met nothing"

    with pytest.raises(ValueError, match="99"):
        run_alone(gives_up())
    assert run_alone(goes_on()) == "met 99"


def test_an_interruption_is_thrown_into_all_that_shared_the_call_and_tried_no_second_time() -> None:
    num_runs = 0

    def interrupted(items: Sequence[int]) -> list[int]:
        nonlocal num_runs
        num_runs += 1
        raise KeyboardInterrupt

    calls = [SharedCall(interrupted, [value]) for value in (1, 2)]
    make_calls(calls)
    assert [type(call.error) for call in calls] == [KeyboardInterrupt] * 2
    assert num_runs == 1

    def work() -> Steps[int]:
        yield SharedCall(interrupted, [1])
        return 1

    with pytest.raises(KeyboardInterrupt):
        run_alone(work())


def test_work_without_calls_has_its_value() -> None:
    def work() -> Steps[str]:
        yield from ()
        return "done"

    assert run_alone(work()) == "done"


def test_several_pieces_of_work_go_on_together_until_each_has_its_value() -> None:
    run = Doubles()

    def work(*values: int) -> Steps[list[int]]:
        told: list[int] = []
        for value in values:
            call = SharedCall(run, [value])
            yield call
            told += call.results
        return told

    assert run_together([work(1, 2), work(), work(3), work(4, 5, 6)]) == [[2, 4], [], [6], [8, 10, 12]]
    assert run.given == [[1, 3, 4], [2, 5], [6]]
    assert run_together([]) == []


def test_what_one_of_several_raises_comes_through_and_the_others_are_closed() -> None:
    closed: list[str] = []

    def raises() -> Steps[int]:
        yield SharedCall(Doubles(), [1])
        raise KeyError("mistake")

    def waits() -> Steps[int]:
        try:
            for _ in range(3):
                yield SharedCall(Doubles(), [1])
        finally:
            closed.append("closed")
        return 1

    with pytest.raises(KeyError, match="mistake"):
        run_together([waits(), raises()])
    assert closed == ["closed"]
