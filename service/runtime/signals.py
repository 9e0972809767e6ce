"""SIGHUP: another model is to be loaded, or the terminal was closed; imports nothing of ours.

The kernel sends it when the terminal is closed from which a service was started; then the service ends, as it
would without us, unless nohup started it.
"""

import asyncio
import os
import signal
import threading
from collections.abc import Callable


def block_sighup() -> None:
    """Keeps a SIGHUP until `on_sighup` says what to do; by itself it would end the process."""
    if _gets_signals():
        signal.signal(signal.SIGHUP, _Hangups())


def on_sighup(act: Callable[[], None]) -> Callable[[], object]:
    """Acts on each SIGHUP, and on one that was held; gives what undoes that."""
    if not _gets_signals():
        return lambda: None
    before = signal.getsignal(signal.SIGHUP)
    hangups = before if isinstance(before, _Hangups) else _Hangups()

    def hang_up() -> None:
        hangups()
        hangups.pass_on(act)

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, hang_up)
    hangups.pass_on(act)
    return lambda: loop.remove_signal_handler(signal.SIGHUP)


class _Hangups:
    """A signal handler: takes note, or ends the process where its terminal is gone."""

    def __init__(self) -> None:
        self._on_terminal = signal.getsignal(signal.SIGHUP) != signal.SIG_IGN and _has_terminal()
        self._came = False

    def __call__(self, *_: object) -> None:
        if self._on_terminal and not _has_terminal():
            signal.raise_signal(signal.SIGTERM)
        else:
            self._came = True

    def pass_on(self, act: Callable[[], None]) -> None:
        """Acts if one came since the last time."""
        if self._came:
            self._came = False
            act()


def _gets_signals() -> bool:
    """Whether this is the main thread of a Unix process; no other one gets them."""
    return hasattr(signal, "SIGHUP") and threading.current_thread() is threading.main_thread()


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True
