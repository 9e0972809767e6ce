"""Size-limited, typed messages between the service and a decoder process that it does not trust.

A message is MessagePack. It is decoded into the types of this module and the result type that a task names,
and into nothing else: numbers are finite, arrays are pixels, errors are our own by their codes, and texts
that reach the log are printable and short. Pickles go to a decoder process, but none is read from it: even
with few names allowed they lead to reading and running anything.
"""

import math
import select
import socket
import struct
import typing
from collections.abc import Callable, Hashable
from functools import cache
from typing import Any, Final, Generic, Literal, TypeVar

import msgspec
import numpy as np

from service.errors import (
    Eye2FaceError,
    EyeRefused,
    ImageError,
    ModelError,
    NoEyeFound,
    NoSuchEye,
    NoSuchPerson,
    ReadingFailed,
)
from service.observability.logs import printable

T = TypeVar("T")

MAX_TEXT: Final = 2000
"""Characters of an error's message; longer ones are cut."""

MAX_MESSAGE_BYTES: Final = 4 << 20
"""A message without pixels: some 15,000 eyes."""

_CHUNK_BYTES: Final = 1 << 20
_POLL_S: Final = 0.05
_RAISED_BY_READING: Final = (ImageError, NoEyeFound, NoSuchPerson, NoSuchEye, EyeRefused, ModelError)

StageTimes = dict[Literal["decode", "find", "crop"], float]
"""Milliseconds that reading a photo took, by stage."""


class InvalidMessage(ReadingFailed):
    """A decoder process sent an invalid message; it must be ended."""

    def __init__(self, reason: object) -> None:
        super().__init__(f"invalid message: {printable(str(reason)[:200])}")


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag=True):
    """Base of the messages from a decoder process."""


class Ready(Message, frozen=True):
    """The process waits for photos; `not_sandboxed` says why it is in no sandbox, empty if it is in one."""

    not_sandboxed: str


class MemoryRequest(Message, frozen=True):
    """The photo needs this many bytes for pixels; the process waits for permission to decode it."""

    num_bytes: int


class Result(Message, Generic[T], frozen=True):
    """The task's result for the photo."""

    value: T
    spent_ms: StageTimes


class KnownError(Message, frozen=True):
    """An `Eye2FaceError` that the task, or the start, raised."""

    error: Eye2FaceError
    spent_ms: StageTimes


class UnexpectedError(Message, frozen=True):
    """A bug: any other exception, and its traceback."""

    message: str
    traceback: str
    spent_ms: StageTimes

    def as_error(self) -> RuntimeError:
        """The error to raise here; no line of it can be taken for a line of the log."""
        error = RuntimeError(printable(self.message[:MAX_TEXT]))
        lines = self.traceback[: 4 * MAX_TEXT].split("\n")
        error.add_note("\n".join(f"    | {printable(line)}" for line in lines))
        return error


TaskOutcome = Result[T] | KnownError | UnexpectedError
"""What became of a task."""


class TaskOutcomes(Message, Generic[T], frozen=True):
    """The outcome of each photo of a request."""

    outcomes: list[TaskOutcome[T]]


AnyMessage = MemoryRequest | Ready | TaskOutcomes[T] | KnownError


def encode_message(message: Message) -> bytes:
    """The bytes of a message."""
    return _encoder.encode(message)


def decode_message(data: bytes, expected: type[T]) -> AnyMessage[T]:
    """The message in these bytes; a result is of the expected type.

    Raises:
        InvalidMessage: the bytes are no message.
    """
    try:
        message: AnyMessage[T] = _decoder(expected).decode(data)  # type: ignore[arg-type]  # mypy: a type may be no Hashable
    except (msgspec.MsgspecError, RecursionError) as error:
        raise InvalidMessage(f"{type(error).__name__}: {error}") from None
    if not _is_finite(message):
        raise InvalidMessage("a number that is not finite")
    return message


