"""A process that imports this is on a machine without libseccomp."""

import ctypes
from typing import Any

_library = ctypes.CDLL


def _load(name: Any, *arguments: Any, **named: Any) -> ctypes.CDLL:
    if name == "libseccomp.so.2":
        raise OSError(f"{name}: cannot open shared object file")
    return _library(name, *arguments, **named)


ctypes.CDLL = _load  # type: ignore[assignment,misc]
