"""An event loop in a thread of its own, for callers that block."""

import asyncio
import threading
import weakref
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class LoopThread:
    """Runs coroutines for any number of threads, until it is closed or forgotten."""

    def __init__(self) -> None:
        runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self._loop = runner.get_loop()
        self._thread = threading.Thread(target=_run, args=(runner,), daemon=True)
        self._thread.start()
        self._stop = weakref.finalize(self, self._loop.call_soon_threadsafe, self._loop.stop)

    def run(self, function: Callable[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """What the coroutine returns or raises.

        Raises:
            RuntimeError: the thread has ended.
        """
        if not self._thread.is_alive():
            raise RuntimeError("closed, or made before a fork; make one in each process")
        return asyncio.run_coroutine_threadsafe(function(*args, **kwargs), self._loop).result()

    def close(self, last: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Runs the last coroutine, cancels all others, and ends the thread."""
        if self._thread.is_alive():
            self.run(last)
        self._stop()
        self._thread.join()


def _run(runner: asyncio.Runner) -> None:
    with runner:
        runner.get_loop().run_forever()
