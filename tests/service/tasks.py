"""What the tests let another process do with a photo; it imports them from here."""

import os
import signal
import time
from functools import partial

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


def die(photo: Photo, *, finder: ServedFinder) -> None:
    """Ends its process as a decoder that crashes does."""
    os.kill(os.getpid(), signal.SIGKILL)
