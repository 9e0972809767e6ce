"""The signal SIGHUP, which reloads the model."""

import asyncio
import signal
import threading
from collections.abc import Callable


def hold_sighup() -> None:
    """Keeps a SIGHUP for `on_sighup`; by default it would end a process that still starts."""
    if _gets_signals():
        signal.signal(signal.SIGHUP, _HeldSignal())


def on_sighup(act: Callable[[], object]) -> Callable[[], object]:
    """Calls `act` in the running event loop for each SIGHUP, held ones too; returns a function to stop."""
    if not _gets_signals():
        return lambda: None
    loop, held = asyncio.get_running_loop(), signal.getsignal(signal.SIGHUP)
    loop.add_signal_handler(signal.SIGHUP, act)
    if isinstance(held, _HeldSignal) and held.came:
        act()
    return lambda: loop.remove_signal_handler(signal.SIGHUP)


class _HeldSignal:
    """A signal handler that only records the signal; a mask would hold it in this thread alone."""

    def __init__(self) -> None:
        self.came = False

    def __call__(self, *_: object) -> None:
        self.came = True


def _gets_signals() -> bool:
    """Whether this is the main thread of a Unix process: Python handles signals there only."""
    return hasattr(signal, "SIGHUP") and threading.current_thread() is threading.main_thread()
