"""Child processes: the environment that they inherit, and limits that they set themselves."""

import ctypes
import os
import resource
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

_INHERITED: Final = frozenset({
    "GLIBC_TUNABLES", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "LD_PRELOAD",
    "MALLOC_ARENA_MAX", "OMP_NUM_THREADS", "PATH", "PYTHONDONTWRITEBYTECODE", "PYTHONHOME", "PYTHONPATH",
    "PYTHONPYCACHEPREFIX", "PYTHONWARNINGS", "TMPDIR", "TZ", "VIRTUAL_ENV",
})  # fmt: skip
"""Environment variables that children inherit; others may be secrets."""

_ONE_THREAD: Final = {"OPENBLAS_NUM_THREADS": "1"}
"""NumPy's and OpenCV's copies of OpenBLAS, which nothing here asks, would each begin a thread for every core:
on 64 cores 64 processes of 127 threads, more than a container may have."""

_PR_SET_PDEATHSIG: Final = 1


def child_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment variables of a child process."""
    return {name: text for name, text in environment.items() if name in _INHERITED} | _ONE_THREAD


def limit_memory(num_bytes: int) -> None:
    """Lets this process have so much more address space than it has, where the system is Linux."""
    if sys.platform.startswith("linux"):
        num_pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = num_pages * resource.getpagesize() + num_bytes
        with suppress(ValueError):  # a lower limit holds already
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def end_with_parent(parent: int) -> None:
    """Makes Linux kill this process when the thread that started it ends; `parent` is its process."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it has ended already
            sys.exit(1)


def describe_exit(code: int) -> str:
    """How a process ended, by its return code."""
    return f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"
