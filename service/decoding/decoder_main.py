"""A decoder process, `python -m service.decoding.decoder_main`: reads photo after photo for the service.

`service.decoding.process_pool` starts it, and it enters a sandbox before the first photo.
"""

import importlib
import os
import pickle
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any, Final

import cv2

from service.decoding.messages import (
    KnownError,
    MemoryRequest,
    Ready,
    Result,
    StageTimes,
    TaskOutcome,
    TaskOutcomes,
    UnexpectedError,
    encode_message,
)
from service.decoding.reader import InProcessReader, PhotoTask
from service.decoding.sandbox import enter_sandbox
from service.errors import Eye2FaceError, SandboxMissing
from service.inference.eye_finder import open_eye_finder
from service.observability.stage_timer import StageTimer
from service.system.child_process import end_with_parent, limit_memory
from service.system.memory import freeze_garbage_collector, keep_freed_memory, prefer_oom_kill

READ_STAGES: Final = ("decode", "find", "crop")


class _RemoteMemory:
    """The service's memory budget, used over the connection."""

    def __init__(self, connection: Connection, unreserved_bytes: int, trim_above_bytes: int) -> None:
        self.unreserved_bytes = unreserved_bytes
        self.trim_above_bytes = trim_above_bytes
        self._connection = connection

    @contextmanager
    def reserve(self, num_bytes: int, check: Callable[[], None]) -> Iterator[None]:
        """Asks for the bytes and waits for leave; the service takes them back with the result."""
        self._connection.send_bytes(encode_message(MemoryRequest(num_bytes)))
        self._connection.recv_bytes()
        yield


def serve_photos(connection: Connection, reader: InProcessReader) -> None:
    """Reads photo after photo, until the other end of the connection is gone."""
    while True:
        try:
            requests = pickle.loads(connection.recv_bytes())
            connection.send_bytes(_encode([_read(data, run, reader) for data, run in requests]))
        except (EOFError, OSError):
            return


def _encode(outcomes: list[TaskOutcome[Any]]) -> bytes:
    try:
        return encode_message(TaskOutcomes(outcomes))
    except TypeError as error:  # a mistake in the code: a task returned what no message holds
        failed: list[TaskOutcome[Any]] = [UnexpectedError(str(error), "", {}) for _ in outcomes]
        return encode_message(TaskOutcomes(failed))


def _read(data: bytes, run: Callable[..., Any], reader: InProcessReader) -> TaskOutcome[Any]:
    """The task's result or error."""
    timer = StageTimer()
    try:
        return Result(reader(data, PhotoTask(run, object), timer), _times(timer))
    except Eye2FaceError as error:
        return KnownError(error, _times(timer))
    except Exception as error:  # noqa: BLE001 - the service gets the error, and the process reads on
        message = f"{type(error).__name__}: {error}"
        return UnexpectedError(message, traceback.format_exc(), _times(timer))


def _times(timer: StageTimer) -> StageTimes:
    return {stage: timer.spent_ms[stage] for stage in READ_STAGES}


def _enter_sandbox() -> str:
    """Why this process is not in a sandbox; empty if it is. In a sandbox it writes no log."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        enter_sandbox()
    except SandboxMissing as error:
        return str(error)
    for output in (1, 2):
        os.dup2(nowhere, output)
    return ""


def _start() -> None:
    descriptor, eye_finder, sandbox, *numbers = sys.argv[1:9]
    parent, max_pixels, unreserved_bytes, trim_above_bytes, max_bytes = map(int, numbers)
    end_with_parent(parent)
    keep_freed_memory()
    prefer_oom_kill()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # damaged pictures are no news
    cv2.setNumThreads(1)
    connection = Connection(int(descriptor))
    try:
        finder = open_eye_finder(eye_finder)  # type: ignore[arg-type]  # a setting's value
    except Eye2FaceError as error:
        connection.send_bytes(encode_message(KnownError(error, {})))
        return
    for module in sys.argv[9:]:
        importlib.import_module(module)
    freeze_garbage_collector()
    limit_memory(max_bytes)
    memory = _RemoteMemory(connection, unreserved_bytes, trim_above_bytes)
    connection.send_bytes(encode_message(Ready("" if sandbox == "off" else _enter_sandbox())))
    serve_photos(connection, InProcessReader(finder, max_pixels=max_pixels, memory=memory))


if __name__ == "__main__":
    _start()
