"""Processes that read photos, seen from the service.

One Python process runs Python on one core at a time. Beside a GPU, which draws faster than that, photos are
read by processes of their own, as many as there are cores; and a photo that crashes a decoder, or keeps it
busy for ever, ends one of them and not the service. They are shut in where the system can: what breaks out
of a decoder sees the photos of its process and reaches nothing else. `service.decoding.worker` is what
runs in them.
"""

import logging
import os
import pickle
import queue
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

from service.decoding.messages import InvalidMessage, WorkerConnection
from service.decoding.reader import PIXELS_PART_OF_MEMORY, InProcessReader, PhotoReader, PhotoTask
from service.errors import Eye2FaceError, ModelError, NotReady, ReadingFailed, SandboxMissing
from service.observability.stage_timer import STAGES, StageTimer
from service.runtime.coalescing import SharedCall, Steps, run_alone
from service.runtime.memory import MemoryBudget, count_memory
from service.settings import Sandbox, Settings

T = TypeVar("T")

START_S: Final = 60.0
"""How long a process may take to start; it imports OpenCV and ONNX Runtime, most often in half a second."""

GRACE_S: Final = 0.5
"""How long a process may go on with a photo that nobody wants any more; a new one takes as long to start."""

_ONE_THREAD: Final = {"OPENBLAS_NUM_THREADS": "1"}
"""NumPy's and OpenCV's copies of OpenBLAS, which nothing here asks, would each begin a thread for every core:
on 64 cores 64 processes of 127 threads, more than a container may have."""

_INHERITED_VARIABLES: Final = (
    "GLIBC_", "HOME", "LANG", "LC_", "LD_", "MALLOC_", "OMP_", "OPENCV_", "ORT_", "PATH", "PYTHON", "TMPDIR",
    "TZ", "VIRTUAL_ENV",
)  # fmt: skip
"""How the names begin of what these processes see of the environment, where secrets are as well."""

_TASK_MODULES: Final = ("service.pipeline",)
"""The modules of the tasks: a process that is shut in imports no more."""

_MOST_BYTES_A_PIXEL: Final = 32
"""Beyond what any photo's pixels take (`service.vision.images.estimate_decode_bytes`)."""

_POLL_S: Final = 0.05
_ROOT: Final = Path(__file__).parents[2]
_log = logging.getLogger(__name__)


