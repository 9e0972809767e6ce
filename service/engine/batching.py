"""Micro-batching: concurrent calls share batches on a device that is faster with many items a call.

Knows nothing of images or HTTP.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from service.engine.worker_pool import call_together
from service.errors import NotReady

Items = tuple[npt.NDArray[Any], npt.NDArray[Any]]
"""Two arrays of the same number of items, of any shape and type."""

BATCH_SIZES: Final = (1, 2, 4, 8, 16, 32)
"""Batches are padded to these: cuDNN plans anew for each size it has not seen, and small convolutional
nets gain little beyond 16. Source: microsoft/onnxruntime issues 11047 and 22705."""


@dataclass(eq=False, slots=True)
class _Call:
    """Items that one thread waits for."""

    items: Items
    results: Future[Items] = field(default_factory=Future)


class MicroBatcher:
    """Calls a device from one thread with all calls queued by then; none is delayed to fill a batch.

    Calls come from the workers of a pool, whose core is free for others while they wait.
    """

    def __init__(
        self,
        run: Callable[..., Items],
        cores: threading.Semaphore,
        *,
        sizes: Sequence[int] = BATCH_SIZES,
        observe: Callable[[int], object] = lambda size: None,
    ) -> None:
        """`run` gets both arrays, of one of `sizes`; `observe` gets the number of items before padding."""
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
        """Whether the thread that calls the device runs and accepts calls."""
        return self._thread.is_alive() and not self._closing

    def warm(self, *item: npt.NDArray[Any]) -> None:
        """Runs every size of batch once, in the thread that runs them later; both arrays hold one item."""
        first, second = item
        for size in self._sizes:
            self(first.repeat(size, axis=0), second.repeat(size, axis=0))

    def __call__(self, first: npt.NDArray[Any], second: npt.NDArray[Any]) -> Items:
        """The results of the items, in their order; what `run` raises comes through."""
        most = self._sizes[-1]
        starts = range(0, len(first), most)
        return _join([self._ask((first[at : at + most], second[at : at + most])) for at in starts])

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
                raise NotReady("The thread that runs the model has ended; restart the service.")
            self._calls.append(call)
            self._changed.notify()
        self._cores.release()
        try:
            return call.results.result()
        finally:
            self._cores.acquire()

    def _own(self) -> None:
        calls: list[_Call] = []
        try:
            while calls := self._take():
                self._answer(calls)
        finally:  # however this thread ends, its callers must not wait forever
            with self._changed:
                self._closing = True
                calls += self._calls
            for call in calls:
                if not call.results.done():
                    call.results.set_exception(NotReady("The thread that runs the model has ended."))

    def _take(self) -> list[_Call]:
        """As many calls as fit into one batch, the oldest first; none: the end."""
        with self._changed:
            while not self._calls and not self._closing:
                self._changed.wait()
            calls: list[_Call] = []
            num_items = 0
            while self._calls and num_items + len(self._calls[0].items[0]) <= self._sizes[-1]:
                calls.append(self._calls.popleft())
                num_items += len(calls[-1].items[0])
            return calls

    def _answer(self, calls: list[_Call]) -> None:
        """Runs the calls as one batch; if that fails, each alone, for one may spoil it for the others."""
        outcomes = call_together(self._run_padded, [call.items for call in calls])
        for call, (results, error) in zip(calls, outcomes, strict=True):
            if results is None:
                call.results.set_exception(error)
            else:
                call.results.set_result(results)

    def _run_padded(self, parts: Sequence[Items]) -> list[Items]:
        first, second = _join(parts)
        num_items = len(first)
        size = next(each for each in self._sizes if each >= num_items)
        self._observe(num_items)
        first, second = self._run(_pad(first, size), _pad(second, size))
        ends = [*accumulate(len(part) for part, _ in parts)]
        return [(first[start:end], second[start:end]) for start, end in pairwise([0, *ends])]


def _join(parts: Sequence[Items]) -> Items:
    if len(parts) == 1:
        return parts[0]
    first, second = (np.concatenate(each) for each in zip(*parts, strict=True))
    return first, second


def _pad(items: npt.NDArray[Any], size: int) -> npt.NDArray[Any]:
    padding = np.zeros((size - len(items), *items.shape[1:]), items.dtype)
    return np.concatenate([items, padding]) if len(padding) else items
