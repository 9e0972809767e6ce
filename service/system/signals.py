"""The signal SIGHUP, which reloads the model."""

import asyncio
import signal
import threading
from collections.abc import Callable


def ignore_sighup() -> None:
    """Ignores SIGHUP until `on_sighup`; by default it would end a process that still starts."""
    if _gets_signals():
        signal.signal(signal.SIGHUP, signal.SIG_IGN)


def on_sighup(act: Callable[[], object]) -> Callable[[], object]:
    """Calls `act` in the running event loop for each SIGHUP; returns a function to stop."""
    if not _gets_signals():
        return lambda: None
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, act)
    return lambda: loop.remove_signal_handler(signal.SIGHUP)


def _gets_signals() -> bool:
    """Whether this is the main thread of a Unix process: Python handles signals there only."""
    return hasattr(signal, "SIGHUP") and threading.current_thread() is threading.main_thread()