class _Pixels(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """The encoding of an image."""

    height: int
    width: int
    data: bytes


class _Error(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """The encoding of an `Eye2FaceError`."""

    code: str
    message: str
    num_below_threshold: int | None


def _simplify(value: Any) -> Any:
    """The encoding of a value that MessagePack does not support."""
    if isinstance(value, np.ndarray) and value.dtype == np.uint8 and value.ndim == 3 and value.shape[2] == 3:
        return _Pixels(value.shape[0], value.shape[1], value.tobytes())
    if isinstance(value, Eye2FaceError) and value.code in _errors():
        return _Error(value.code, str(value), value.members.get("num_below_threshold"))
    raise TypeError(f"{type(value)} is in no message")


def _restore(kind: type, sent: Any) -> Any:
    """The value of the kind that `_simplify` made this of; ValueError and TypeError are msgspec's to take."""
    if typing.get_origin(kind) is np.ndarray:
        pixels = msgspec.convert(sent, _Pixels)
        return np.frombuffer(pixels.data, np.uint8).reshape(pixels.height, pixels.width, 3)
    encoded = msgspec.convert(sent, _Error)
    found = _errors().get(encoded.code)
    if found is None or not issubclass(found, kind):
        raise ValueError(f"no {kind.__name__} has the code {encoded.code[:40]}")
    text = printable(encoded.message[:MAX_TEXT])
    return found(text, num_below_threshold=encoded.num_below_threshold)


_encoder: Final = msgspec.msgpack.Encoder(enc_hook=_simplify)


@cache
def _decoder(expected: Hashable) -> "msgspec.msgpack.Decoder[Any]":
    kinds: Any = AnyMessage
    return msgspec.msgpack.Decoder(kinds[expected], dec_hook=_restore)


@cache
def _errors() -> dict[str, type[Eye2FaceError]]:
    """Each error that reading a photo, or getting ready for it, raises, by its code."""
    kinds = [each for kind in _RAISED_BY_READING for each in kind.branch()]
    return {kind.code: kind for kind in kinds if "code" in vars(kind) and kind.__module__ == "service.errors"}


def _is_finite(value: Any) -> bool:
    """Whether no number in the value is infinite or NaN, which MessagePack allows."""
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, list | tuple):
        return all(map(_is_finite, value))
    if isinstance(value, dict):
        return all(map(_is_finite, value.values()))
    names: Any = getattr(value, "__struct_fields__", None) or getattr(value, "__dataclass_fields__", ())
    return all(_is_finite(getattr(value, name)) for name in names)


class DecoderConnection:
    """A socket to a decoder process; no wait for it is without an end.

    At the other end is a `multiprocessing.connection.Connection`, which sends a message's length before it.
    """

    _LENGTH: Final = struct.Struct("!i")

    def __init__(self, end: socket.socket) -> None:
        end.settimeout(_POLL_S)
        self._socket = end
        self._readable = select.poll()
        self._readable.register(end, select.POLLIN)

    def has_data(self, within_s: float) -> bool:
        """Whether something can be received by then, the other end's close included."""
        return bool(self._readable.poll(within_s * 1000))

    def send(self, data: bytes, check: Callable[[], None]) -> None:
        """Sends the bytes; while that takes long `check` is called, and may raise.

        Raises:
            OSError: the other end is gone.
        """
        left = memoryview(self._LENGTH.pack(len(data)) + data)  # at once: it wakes the other end
        while left:
            try:
                left = left[self._socket.send(left) :]
            except TimeoutError:
                check()

    def receive(self, check: Callable[[], None], *, max_bytes: int = MAX_MESSAGE_BYTES) -> bytes:
        """The bytes of the next message; until they are there `check` is called, and may raise.

        Raises:
            InvalidMessage: it is too long.
            EOFError, OSError: the other end is gone.
        """
        (size,) = self._LENGTH.unpack(self._take(self._LENGTH.size, check))
        if not 0 <= size <= max_bytes:
            raise InvalidMessage(f"{size} bytes, expected at most {max_bytes}")
        return self._take(size, check)

    def close(self) -> None:
        """Closes the connection."""
        self._socket.close()

    def _take(self, size: int, check: Callable[[], None]) -> bytes:
        chunks: list[bytes] = []
        while size:
            try:
                chunk = self._socket.recv(min(size, _CHUNK_BYTES))
            except TimeoutError:
                check()
                continue
            if not chunk:
                raise EOFError
            chunks.append(chunk)
            size -= len(chunk)
            if size:
                check()
        return b"".join(chunks)
