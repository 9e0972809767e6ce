"""Memory limit of the process, a budget shared by workers, and allocator and collector settings."""

import ctypes
import gc
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from service.system.host import cgroup_folders

_OOM_SCORE: Final = Path("/proc/self/oom_score_adj")
"""From -1000, never, to 1000, first, in thousandths of the memory that there is. Source: proc(5)."""

_POLL_S: Final = 0.05
_UNRESERVED_BYTES: Final = 64 << 20
"""Photos of 7 million pixels, 4 million if they may be transparent."""

_TRIM_ABOVE_BYTES: Final = 256 << 20
"""Photos of 28 million pixels: those of telephones, which are mostly decoded smaller, come more than once."""


def count_memory(folders: Iterable[Path] | None = None) -> int:
    """The memory limit of the process in bytes: that of the machine, or of its cgroup if that is less.

    `folders`: the cgroups whose limits hold; by default those of this process.
    """
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")] if hasattr(os, "sysconf") else []
    for folder in folders or cgroup_folders("memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):  # of version 2 and 1
            try:
                limits.append(int((folder / name).read_text()))
            except (OSError, ValueError):  # there is none, or it says "max"
                continue
    return min(limits, default=1 << 30)


class MemoryBudget:
    """A budget of bytes for pixels, shared by threads or processes that work on one photo each.

    Reservations wait for free bytes in the order of their arrival, so that large ones are not starved. A
    single one may exceed the budget. Small photos need no reservation and never wait for large ones.
    """

    def __init__(self, num_bytes: int, num_users: int) -> None:
        each = num_bytes // (2 * num_users)
        self.unreserved_bytes = min(_UNRESERVED_BYTES, each)
        """Bytes that each user has without a reservation."""
        self.trim_above_bytes = min(_TRIM_ABOVE_BYTES, each)
        """After a larger photo a user returns freed memory to the system."""
        self._left = num_bytes - self.unreserved_bytes * num_users
        self._num_reserved = 0
        self._waiting: list[object] = []
        self._changed = threading.Condition()

    @contextmanager
    def reserve(self, num_bytes: int, check: Callable[[], None]) -> Iterator[None]:
        """Waits until the bytes are free and holds them within the context; raises what `check` does."""
        if num_bytes <= self.unreserved_bytes:
            yield
            return
        self._take(num_bytes, check)
        try:
            yield
        finally:
            with self._changed:
                self._left += num_bytes
                self._num_reserved -= 1
                self._changed.notify_all()

    def _take(self, num_bytes: int, check: Callable[[], None]) -> None:
        turn = object()
        with self._changed:
            self._waiting.append(turn)
            try:
                while self._waiting[0] is not turn or (self._num_reserved and num_bytes > self._left):
                    self._changed.wait(_POLL_S)
                    check()
                self._left -= num_bytes
                self._num_reserved += 1
            finally:
                self._waiting.remove(turn)
                self._changed.notify_all()


def trim_heap() -> None:
    """Returns freed memory to the system, after a large photo."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform.startswith("linux") else None
    if trim is not None:  # glibc
        trim(0)


def prefer_oom_kill() -> None:
    """Makes Linux kill this process first when memory runs out; it is replaced."""
    with suppress(OSError):  # there is no such file, or it may not be written
        _OOM_SCORE.write_text(str(min(1000, int(_OOM_SCORE.read_text()) + 500)))


def keep_freed_memory(*, mmap_threshold: int = 256 << 20, trim_threshold: int = 1 << 30) -> bool:
    """Tells glibc to keep freed memory for the next photo; False where there is no glibc.

    The thresholds are in bytes: of one block, and of all that is free at the end of the heap.

    By default glibc gives large buffers back to the system at once, and the next photo of the same size
    faults in every page again: some 2,200 page faults and 5 ms of kernel time for each request with a
    1080p photo. With these thresholds a prototype of this service went from 18.0 to 11.1 ms of CPU a
    request. The price: some hundred MB stay with the process after photos that are not small.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # another C library
        return False
    values = {-3: mmap_threshold, -1: trim_threshold, -2: 16 << 20}  # -2: M_TOP_PAD, of glibc's malloc.h
    return 0 not in [mallopt(name, value) for name, value in values.items()]


def freeze_garbage_collector() -> None:
    """Excludes all existing objects from garbage collection; call it once, after startup.

    What was imported and loaded stays to the end. Without this the collector went through all of it every
    few thousand requests, some 30 ms during which nothing was answered. A round before it would find nothing
    and delay the start by 40 ms. Source: gc.freeze in Python's manual.
    """
    gc.freeze()
