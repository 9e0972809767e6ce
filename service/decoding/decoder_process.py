"""One decoder process: its start, its sandbox, the exchange of a photo for a result, and its end.

The process is not trusted: it may crash, hang or send anything. In it runs `service.decoding.decoder_main`.
"""

import logging
import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from service.decoding.messages import (
    MAX_MESSAGE_BYTES,
    AnyMessage,
    DecoderConnection,
    InvalidMessage,
    KnownError,
    MemoryRequest,
    Ready,
    TaskOutcome,
    TaskOutcomes,
    decode_message,
)
from service.decoding.reader import ReadRequest
from service.errors import Eye2FaceError, NotReady, ReadingFailed, SandboxMissing
from service.observability.logs import printable
from service.observability.stage_timer import StageTimer
from service.settings import Sandbox
from service.system.child_process import child_environment, describe_exit
from service.system.memory import MemoryBudget

T = TypeVar("T")

START_S: Final = 60.0
"""Timeout of the start of a process; importing OpenCV and ONNX Runtime usually takes half a second."""

GRACE_S: Final = 0.5
"""Time from a photo's deadline to the kill of its process; a new one takes as long to start."""

_TASK_MODULES: Final = ("service.pipeline",)
"""The modules of the tasks, imported before a process enters its sandbox, which allows no import."""

_MAX_BYTES_PER_PIXEL: Final = 32
"""Beyond what any photo's pixels take (`service.vision.images.estimate_decode_bytes`)."""

_MAX_OTHER_BYTES: Final = 512 << 20
"""What the files of several photos and the eye finder's networks take, several times."""

_POLL_S: Final = 0.05
_ROOT: Final = Path(__file__).parents[2]
_log = logging.getLogger(__name__)


