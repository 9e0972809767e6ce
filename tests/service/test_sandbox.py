"""A process that is shut in reaches nothing, and what it answers calls nothing."""

import pickle
import subprocess
import sys
import textwrap
from enum import Enum
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from service import sandbox
from service.errors import NoEyeFound
from service.eyes import Eye
from service.sandbox import SandboxUnavailable, shut_in, unpickle
from tests.running import ROOT


def run(code: str) -> str:
    """What a process of its own prints for this."""
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


ATTEMPTS = {
    "read a file": "open('/etc/passwd').close()",
    "write a file": "os.open('made.txt', os.O_CREAT | os.O_WRONLY)",
    "list a folder": "os.listdir('/')",
    "remove a file": "os.unlink('/nowhere')",
    "ask for a connection": "socket.socket()",
    "have a pair of sockets": "socket.socketpair()",
    "start a program": "os.execv(sys.executable, [sys.executable])",
    "fork": "os.fork()",
    "kill its parent": "os.kill(os.getppid(), 0)",
    "limit its parent": "resource.prlimit(1, resource.RLIMIT_CPU, (1, 1))",
    "see the machine": "os.uname()",
    "have memory for code": "mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC)",
}


def test_it_computes_and_prints_and_all_else_is_refused() -> None:
    told = run(f"""
        import mmap, os, resource, socket, sys, threading, time
        import numpy as np
        from service.sandbox import shut_in

        attempts = {{name: compile(code, name, "eval") for name, code in {ATTEMPTS!r}.items()}}
        shut_in()
        for name, code in attempts.items():
            try:
                eval(code)
            except PermissionError:
                continue
            except OSError as error:
                print(name, error)
            else:
                print(name)
        try:
            threading.Thread(target=print).start()
            print("begin a thread")
        except RuntimeError:
            pass
        time.sleep(0.001)
        print(int(np.ones((3000, 3000)).sum()))
        """)
    assert told == "9000000\n"


def test_a_crash_leaves_no_photo_on_the_disk() -> None:
    told = run("""
        from service.sandbox import shut_in

        limits = open("/proc/self/limits")
        shut_in()
        print(*[line for line in limits if "core" in line])
        """)
    assert told.split()[:6] == ["Max", "core", "file", "size", "0", "0"]


@pytest.mark.parametrize(("before", "why"), [
    ("sys.platform = 'darwin'", "there is seccomp in Linux only"),
    ("import tests.service.no_sandbox", "libseccomp.so.2 is missing (Debian's package libseccomp2)"),
    ("sandbox.ALLOWED += ('openat', 'newfstatat', 'ioctl')",
     "the system took the rules and does not follow them"),
    ("sandbox._check = lambda: None\n"
     "sandbox.ALLOWED += ('openat', 'newfstatat', 'ioctl', 'prlimit64')\n"
     "sandbox.shut_in()", "the system refuses it: E"),
    ("sandbox._ALLOW = 0x12345678", "libseccomp refuses a rule for read: EINVAL"),
])  # fmt: skip
def test_where_it_cannot_be_it_says_why(before: str, why: str) -> None:
    code = f"import sys\nfrom service import sandbox\n{before}\n" + textwrap.dedent("""
        try:
            sandbox.shut_in()
        except sandbox.SandboxUnavailable as error:
            print(error)
        """)
    assert run(code).startswith(why)


@pytest.mark.parametrize("value", [
    None, 3, "text", [1.5, {"a": (b"b", True)}], {1, 2}, Eye(1.0, 2.0, 30.0, 4.0, "left"),
])  # fmt: skip
def test_plain_data_comes_back(value: object) -> None:
    assert unpickle(pickle.dumps(value, pickle.HIGHEST_PROTOCOL)) == value


@pytest.mark.parametrize("protocol", range(3, pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_and_their_numbers_come_back(protocol: int) -> None:
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    halves = np.array([0.5], np.float32)
    for array in (pixels, pixels[:, ::2], np.asfortranarray(pixels), halves, np.zeros((0, 3))):
        told = unpickle(pickle.dumps(array, protocol))
        assert np.array_equal(told, array) and told.dtype == array.dtype
    assert unpickle(pickle.dumps(np.float64(0.5), protocol)) == 0.5


def test_errors_come_back_with_what_they_say() -> None:
    mistake = RuntimeError("a mistake")
    mistake.add_note("where it was")
    told = unpickle(pickle.dumps(mistake))
    assert str(told) == "a mistake" and told.__notes__ == ["where it was"]
    assert isinstance(unpickle(pickle.dumps(NoEyeFound("none"))), NoEyeFound)


class _Calls:
    """Pickled, it is a call of any function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.told = (function, arguments)

    def __reduce__(self) -> Any:
        return self.told


class _Colour(Enum):
    """No enumeration of the service's."""

    RED = 1


@pytest.mark.parametrize("function", [
    eval, print, open, getattr, __import__, subprocess.run, partial, SimpleNamespace, Path, np.load, np.save,
    np.fromfile, shut_in, sandbox._check, _Colour,
    pickle.loads, ValueError, object, type, SandboxUnavailable,
], ids=lambda each: f"{each.__module__}.{each.__qualname__}")  # fmt: skip
def test_an_answer_calls_nothing(function: Any) -> None:
    with pytest.raises(pickle.UnpicklingError, match="an answer names"):
        unpickle(pickle.dumps(_Calls(function, "x")))


def test_an_answer_imports_nothing() -> None:
    assert "this" not in sys.modules
    with pytest.raises(pickle.UnpicklingError, match=r"an answer names this\.s"):
        unpickle(b"cthis\ns\n.")
    assert "this" not in sys.modules
