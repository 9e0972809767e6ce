"""The protocol `PhotoReader` (decodes photos, detects and crops eyes), and the reader of the calling thread.

Beside a GPU, and where a sandbox is required, processes read them (`service.decoding.process_pool`).
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar

from service.errors import Eye2FaceError
from service.observability.stage_timer import StageTimer
from service.system.host import count_cores
from service.system.memory import MemoryBudget, count_memory, trim_heap
from service.vision.eyes import EyeFinder, Photo
from service.vision.images import translate_memory_errors

T = TypeVar("T")

MEMORY_FRACTION: Final = 0.5
"""Of the memory, for pixels: with more, three small files of 50 million pixels each would end a service that
has 2 GB."""


@dataclass(frozen=True, slots=True)
class PhotoTask(Generic[T]):
    """What is wanted of a photo: a function of `(photo, *, finder)`, and the type of what it returns.

    The function is one of a module, or a `partial` of one, so that another process can import it.
    `max_pixel_bytes` is the most that images in its result take.
    """

    run: Callable[..., T]
    returns: type[T]
    max_pixel_bytes: int = 0


ReadRequest = tuple[bytes, PhotoTask[T], StageTimer]


class PhotoReader(Protocol):
    """Does tasks with photos; may be shared by threads."""

    last_failure: str | None
    """Why the last photo could not be read; None if it could."""

    def __call__(self, data: bytes, task: PhotoTask[T], timer: StageTimer) -> T:
        """What the task returns for the photo of these bytes; the timer counts what it took.

        Raises:
            ImageError: the bytes are not a picture that can be used.
            OutOfMemory: there is too little memory for its pixels.
            ReadingFailed: the process that read the photo ended.
            NotReady: no process can be started.
            RuntimeError: a bug: the task raised an unexpected error in its process.
        """

    def read_together(self, requests: "Sequence[ReadRequest[T]]") -> "Sequence[T | Exception]":
        """The same for several photos with tasks of the same result: for each its result or its error."""

    def test(self) -> None:
        """Raises ModelError: photos cannot be read."""

    def close(self) -> None:
        """Ends the reader; it must not be called afterwards."""


class PixelMemory(Protocol):
    """Who may have how much memory for pixels: a `MemoryBudget`, or a connection to one."""

    unreserved_bytes: int
    """Photos with fewer bytes of pixels need no reservation."""
    trim_above_bytes: int
    """After larger photos, freed memory is returned to the system."""

    def reserve(self, num_bytes: int, check: Callable[[], None]) -> AbstractContextManager[None]:
        """Waits until the bytes are free and holds them within the context; raises what `check` does."""


class InProcessReader:
    """A `PhotoReader` in the calling thread."""

    def __init__(self, finder: EyeFinder, *, max_pixels: int, memory: PixelMemory | None = None) -> None:
        """`memory` is by default a part of this machine's, shared by a thread for each core and one."""
        self.last_failure: str | None = None
        self._finder = finder
        self._max_pixels = max_pixels
        self._memory = memory or pixel_memory(count_cores() + 1)

    def __call__(self, data: bytes, task: PhotoTask[T], timer: StageTimer) -> T:
        """What the task returns; see `PhotoReader`. Pixels are freed in the end, whoever holds the photo."""
        photo = Photo(data, max_pixels=self._max_pixels, timer=timer)
        with translate_memory_errors(), ExitStack() as reserved:
            if photo.num_bytes > self._memory.unreserved_bytes:
                reserved.enter_context(self._memory.reserve(photo.num_bytes, timer.check))
                timer.begin()
            try:
                return task.run(photo, finder=self._finder)
            finally:
                photo.decoded.clear()  # the traceback of an error may hold the photo
                if photo.num_bytes > self._memory.trim_above_bytes:
                    trim_heap()

    def read_together(self, requests: "Sequence[ReadRequest[T]]") -> "list[T | Exception]":
        """The same for several photos, one after the other."""
        results: list[T | Exception] = []
        for request in requests:
            try:
                results.append(self(*request))
            except Eye2FaceError as error:
                results.append(error)
        return results

    def test(self) -> None:
        """Does nothing: the calling thread can always read."""

    def close(self) -> None:
        """Does nothing: there is no process to end."""


def pixel_memory(num_users: int) -> MemoryBudget:
    """The memory budget for pixels of `num_users` threads or processes."""
    return MemoryBudget(int(count_memory() * MEMORY_FRACTION), num_users)