class DecoderProcess:
    """One process and the connection to it; used by one thread at a time."""

    def __init__(self, eye_finder: str, max_pixels: int, memory: MemoryBudget, sandbox: Sandbox) -> None:
        max_bytes = _MAX_BYTES_PER_PIXEL * max_pixels + _MAX_OTHER_BYTES
        numbers = map(
            str, (os.getpid(), max_pixels, memory.unreserved_bytes, memory.trim_above_bytes, max_bytes)
        )
        self._arguments = [eye_finder, sandbox, *numbers, *_TASK_MODULES]
        self._memory = memory
        self._sandbox = sandbox
        self._max_pixels = max_pixels
        self.not_sandboxed = ""
        """Why it is in no sandbox, although it should be."""
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: DecoderConnection | None = None
        self._is_ready = False
        self._started = 0.0
        self._killed_at = 0.0
        """When the grace period ends; 0 before it begins."""

    @property
    def pid(self) -> int | None:
        """The process, from its start until it is known to have ended."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Raises NotReady."""
        try:
            ours, theirs = socket.socketpair()
            with ours, theirs:
                end = theirs.fileno()
                command = [sys.executable, "-m", "service.decoding.decoder_main", str(end), *self._arguments]
                self._process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, cwd=_ROOT, pass_fds=[end],
                    env=child_environment(os.environ),
                    start_new_session=True,  # Ctrl+C is for the service, which ends them in good order
                )  # fmt: skip
                self._connection = DecoderConnection(ours.dup())
                self._started = time.monotonic()
        except OSError as error:
            raise NotReady(f"A decoder process cannot be started: {error}.") from error

    def make_ready(self, timer: StageTimer) -> None:
        """Starts the process if there is none, and waits until it is ready.

        Raises:
            NotReady: it cannot be started, or does not get ready.
            SandboxMissing: it is in no sandbox, and has to be.
            ModelError: the one that it met.
        """
        if self._is_ready and self._open_connection().has_data(0):  # its end, or an unexpected message
            self.stop()
        if self._process is None:
            self.start()
        if self._is_ready:
            return
        try:
            while not self._open_connection().has_data(_POLL_S):
                timer.check()  # it goes on starting for the next photo
                self._check_start()
            message = decode_message(self._open_connection().receive(self._check_start), type(None))
        except (EOFError, OSError, InvalidMessage) as lost:
            self.stop()
            raise NotReady("A decoder process ended during its start; see the log.") from lost
        if isinstance(message, KnownError):
            self.stop()
            raise message.error
        self.not_sandboxed = printable(message.not_sandboxed) if isinstance(message, Ready) else "unknown"
        if self.not_sandboxed and self._sandbox == "required":
            self.stop()
            raise SandboxMissing(f"EYE2FACE_SANDBOX=required, but there is no sandbox: {self.not_sandboxed}.")
        self._is_ready = True

    def ask(self, requests: Sequence[ReadRequest[T]]) -> list[TaskOutcome[T]]:
        """What became of each photo, whose tasks have the same result.

        Raises:
            ReadingFailed: the process ended.
            DeadlineExceeded: a result is no longer wanted, and the process was still at it; it is killed.
        """
        timers = [timer for _, _, timer in requests]
        for timer in timers:
            timer.check()
        self._killed_at = 0.0
        check = partial(self._check, timers)
        begun, num_lent = time.monotonic(), 0
        self._signal(signal.SIGCONT)
        sent = pickle.dumps([(data, task.run) for data, task, _ in requests], pickle.HIGHEST_PROTOCOL)
        max_bytes = MAX_MESSAGE_BYTES + sum(task.max_pixel_bytes for _, task, _ in requests)
        exchange = partial(self._exchange, returns=requests[0][1].returns, max_bytes=max_bytes, check=check)
        try:
            with ExitStack() as lent:
                while isinstance(message := exchange(sent), MemoryRequest):
                    num_lent += 1
                    self._check_request(message, num_lent, len(requests))
                    lent.close()  # of the photo before, which is gone
                    lent.enter_context(self._memory.reserve(message.num_bytes, check))
                    sent = b""
            self._signal(signal.SIGSTOP)  # whoever has power over it, it computes nothing between photos
            return _checked(message, len(requests), within_s=time.monotonic() - begun)
        except (EOFError, OSError, InvalidMessage) as lost:
            raise self._died(lost) from lost

    def stop(self) -> None:
        """Ends the process, by a kill if it is busy, and frees its resources."""
        if self._connection is not None:
            self._connection.close()  # an idle process ends by itself
        if self._process is not None:
            self._signal(signal.SIGCONT)
            try:
                self._process.wait(GRACE_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._process, self._connection, self._is_ready = None, None, False

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)

    def _exchange(
        self, sent: bytes, *, returns: type[T], max_bytes: int, check: Callable[[], None]
    ) -> AnyMessage[T]:
        connection = self._open_connection()
        connection.send(sent, check)
        return decode_message(connection.receive(check, max_bytes=max_bytes), returns)

    def _check_request(self, message: MemoryRequest, number: int, num_photos: int) -> None:
        """Raises InvalidMessage: no photo takes so much, or there are fewer photos."""
        if number > num_photos or not 0 < message.num_bytes <= _MAX_BYTES_PER_PIXEL * self._max_pixels:
            raise InvalidMessage(f"{message.num_bytes} bytes for photo {number} of {num_photos}")

    def _check_start(self) -> None:
        if time.monotonic() - self._started > START_S:
            self.stop()
            raise NotReady(f"A decoder process was not ready after {START_S:.0f} s.")

    def _check(self, timers: Sequence[StageTimer]) -> None:
        """Raises what a timer does, after a grace period in which the photos may come to their end."""
        try:
            for timer in timers:
                timer.check()
        except Eye2FaceError:
            self._killed_at = self._killed_at or time.monotonic() + GRACE_S
            if time.monotonic() >= self._killed_at:
                _log.warning("killing decoder process %s: its photo was canceled", self.pid)
                self.stop()
                raise

    def _died(self, lost: Exception) -> ReadingFailed:
        process = self._process
        if isinstance(lost, InvalidMessage):
            _log.error("a decoder process sent an %s", lost)
        self.stop()
        how = "ended" if process is None else describe_exit(process.returncode)
        _log.error("a decoder process %s; it will be replaced", how)
        return ReadingFailed(
            f"The process that read the photo {how}, and the service goes on with another one. "
            "Send the photo again; if that fails too, tell the service's operator the request ID."
        )

    def _open_connection(self) -> DecoderConnection:
        if self._connection is None:
            raise EOFError
        return self._connection


def _checked(message: AnyMessage[T], number: int, *, within_s: float) -> list[TaskOutcome[T]]:
    """So many outcomes. Raises InvalidMessage: it tells others, or stages that took longer than the whole."""
    if not isinstance(message, TaskOutcomes):
        raise InvalidMessage(f"{type(message).__name__} in the place of outcomes")
    if len(message.outcomes) != number:
        raise InvalidMessage(f"{len(message.outcomes)} outcomes for {number} photos")
    times = [each for outcome in message.outcomes for each in outcome.spent_ms.values()]
    if not all(0 <= each <= 1000 * within_s for each in times):
        raise InvalidMessage(f"stages that took longer than {within_s:.3f} s")
    return message.outcomes
