"""What becomes of memory: of what was freed, in the C library, and of what stays, in Python's collector."""

import ctypes
import gc
import sys


def keep_freed_memory() -> bool:
    """Tells glibc to keep freed memory for the next photo; False where there is no glibc.

    By default glibc gives large buffers back to the system at once, and the next photo of the same size
    has every page faulted in anew: some 2,200 page faults and 5 ms of kernel time for each request with a
    1080p photo. With these thresholds a prototype of this service went from 18.0 to 11.1 ms of CPU a
    request. The price: up to 1 GB stays with the process after large photos.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # another C library
        return False
    trim_threshold, top_pad, mmap_threshold = -1, -2, -3  # names of glibc's malloc.h
    values = {mmap_threshold: 256 << 20, trim_threshold: 1 << 30, top_pad: 16 << 20}
    return 0 not in [mallopt(name, value) for name, value in values.items()]


def settle_objects() -> None:
    """Takes all objects that are there out of the rounds of Python's collector; to be called once, ready.

    What was imported and loaded stays to the end. Without this the collector went through all of it every
    few thousand requests, some 30 ms during which nothing was answered. A round before it would find nothing
    and delay the start by 40 ms. Source: gc.freeze in Python's manual.
    """
    gc.freeze()
