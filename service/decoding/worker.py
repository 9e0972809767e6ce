"""What runs in a process that reads photos, `python -m service.decoding.worker`.

`service.decoding.process_pool` starts it.
"""

import importlib
import os
import pickle
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

import cv2

from service.decoding.messages import pack
from service.decoding.reader import Memory, PhotoTask, read_photo
from service.decoding.sandbox import SandboxUnavailable, enter_sandbox
from service.errors import Eye2FaceError
from service.inference.eye_finder import open_eye_finder
from service.observability.stage_timer import StageTimer
from service.runtime.memory import freeze_garbage_collector, keep_freed_memory, prefer_oom_kill
from service.vision.eyes import EyeFinder


def main(
    connection: Connection,
    finder: EyeFinder,
    *,
    max_pixels: int,
    unreserved_bytes: int,
    trim_above_bytes: int,
) -> None:
    """Reads photo after photo, until the other end of the connection is gone; asks for much memory before."""

    @contextmanager
    def ask(num_bytes: int, check: Callable[[], None]) -> Iterator[None]:
        if num_bytes > unreserved_bytes:
            connection.send_bytes(pack(num_bytes))
            connection.recv_bytes()
        yield

    while True:
        try:
            asked = pickle.loads(connection.recv_bytes())
        except (EOFError, OSError):
            return
        replies = [_read_one(data, task, finder, max_pixels, (ask, trim_above_bytes)) for data, task in asked]
        try:
            connection.send_bytes(_packed(replies))
        except OSError:
            return


def _packed(replies: "list[tuple[object, Exception | None, dict[str, float]]]") -> bytes:
    try:
        return pack(replies)
    except TypeError as error:  # a mistake in the code: a task gave what is not carried
        return pack([(None, RuntimeError(str(error)), spent_ms) for _, _, spent_ms in replies])


def _read_one(
    data: bytes, task: PhotoTask[Any], finder: EyeFinder, max_pixels: int, memory: Memory
) -> tuple[object, Exception | None, dict[str, float]]:
    """What a `_Reply` holds; as that class has another name here, it is not sent itself."""
    timer = StageTimer()
    try:
        result = read_photo(task, data, finder, max_pixels, timer, memory)
    except Eye2FaceError as known:
        return None, known, timer.spent_ms
    except Exception as unknown:  # noqa: BLE001  # whatever it is, it is told to who asked
        error = RuntimeError(f"{type(unknown).__name__}: {unknown}")
        error.add_note(traceback.format_exc())  # it itself may not be one that can be sent
        return None, error, timer.spent_ms
    return result, None, timer.spent_ms


def _enter_sandbox() -> str:
    """Why this process is in no sandbox from here on; empty if it is, and then it writes into no log."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        enter_sandbox()
    except SandboxUnavailable as error:
        return str(error)
    for output in (1, 2):
        os.dup2(nowhere, output)
    return ""


def _start() -> None:
    descriptor, eye_finder, sandbox, *numbers = sys.argv[1:7]
    max_pixels, unreserved_bytes, trim_above_bytes = map(int, numbers)
    keep_freed_memory()
    prefer_oom_kill()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # damaged pictures are no news
    cv2.setNumThreads(1)
    connection = Connection(int(descriptor))
    try:
        finder = open_eye_finder(eye_finder)  # type: ignore[arg-type]  # a setting's value
    except Eye2FaceError as error:
        connection.send_bytes(pack(error))
        return
    for module in sys.argv[7:]:
        importlib.import_module(module)
    freeze_garbage_collector()
    connection.send_bytes(pack("" if sandbox == "off" else _enter_sandbox()))
    main(
        connection,
        finder,
        max_pixels=max_pixels,
        unreserved_bytes=unreserved_bytes,
        trim_above_bytes=trim_above_bytes,
    )


if __name__ == "__main__":
    _start()
