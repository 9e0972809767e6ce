"""Photo tasks for the tests; decoder processes import them from here."""

import ctypes
import os
import socket
import sys
import threading
import time
from functools import partial

import cv2
import numpy as np

from service.decoding.reader import PhotoTask
from service.vision.eyes import EyeFinder, Photo
from service.vision.images import Image


def sleep(photo: Photo, seconds: float, *, finder: EyeFinder) -> int:
    """The process's ID, after so long; ignores photo and finder."""
    time.sleep(seconds)
    return os.getpid()


def fail(photo: Photo, *, finder: EyeFinder) -> int:
    """Fails as only a mistake in the code does."""
    raise ZeroDivisionError("a mistake")


def sleeping(seconds: float) -> PhotoTask[int]:
    """`sleep` for so long."""
    return PhotoTask(partial(sleep, seconds=seconds), int)


def lack_memory(photo: Photo, *, finder: EyeFinder) -> int:
    """Asks numpy for more than any machine has."""
    return np.empty(2**60, np.uint8).size


def lack_memory_in_opencv(photo: Photo, *, finder: EyeFinder) -> int:
    """Asks OpenCV for more than any machine has."""
    return cv2.resize(np.zeros((8, 8), np.float64), (2**30, 2**30), interpolation=cv2.INTER_NEAREST).size


def misuse_opencv(photo: Photo, *, finder: EyeFinder) -> int:
    """Fails as only a mistake in the code does, in OpenCV."""
    return cv2.resize(np.zeros((8, 8), np.uint8), (0, 0)).size


def die(photo: Photo, *, finder: EyeFinder) -> int:
    """Ends its process as a decoder that crashes does."""
    return len(ctypes.string_at(0))


def note_times(photo: Photo, *, finder: EyeFinder) -> tuple[float, float]:
    """When it began and when it was done, in seconds of the machine's clock."""
    begin = time.monotonic()
    time.sleep(0.3)
    return begin, time.monotonic()


def return_an_object(photo: Photo, *, finder: EyeFinder) -> object:
    """A value of a type that no message has."""
    return object()


def say(message: bytes, photo: Photo, *, finder: EyeFinder) -> int:
    """Sends these raw bytes, as a compromised process would, and nothing else."""
    os.write(int(sys.argv[1]), message)
    time.sleep(60)
    return 0


def saying(message: bytes) -> PhotoTask[int]:
    """`say` these."""
    return PhotoTask(partial(say, message), int)


def forge_the_log(photo: Photo, *, finder: EyeFinder) -> None:
    """Writes to the outputs that may be the service's log."""
    for output in (1, 2):
        os.write(output, b"forged\n")


def look_around(photo: Photo, *, finder: EyeFinder) -> list[str]:
    """What the process can reach: the environment, and the calls that are not refused."""
    reached = sorted(os.environ)
    for attempt in (lambda: os.listdir("/"), lambda: os.kill(os.getppid(), 0), socket.socket):
        try:
            attempt()
        except OSError:
            continue
        reached.append(repr(attempt))
    return reached


def compute_on(photo: Photo, *, finder: EyeFinder) -> int:
    """Answers, and computes on in another thread without end."""

    def spin() -> None:
        while True:
            hash(photo)

    threading.Thread(target=spin, daemon=True).start()
    return os.getpid()


def take_memory(photo: Photo, *, finder: EyeFinder) -> int:
    """Fills 3 GB, which many machines have."""
    return len(bytearray(3 << 30))


def paint(photo: Photo, *, finder: EyeFinder) -> Image:
    """As many pixels as twenty crops of 600 px."""
    return np.full((2400, 3000, 3), 7, np.uint8)


FAIL = PhotoTask(fail, int)
PAINT = PhotoTask(paint, Image, 2400 * 3000 * 3)
LACK_MEMORY = PhotoTask(lack_memory, int)
LACK_MEMORY_IN_OPENCV = PhotoTask(lack_memory_in_opencv, int)
MISUSE_OPENCV = PhotoTask(misuse_opencv, int)
COMPUTE_ON = PhotoTask(compute_on, int)
TAKE_MEMORY = PhotoTask(take_memory, int)
DIE = PhotoTask(die, int)
NOTE_TIMES = PhotoTask(note_times, tuple[float, float])
FORGE_THE_LOG = PhotoTask(forge_the_log, type(None))
LOOK_AROUND = PhotoTask(look_around, list[str])
RETURN_AN_OBJECT = PhotoTask(return_an_object, object)
