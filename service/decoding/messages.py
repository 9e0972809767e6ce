"""What a process that nobody trusts may say, and how long it is listened to.

A message is JSON of a bounded length, and behind it the bytes of its arrays. From it come numbers, texts,
arrays of pixels, the dataclasses that were named by `carry`, whose fields are what they say they are, and our
own errors by their codes. Pickles, even with few names allowed, led to reading and to running anything: they
set attributes of what they make, and NumPy believes those.
"""

import json
import math
import select
import socket
import struct
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from service.errors import (
    Eye2FaceError,
    EyeRefused,
    ImageError,
    ModelError,
    NoEyeFound,
    NoSuchEye,
    NoSuchPerson,
)

MAX_TEXT: Final = 2000
"""Characters of a text; longer ones are cut."""

_MAX_JSON_BYTES: Final = 1 << 20
_MAX_BYTES: Final = 16 << 20
"""A drawn-over photo of 1280 px takes 5 MB, the crops of twenty people a quarter of one."""

_LENGTHS: Final = struct.Struct("!II")
_CHUNK_BYTES: Final = 1 << 20
_POLL_S: Final = 0.05
_TOLD_BY_READING: Final = (ImageError, NoEyeFound, NoSuchPerson, NoSuchEye, EyeRefused, ModelError)

_kinds: dict[str, type] = {}


class InvalidMessage(EOFError):
    """What the other end says is of no use, and no more is to be had of it."""

    def __init__(self, why: object) -> None:
        super().__init__(f"not understood: {_printable(str(why)[:200])}")


def carry(*kinds: type) -> None:
    """Lets values of these dataclasses be packed and unpacked."""
    _kinds.update({kind.__name__: kind for kind in kinds})


def pack(value: object) -> bytes:
    """The value's bytes.

    Raises:
        TypeError: it is, or holds, what is not carried.
    """
    arrays: list[NDArray[np.uint8]] = []

    def tell(each: Any) -> Any:
        if isinstance(each, np.ndarray) and each.dtype == np.uint8:
            arrays.append(each)
            return {"array": each.shape}
        if type(each) is RuntimeError:
            return {"failure": str(each), "note": "\n".join(getattr(each, "__notes__", ()))}
        if isinstance(each, Eye2FaceError) and each.code in _errors():
            return {"error": each.code, "message": str(each), "members": dict(each.members)}
        if type(each).__name__ in _kinds and is_dataclass(each):
            return {type(each).__name__: [getattr(each, field.name) for field in fields(each)]}
        raise TypeError(f"{type(each)} is not carried")

    told = json.dumps(value, default=tell, allow_nan=False, separators=(",", ":")).encode()
    data = b"".join(array.tobytes() for array in arrays)
    return _LENGTHS.pack(len(told), len(data)) + told + data


def unpack(message: bytes) -> Any:
    """The value that was packed; tuples have become lists.

    Raises:
        NotUnderstood: the bytes are no value.
    """
    try:
        num_told, num_data = _LENGTHS.unpack_from(message)
        if num_told > _MAX_JSON_BYTES or len(message) != _LENGTHS.size + num_told + num_data:
            raise ValueError(f"{len(message)} bytes, said to be {num_told} and {num_data}")
        begin = _LENGTHS.size + num_told
        return _Values(memoryview(message)[begin:]).of_all(json.loads(message[_LENGTHS.size : begin]))
    except Exception as error:  # noqa: BLE001  # there are too many ways to be wrong
        raise InvalidMessage(f"{type(error).__name__}: {error}") from None


class _Values:
    """Makes values of what JSON told, and of the arrays' bytes, all of which are used in the end."""

    def __init__(self, data: memoryview) -> None:
        self._data = data

    def of_all(self, told: Any) -> Any:
        value = self.of(told)
        if len(self._data):
            raise ValueError(f"{len(self._data)} bytes too many")
        return value

    def of(self, told: Any) -> Any:
        if isinstance(told, list):
            return [self.of(each) for each in told]
        if isinstance(told, str):
            return told[:MAX_TEXT]
        if not isinstance(told, dict):
            return told
        name = next(iter(told), "")
        if name == "array":
            return self._array(told["array"])
        if name == "failure":
            return _failure(told["failure"], told["note"])
        if name == "error":
            return _error(told["error"], told["message"], told["members"])
        if name in _kinds:
            return self._kind(_kinds[name], told[name])
        return {_printable(str(key)): self.of(each) for key, each in told.items()}

    def _array(self, shape: Any) -> NDArray[np.uint8]:
        if not (len(shape) <= 3 and all(type(side) is int and 0 <= side <= _MAX_BYTES for side in shape)):
            raise ValueError("an array of another shape")
        size = math.prod(shape)
        if size > len(self._data):
            raise ValueError(f"an array of {size} bytes, {len(self._data)} are there")
        data, self._data = self._data[:size], self._data[size:]
        return np.frombuffer(data, np.uint8).reshape(shape)

    def _kind(self, kind: type, told: list[Any]) -> Any:
        values = [self.of(each) for each in told]
        for value, (name, fits) in zip(values, _fields_of(kind), strict=True):
            if not fits(value):
                raise TypeError(f"{kind.__name__}.{name} is of another kind")
        return kind(*values)


