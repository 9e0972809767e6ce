"""What the tests let another process do with a photo; it imports them from here."""

import os
import signal
import time
from functools import partial

import cv2
import numpy as np

from service.eyes import ServedFinder
from service.photo import Photo
from service.reading import Task


def sleep(photo: Photo, seconds: float, *, finder: ServedFinder) -> int:
    """The process's number, after so long; the photo and the finder are of no interest."""
    time.sleep(seconds)
    return os.getpid()


def fail(photo: Photo, *, finder: ServedFinder) -> int:
    """Fails as only a mistake in the code does."""
    raise ZeroDivisionError("a mistake")


def sleeping(seconds: float) -> Task[int]:
    """`sleep` for so long."""
    return partial(sleep, seconds=seconds)


def lack_memory(photo: Photo, *, finder: ServedFinder) -> None:
    """Asks numpy for more than any machine has."""
    np.empty(2**60, np.uint8)


def lack_memory_in_opencv(photo: Photo, *, finder: ServedFinder) -> None:
    """Asks OpenCV for more than any machine has."""
    cv2.resize(np.zeros((8, 8), np.float64), (2**30, 2**30), interpolation=cv2.INTER_NEAREST)


def misuse_opencv(photo: Photo, *, finder: ServedFinder) -> None:
    """Fails as only a mistake in the code does, in OpenCV."""
    cv2.resize(np.zeros((8, 8), np.uint8), (0, 0))


def die(photo: Photo, *, finder: ServedFinder) -> None:
    """Ends its process as a decoder that crashes does."""
    os.kill(os.getpid(), signal.SIGKILL)


def note_times(photo: Photo, *, finder: ServedFinder) -> tuple[float, float]:
    """When it began and when it was done, in seconds of the machine's clock."""
    begin = time.monotonic()
    time.sleep(0.3)
    return begin, time.monotonic()
