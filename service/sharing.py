"""Work in steps: it says what it wants computed, so that pieces of work that want the same share a call.

A model on a CPU, too, draws several faces in less time than one after the other: what it holds is read from
memory once for all of them.
"""

import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

T = TypeVar("T")
Items = npt.NDArray[np.uint8]


@dataclass(eq=False, slots=True)
class SharedCall:
    """Items, N of any shape, and the function of them that is wanted; afterwards its results or its error."""

    run: Callable[[Items], Items]
    items: Items
    results: Items | None = None
    error: Exception | None = None
    took_ms: float = 0.0
    """How long the call took that this one was a part of."""


Steps = Generator[SharedCall, None, T]
"""Work that yields calls and goes on once each has its results; an error is thrown into it. Its value is the
work's."""


def run_alone(steps: Steps[T]) -> T:
    """The value of the work; each of its calls is made alone."""
    try:
        call = next(steps)
        while True:
            make_calls([call])
            call = go_on(steps, call)
    except StopIteration as end:
        value: T = end.value
        return value


def go_on(steps: Steps[T], call: SharedCall) -> SharedCall:
    """The next call of work whose last one was made.

    Raises:
        StopIteration: the work is done; what else it raises comes through.
    """
    return next(steps) if call.error is None else steps.throw(call.error)


def make_calls(calls: Sequence[SharedCall]) -> None:
    """Gives each call its results; those of the same function are made in one. None of them raises."""
    by_function: dict[Callable[[Items], Items], list[SharedCall]] = {}
    for call in calls:
        by_function.setdefault(call.run, []).append(call)
    for run, same in by_function.items():
        _make_one(run, same)


def _make_one(run: Callable[[Items], Items], calls: Sequence[SharedCall]) -> None:
    begin = time.monotonic()
    items = calls[0].items if len(calls) == 1 else np.concatenate([call.items for call in calls])
    try:
        results = run(items)
    except Exception as error:  # noqa: BLE001 - thrown into the work that wants it
        if len(calls) == 1:
            calls[0].error = error
            return
        for call in calls:  # one of them spoils it for the others: each alone
            _make_one(run, [call])
        return
    took_ms, start = (time.monotonic() - begin) * 1000, 0
    for call in calls:
        call.results, call.took_ms = results[start : start + len(call.items)], took_ms
        start += len(call.items)
