"""Where photos are read, that is decoded, searched and cropped: here in the thread that asks.

Beside a GPU, and where a sandbox is required, processes do it instead (`service.decoding.process_pool`).
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Final, Protocol, Self, TypeVar

from service.inference.eye_finder import open_eye_finder
from service.observability.stage_timer import StageTimer
from service.runtime.coalescing import Steps
from service.runtime.host import count_cores
from service.runtime.memory import MemoryBudget, count_memory, trim_heap
from service.vision.eyes import EyeFinder
from service.vision.images import translate_memory_errors
from service.vision.photo import Photo

if TYPE_CHECKING:  # pydantic takes 11 MB of each process that reads, which has no settings
    from service.settings import Settings

T = TypeVar("T", covariant=True)

PIXELS_PART_OF_MEMORY: Final = 2
"""One of so many parts of the memory that there is may be taken by pixels at once: three small files of 50
million pixels each would else end a service that has 2 GB."""

Memory = tuple[Callable[[int, Callable[[], None]], AbstractContextManager[None]], int]
"""`lend` and `kept` of a `MemoryBudget`."""


class PhotoTask(Protocol[T]):
    """What is done with a photo: a function of a module, or a `partial` of one, that others can import."""

    def __call__(self, photo: Photo, *, finder: EyeFinder) -> T:
        """What is wanted of the photo."""


class PhotoReader(Protocol):
    """Does tasks with photos; may be shared by threads."""

    last_failure: str | None
    """Why no photo could be read the last time; None if it could."""

    def __call__(self, data: bytes, task: PhotoTask[T], timer: StageTimer) -> T:
        """What the task gives for the photo of these bytes; the clock counts what it took.

        Raises:
            ImageError: the bytes are not a picture that can be used.
            OutOfMemory: there is too little memory for its pixels.
            ReadingFailed: the process that read the photo ended.
            NotReady: no process can be started.
            RuntimeError: the task failed in another process by an error that is none of ours.
        """

    def steps(self, data: bytes, task: PhotoTask[T], timer: StageTimer) -> Steps[T]:
        """The same in steps."""

    def test(self) -> None:
        """Raises ModelError: photos cannot be read."""

    def close(self) -> None:
        """Ends what reads; no photo may come any more."""


class InProcessReader:
    """Reads photos in the thread that asks."""

    def __init__(self, finder: EyeFinder, *, max_pixels: int, num_threads: int = 0) -> None:
        """`num_threads` ask at once; 0: as many as cores, and one."""
        self.last_failure: str | None = None
        self._finder = finder
        self._max_pixels = max_pixels
        self._memory = MemoryBudget(count_memory() // PIXELS_PART_OF_MEMORY, num_threads or count_cores() + 1)

    @classmethod
    def open(cls, settings: "Settings") -> Self:
        """With the eye finder that the settings name. Raises ModelError: it cannot be used."""
        finder = open_eye_finder(settings.eye_finder)
        return cls(finder, max_pixels=settings.max_pixels, num_threads=settings.num_threads)

    def __call__(self, data: bytes, task: PhotoTask[T], timer: StageTimer) -> T:
        """What the task gives; see `PhotoReader`."""
        memory = self._memory
        return read_photo(
            task, data, self._finder, self._max_pixels, timer, (memory.reserve, memory.trim_above_bytes)
        )

    def steps(self, data: bytes, task: PhotoTask[T], timer: StageTimer) -> Steps[T]:
        """The same in steps: it needs nobody else."""
        yield from ()
        return self(data, task, timer)

    def test(self) -> None:
        """Nothing: who asks is there to read."""

    def close(self) -> None:
        """Nothing: there is nothing to end."""


def read_photo(
    task: PhotoTask[T], data: bytes, finder: EyeFinder, max_pixels: int, timer: StageTimer, memory: Memory
) -> T:
    """What the task gives for the photo of these bytes, whose memory is lent before and freed after.

    Raises:
        Eye2FaceError: what `Photo`, the task or the lending raises.
    """
    lend, trim_above_bytes = memory
    photo = Photo(data, max_pixels=max_pixels, timer=timer)
    with lend(photo.num_bytes, timer.check), translate_memory_errors():
        try:
            return task(photo, finder=finder)
        finally:
            photo.forget()
            if photo.num_bytes > trim_above_bytes:
                trim_heap()