def _failure(message: str, note: str) -> RuntimeError:
    """A mistake in the code, with where it was; no line of it can be taken for one of the log's."""
    failure = RuntimeError(_printable(message[:MAX_TEXT]))
    failure.add_note("\n".join(f"    | {_printable(line)}" for line in note[: 4 * MAX_TEXT].split("\n")))
    return failure


def _error(code: str, message: str, members: Mapping[str, int]) -> Eye2FaceError:
    error = _errors()[code](_printable(message[:MAX_TEXT]))
    if members:
        if not all(name == "num_below_threshold" and type(number) is int for name, number in members.items()):
            raise ValueError("an error with other members")
        error.members = members
    return error


@cache
def _errors() -> dict[str, type[Eye2FaceError]]:
    """Each error that reading a photo, or getting ready for it, meets, by its code."""

    def kinds(kind: type[Eye2FaceError]) -> list[type[Eye2FaceError]]:
        return [kind, *(each for below in kind.__subclasses__() for each in kinds(below))]

    ours = [each for kind in _TOLD_BY_READING for each in kinds(kind) if each.__module__ == "service.errors"]
    return {each.code: each for each in ours if "code" in vars(each)}


@cache
def _fields_of(kind: type) -> list[tuple[str, Callable[[Any], bool]]]:
    """Of each field its name, and whether a value is of its type."""
    return [(name, _test_of(wanted)) for name, wanted in typing.get_type_hints(kind).items()]


def _test_of(wanted: Any) -> Callable[[Any], bool]:
    """Whether a value is of an annotated type."""
    origin, arguments = typing.get_origin(wanted), typing.get_args(wanted)
    if wanted is float:
        return _is_number
    if origin is Literal:
        return lambda value: type(value) is str and value in arguments
    if origin is list:
        test = _test_of(arguments[0])
        return lambda value: type(value) is list and all(map(test, value))
    if origin in (types.UnionType, typing.Union):
        tests = [_test_of(each) for each in arguments]
        return lambda value: any(test(value) for test in tests)
    if issubclass(wanted, Exception):
        return lambda value: isinstance(value, wanted)
    exactly = origin or wanted
    return lambda value: type(value) is exactly


def _is_number(value: Any) -> bool:
    return type(value) in (float, int) and math.isfinite(value)


def _printable(text: str) -> str:
    """The text without what begins a new line, or does anything else."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


class WorkerConnection:
    """A connection to a process that nobody trusts: it is never waited for without an end.

    At the other end is a `multiprocessing.connection.Connection`, which tells a message's length before it.
    """

    _LENGTH: Final = struct.Struct("!i")

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self._end = end
        self._arrivals, self._departures = select.poll(), select.poll()
        self._arrivals.register(end, select.POLLIN)
        self._departures.register(end, select.POLLOUT)

    def arrives(self, within_s: float) -> bool:
        """Whether something is to be received by then, an end included."""
        return bool(self._arrivals.poll(within_s * 1000))

    def send(self, message: bytes, check: Callable[[], None]) -> None:
        """Sends it; while that takes long `check` is called, and may raise.

        Raises:
            OSError: the other end is gone.
        """
        parts = [memoryview(self._LENGTH.pack(len(message))), memoryview(message)]
        while parts:
            try:
                sent = self._end.sendmsg(parts)
            except BlockingIOError:
                self._departures.poll(_POLL_S * 1000)
                check()
                continue
            while parts and sent >= len(parts[0]):
                sent -= len(parts.pop(0))
            if parts:
                parts[0] = parts[0][sent:]

    def receive(self, check: Callable[[], None]) -> Any:
        """The next value; until it is there `check` is called, and may raise.

        Raises:
            NotUnderstood: it is too long, or no value.
            EOFError, OSError: the other end is gone.
        """
        (size,) = self._LENGTH.unpack(self._take(self._LENGTH.size, check))
        if not 0 <= size <= _MAX_BYTES:
            raise InvalidMessage(f"a message of {size} bytes, expected at most {_MAX_BYTES}")
        return unpack(self._take(size, check))

    def close(self) -> None:
        """Ends the connection."""
        self._end.close()

    def _take(self, size: int, check: Callable[[], None]) -> bytes:
        chunks: list[bytes] = []
        while size:
            while not self.arrives(_POLL_S):
                check()
            chunk = self._end.recv(min(size, _CHUNK_BYTES))
            if not chunk:
                raise EOFError
            chunks.append(chunk)
            size -= len(chunk)
            if size:
                check()
        return b"".join(chunks)
