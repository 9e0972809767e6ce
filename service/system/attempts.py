"""Calls whose exceptions are values, for threads that must survive whatever they run."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


def attempt(function: Callable[..., T], *arguments: Any) -> tuple[T | None, Exception | None]:
    """The function's result and None, or None and its exception; for threads that must survive exceptions."""
    try:
        return function(*arguments), None
    except BaseException as error:  # noqa: BLE001 - a worker survives whatever a photo does, even SystemExit
        if isinstance(error, Exception) and not isinstance(error, StopIteration):  # futures do not take it
            return None, error
        return None, RuntimeError(f"the work raised {type(error).__name__}")


def attempt_aside(function: Callable[[], T]) -> Future[tuple[T | None, Exception | None]]:
    """`attempt` in a daemon thread: if the function hangs, the process can end."""
    outcome: Future[tuple[T | None, Exception | None]] = Future()
    outcome.set_running_or_notify_cancel()  # whoever waits may go, the thread goes on
    threading.Thread(target=lambda: outcome.set_result(attempt(function)), daemon=True).start()
    return outcome