class ProcessPoolReader:
    """Reads photos in processes of their own, each one photo after the other.

    Calls come from the workers of a pool, whose core is free for others while they wait. Work in steps sends
    several photos at once, which spares waking a process, and the worker, for each.
    """

    def __init__(
        self,
        number: int,
        eye_finder: Literal["learned", "haar"],
        *,
        max_pixels: int,
        cores: threading.Semaphore | None = None,
        sandbox: Sandbox = "auto",
    ) -> None:
        """Raises ModelError: the eye finder cannot be used, or no process can be started or shut in."""
        self._cores = cores or threading.Semaphore()
        self.last_failure: str | None = None
        """Why no process could be started the last time; None if one could."""
        memory = MemoryBudget(count_memory() // PIXELS_PART_OF_MEMORY, number)
        self._all = [_WorkerProcess(eye_finder, max_pixels, memory, sandbox) for _ in range(number)]
        self._idle: queue.LifoQueue[_WorkerProcess] = queue.LifoQueue()
        try:
            for reader in self._all:
                reader.start()
            for reader in self._all:
                reader.make_ready(StageTimer())
                self._idle.put(reader)
        except BaseException:
            self.close()
            raise
        if why := self._all[0].not_sandboxed:
            _log.warning("the processes that read photos are in no sandbox: %s", why)

    @property
    def pids(self) -> list[int]:
        """The processes that were started and did not end yet, as far as is known."""
        return [pid for reader in self._all if (pid := reader.pid) is not None]

    def __call__(self, data: bytes, task: PhotoTask[T], timer: StageTimer) -> T:
        """What the task gives; see `PhotoReader`. A process that ends is replaced before the next photo."""
        return run_alone(self.steps(data, task, timer))

    def steps(self, data: bytes, task: PhotoTask[T], timer: StageTimer) -> Steps[T]:
        """The same in steps."""
        call: SharedCall[_Question, _Reply] = SharedCall(self._read, [_Question(data, task, timer)])
        yield call
        timer.check()
        (reply,) = call.results
        left_ms = sum(reply.spent_ms.values())  # told at once, they followed one another
        for name, spent_ms in reply.spent_ms.items():
            left_ms -= spent_ms
            if spent_ms:
                timer.add(name, spent_ms, ago_ms=left_ms)
        if reply.error is not None:
            raise reply.error
        answer: T = reply.result
        return answer

    def _read(self, questions: Sequence["_Question"]) -> Sequence["_Reply"]:
        self._cores.release()
        try:
            with self._ready(questions[0].timer) as reader:
                return reader.ask(questions)
        finally:
            self._cores.acquire()

    def test(self) -> None:
        """Raises ModelError: no process can be started."""
        with self._ready(StageTimer()):
            pass

    def close(self) -> None:
        """Ends the processes; those that still work are cut."""
        for reader in self._all:
            reader.stop()

    @contextmanager
    def _ready(self, timer: StageTimer) -> "Iterator[_WorkerProcess]":
        """A process that nobody else asks meanwhile."""
        reader = self._take(timer)
        try:
            try:
                reader.make_ready(timer)
            except ModelError as error:
                self.last_failure = str(error)
                raise
            self.last_failure = None
            yield reader
        finally:
            self._idle.put(reader)

    def _take(self, timer: StageTimer) -> "_WorkerProcess":
        while True:
            timer.check()
            try:
                return self._idle.get(timeout=_POLL_S)
            except queue.Empty:
                continue


@dataclass(frozen=True, slots=True)
class _Question:
    """A photo, what is to be done with it, and the clock of who waits."""

    data: bytes
    task: PhotoTask[Any]
    timer: StageTimer


@dataclass(frozen=True, slots=True)
class _Reply:
    """What the task gave or raised, and the milliseconds spent."""

    result: Any
    error: Exception | None
    spent_ms: dict[str, float]


class _GracePeriod:
    """What a process may still take once nobody waits for it any more."""

    def __init__(self) -> None:
        self._until: float | None = None

    def is_over(self) -> bool:
        """Whether it has been asked for so long."""
        now = time.monotonic()
        self._until = self._until or now + GRACE_S
        return now >= self._until


class _WorkerProcess:
    """One process and the connection to it; used by one thread at a time."""

    def __init__(self, eye_finder: str, max_pixels: int, memory: MemoryBudget, sandbox: Sandbox) -> None:
        numbers = map(str, (max_pixels, memory.unreserved_bytes, memory.trim_above_bytes))
        self._arguments = [eye_finder, sandbox, *numbers, *_TASK_MODULES]
        self._memory = memory
        self._sandbox = sandbox
        self._max_pixels = max_pixels
        self.not_sandboxed = ""
        """Why it is in no sandbox, although it should be."""
        self._process: subprocess.Popen[bytes] | None = None
        self._line: WorkerConnection | None = None
        self._is_ready = False
        self._started = 0.0

    @property
    def pid(self) -> int | None:
        """The process, from its start until it is known to have ended."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Raises NotReady."""
        try:
            ours, theirs = socket.socketpair()
            with ours, theirs:
                command = [
                    sys.executable,
                    "-m",
                    "service.decoding.worker",
                    str(theirs.fileno()),
                    *self._arguments,
                ]
                self._process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, cwd=_ROOT, pass_fds=[theirs.fileno()],
                    env=_worker_environment(os.environ),
                    start_new_session=True,  # Ctrl+C is for the service, which ends them in good order
                )  # fmt: skip
                self._line = WorkerConnection(ours.dup())
                self._started = time.monotonic()
        except OSError as error:
            raise NotReady(f"A process that reads photos cannot be started: {error}.") from error

    def make_ready(self, timer: StageTimer) -> None:
        """Starts the process if there is none, and waits until it is ready.

        Raises:
            NotReady: it cannot be started, or does not get ready.
            SandboxMissing: it is not shut in, and has to be.
            ModelError: the one that it met.
        """
        if self._is_ready and self._connected().arrives(0):  # its end, or what nobody asked for
            self.stop()
        if self._process is None:
            self.start()
        if self._is_ready:
            return
        try:
            while not self._connected().arrives(_POLL_S):
                timer.check()  # it goes on starting for the next photo
                self._check_start()
            told = self._connected().receive(self._check_start)
        except (EOFError, OSError) as lost:
            self.stop()
            raise NotReady("A process that reads photos ended while it started; see the log.") from lost
        if isinstance(told, Eye2FaceError):
            self.stop()
            raise told
        self.not_sandboxed = str(told)
        if self.not_sandboxed and self._sandbox == "required":
            self.stop()
            raise SandboxMissing(f"Photos cannot be read in a sandbox, as asked for: {self.not_sandboxed}.")
        self._is_ready = True

    def ask(self, questions: "Sequence[_Question]") -> "list[_Reply]":
        """The replies, in their order.

        Raises:
            ReadingFailed: the process ended.
            Eye2FaceError: what a clock does, where the process was still at it; it is cut.
        """
        for question in questions:
            question.timer.check()
        check = partial(self._check, questions, _GracePeriod())
        try:
            line = self._connected()
            told = [(question.data, question.task) for question in questions]
            begin, num_lent = time.monotonic(), 0
            line.send(pickle.dumps(told, pickle.HIGHEST_PROTOCOL), check)
            with ExitStack() as lent:
                while type(answer := line.receive(check)) is int:
                    num_lent += 1
                    if num_lent > len(questions) or not 0 < answer <= _MOST_BYTES_A_PIXEL * self._max_pixels:
                        raise InvalidMessage(f"{answer} bytes for photo {num_lent} of {len(questions)}")
                    lent.close()  # of the photo before, which is gone
                    lent.enter_context(self._memory.reserve(answer, check))
                    line.send(b"", check)
            return _replies(answer, len(questions), within_s=time.monotonic() - begin)
        except (EOFError, OSError) as lost:
            raise self._died(lost) from lost

    def stop(self) -> None:
        """Ends the process, cuts it if it is at work, and frees what it had."""
        if self._line is not None:
            self._line.close()  # an idle process ends by itself
        if self._process is not None:
            try:
                self._process.wait(GRACE_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._process, self._line, self._is_ready = None, None, False

    def _check_start(self) -> None:
        if time.monotonic() - self._started > START_S:
            self.stop()
            raise NotReady(f"A process that reads photos was not ready after {START_S:.0f} s.")

    def _check(self, questions: "Sequence[_Question]", grace: "_GracePeriod") -> None:
        """Raises what a clock does, once the process is gone; it may still come to the end of its photos."""
        try:
            for question in questions:
                question.timer.check()
        except BaseException:
            if grace.is_over():
                _log.warning("process %s was still at a photo that nobody waits for, and is cut", self.pid)
                self.stop()
                raise

    def _died(self, lost: Exception) -> ReadingFailed:
        process = self._process
        if isinstance(lost, InvalidMessage):
            _log.error("what a process that reads photos says is %s", lost)
        self.stop()
        how = "ended" if process is None else _describe_exit(process.returncode)
        _log.error("the process that read a photo %s; another one takes its place", how)
        return ReadingFailed(
            f"The process that read the photo {how}, and the service goes on with another one. "
            "Send the photo once more; if it meets this again, tell who runs the service the request id."
        )

    def _connected(self) -> WorkerConnection:
        if self._line is None:
            raise EOFError
        return self._line


def open_reader(number: int, settings: Settings, cores: threading.Semaphore | None = None) -> PhotoReader:
    """So many processes that read photos as the settings ask; without any the threads that ask do it.

    `cores` are those of the threads' pool.

    Raises:
        ModelError: the eye finder cannot be used, or no process can be started.
    """
    if number == 0:
        return InProcessReader.open(settings)
    return ProcessPoolReader(
        number, settings.eye_finder, max_pixels=settings.max_pixels, cores=cores, sandbox=settings.sandbox
    )


def _worker_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """What a process that reads photos sees of the environment."""
    return {
        name: value for name, value in environment.items() if name.startswith(_INHERITED_VARIABLES)
    } | _ONE_THREAD


def _replies(answer: Any, number: int, *, within_s: float) -> "list[_Reply]":
    """So many replies of an answer. Raises NotUnderstood: it is none."""
    try:
        replies = [_Reply(*told) for told in answer]
        for reply in replies:
            if not isinstance(reply.error, Exception | None):
                raise TypeError("an error is none")
            for name, spent_ms in reply.spent_ms.items():
                if not (name in STAGES and type(spent_ms) is float and 0 <= spent_ms <= 1000 * within_s):
                    raise ValueError("times are of another kind, or longer than it took")
    except Exception as error:
        raise InvalidMessage(error) from error
    if len(replies) != number:
        raise InvalidMessage(f"{len(replies)} replies for {number} photos")
    return replies


def _describe_exit(code: int) -> str:
    return f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"
