"""Work in steps: it says what it wants computed, so that pieces of work that want the same share a call.

A model on a CPU, too, draws several faces in less time than one after the other: what it holds is read from
memory once for all of them.
"""

import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

T = TypeVar("T")
Item = TypeVar("Item")
Result = TypeVar("Result")

MAX_TOGETHER: Final = 4
"""Photos that are worked on together where many wait. Two, six and eight gave no more, on two cores."""


@dataclass(eq=False, slots=True)
class SharedCall(Generic[Item, Result]):
    """Items, and the function that is wanted of them; afterwards a result for each, or the error."""

    run: Callable[[Sequence[Item]], Sequence[Result]]
    items: Sequence[Item]
    results: Sequence[Result] = ()
    error: BaseException | None = None
    took_ms: float = 0.0
    """How long the call took that this one was a part of."""


Steps = Generator[SharedCall[Any, Any], None, T]
"""Work that yields calls and goes on once each has its results; an error is thrown into it. Its value is the
work's. Functions that are made for each request name it in quotes, which spares making it anew each time."""


def run_alone(steps: Steps[T]) -> T:
    """The value of the work; each of its calls is made alone."""
    return run_together([steps])[0]


def run_together(works: Sequence[Steps[T]]) -> list[T]:
    """The values of several pieces of work, in their order; calls of the same function are made in one.

    What one of them raises comes through, and the others are closed.
    """
    values: dict[int, T] = {}
    calls: dict[int, SharedCall[Any, Any] | None] = dict.fromkeys(range(len(works)))
    try:
        while calls:
            for number, made in list(calls.items()):
                try:
                    calls[number] = next(works[number]) if made is None else go_on(works[number], made)
                except StopIteration as end:
                    values[number] = end.value
                    del calls[number]
            make_calls([call for call in calls.values() if call is not None])
    finally:
        for steps in works:
            steps.close()
    return [values[number] for number in range(len(works))]


def go_on(steps: Steps[T], call: SharedCall[Any, Any]) -> SharedCall[Any, Any]:
    """The next call of work whose last one was made.

    Raises:
        StopIteration: the work is done; what else it raises comes through.
    """
    return next(steps) if call.error is None else steps.throw(call.error)


def make_calls(calls: Sequence[SharedCall[Any, Any]]) -> None:
    """Gives each call its results; those of the same function are made in one. None of them raises."""
    by_function: dict[Callable[..., Any], list[SharedCall[Any, Any]]] = {}
    for call in calls:
        by_function.setdefault(call.run, []).append(call)
    for same in by_function.values():
        _make_one(same)


def _make_one(calls: Sequence[SharedCall[Any, Any]]) -> None:
    begin = time.monotonic()
    try:
        results = calls[0].run([item for call in calls for item in call.items])
    except Exception as error:  # noqa: BLE001 - thrown into the work that wants it
        if len(calls) == 1:
            calls[0].error = error
            return
        for call in calls:  # one of them spoils it for the others: each alone
            _make_one([call])
        return
    except BaseException as error:  # noqa: BLE001 - Ctrl+C, or the end of a thread: it is nobody's fault
        for call in calls:
            call.error = error
        return
    took_ms, start = (time.monotonic() - begin) * 1000, 0
    for call in calls:
        call.results, call.took_ms = results[start : start + len(call.items)], took_ms
        start += len(call.items)
