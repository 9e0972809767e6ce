"""What is unpacked are values, whoever wrote the bytes: nothing is called, imported or changed."""

import importlib
import pickle
import pkgutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import service
from service import parcels
from service.candidates import Candidate
from service.errors import Eye2FaceError, NoEyeFound
from service.eyes import Eye
from service.parcels import as_array, pack, unpack
from service.photo import Clock
from service.reading import ReadHere
from service.sandbox import shut_in

EYE = Eye(1.0, 2.0, 30.0, 4.0, "left")


@pytest.mark.parametrize("value", [None, 3, "text", [1.5, {"a": (b"b", True)}], {1, 2}, EYE, (EYE, EYE)])
def test_values_come_back(value: object) -> None:
    assert unpack(pack(value)) == value


def test_arrays_come_back() -> None:
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    halves = np.array([0.5], np.float32)
    for array in (pixels, pixels[:, ::2], np.asfortranarray(pixels), halves, np.zeros((0, 3)), np.array(2.5)):
        told = unpack(pack([array]))[0]
        assert np.array_equal(told, array) and told.dtype == array.dtype and told.shape == array.shape


def test_errors_come_back_with_what_they_say() -> None:
    mistake = RuntimeError("a mistake")
    mistake.add_note("where it was")
    told = unpack(pack(mistake))
    assert str(told) == "a mistake" and told.__notes__ == ["where it was"]
    none = unpack(pack(NoEyeFound("none", num_below_threshold=3)))
    assert isinstance(none, NoEyeFound) and str(none) == "none" and none.members == {"num_below_threshold": 3}


class _Calls:
    """Pickled, it is a call of any function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.told = (function, arguments)

    def __reduce__(self) -> Any:
        return self.told


@pytest.mark.parametrize("function", [
    eval, print, open, getattr, setattr, __import__, subprocess.run, partial, SimpleNamespace, Path, np.load,
    np.save, np.fromfile, np.dtype, np.ndarray, np.frombuffer, shut_in, pack, unpack, pickle.loads,
    ValueError, object, type, Clock, ReadHere,
], ids=str)  # fmt: skip
def test_nothing_is_called(function: Any) -> None:
    with pytest.raises(pickle.UnpicklingError, match="an answer names"):
        unpack(pickle.dumps(_Calls(function, "x")))


@pytest.mark.parametrize("array", [
    np.array([object()]), np.array(["text"]), np.zeros(1, "V8"), np.zeros(1, ">f4"), np.zeros(1, "M8[s]"),
    np.zeros(1, [("a", "u1")]),
])  # fmt: skip
def test_arrays_of_anything_but_numbers_are_refused(array: Any) -> None:
    with pytest.raises(pickle.UnpicklingError, match="an array is of"):
        as_array(array.dtype.str, array.shape, b"12345678")


@pytest.mark.parametrize("arguments", [
    ("|u1", (4,), b"123"), ("|u1", (-1, 0), b"123"), ("|u1", (1 << 62, 4), b""), ("<f8", (1,), b"123"),
    ("|u1", "x", b"123"), ("|u1", (3,), "123"), ([], (3,), b"123"), (), ("|u1",),
])  # fmt: skip
def test_an_array_is_no_larger_than_its_bytes(arguments: Any) -> None:
    with pytest.raises((ValueError, TypeError, pickle.UnpicklingError)):
        unpack(pickle.dumps(_Calls(as_array, *arguments)))


def test_nothing_is_imported() -> None:
    assert "this" not in sys.modules
    with pytest.raises(pickle.UnpicklingError, match=r"an answer names this\.s"):
        unpack(b"cthis\ns\n.")
    assert "this" not in sys.modules


def nameable() -> Iterator[tuple[str, type]]:
    """Every class that bytes may name, after all modules of the service were imported."""
    for module in pkgutil.iter_modules(service.__path__):
        if module.name not in {"__main__", "bulk_ray", "replica"}:  # Ray is not installed
            importlib.import_module(f"service.{module.name}")
    for name, imported in sorted(sys.modules.items()):
        if name.startswith("service."):
            for each in vars(imported).values():
                if parcels._is_value(each, name):
                    yield name, each


def text(value: str) -> bytes:
    """A pickled text."""
    return b"X" + struct.pack("<I", len(value)) + value.encode()


SETTING = b"}" + text("code") + text("changed") + b"s"
STATES = (SETTING, b"N" + SETTING + b"\x86")
"""Attributes by an object's `__dict__`, and by name."""


def changing(module: str, kind: type, state: bytes) -> bytes:
    """A pickle that sets an attribute of a class."""
    return b"\x80\x04c" + f"{module}\n{kind.__qualname__}\n".encode() + state + b"b."


def test_no_class_is_changed_and_none_does_anything() -> None:
    classes = dict(enumerate(nameable()))
    assert {Eye, Candidate, NoEyeFound, Eye2FaceError} <= {kind for _, kind in classes.values()}
    doing = {"__call__", "append", "extend", "add", "__setitem__", "__post_init__", "__del__"}
    for module, kind in classes.values():
        for each in kind.__mro__[:-1]:
            assert each.__module__ == "builtins" or not doing & vars(each).keys(), kind
        before = dict(vars(kind))
        for state in STATES:
            with pytest.raises((TypeError, AttributeError)):
                unpack(changing(module, kind, state))
        assert dict(vars(kind)) == before


def test_a_class_that_could_be_changed_is_none_of_them() -> None:
    hostile = changing("service.photo", Clock, STATES[1])
    pickle.loads(hostile)
    try:
        assert Clock.code == "changed"  # type: ignore[attr-defined]
    finally:
        del Clock.code  # type: ignore[attr-defined]
    with pytest.raises(pickle.UnpicklingError, match=r"an answer names service\.photo\.Clock"):
        unpack(hostile)


def test_what_makes_arrays_is_not_changed() -> None:
    state = b"N}" + text("__defaults__") + b")s\x86"
    unpack(b"\x80\x04cservice.parcels\nas_array\n" + state + b"b.")
    assert as_array.__defaults__ is None
    assert unpack(pack(np.zeros(3)))[0] == 0


def test_an_array_stays_within_its_memory() -> None:
    """NumPy's own pickles let the type of an array grow under it."""

    def number(value: int) -> bytes:
        return b"J" + struct.pack("<i", value)

    def state(size: int) -> bytes:
        return b"(" + number(3) + text("|") + b"NNN" + number(size) + number(1) + number(0) + b"t"

    kind = b"cnumpy\ndtype\n(" + text("V8") + b"\x89\x88tRq\x00" + state(8) + b"b0"
    array = b"cnumpy._core.numeric\n_frombuffer\n(C\x08AAAAAAAAh\x00K\x01\x85" + text("C") + b"tR"
    hostile = b"\x80\x04" + kind + array + b"h\x00" + state(4096) + b"b0."
    assert pickle.loads(hostile).nbytes == 4096  # of 8 bytes
    with pytest.raises(pickle.UnpicklingError, match=r"an answer names numpy\.dtype"):
        unpack(hostile)
