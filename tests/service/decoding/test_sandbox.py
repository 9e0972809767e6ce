"""A sandboxed process reaches nothing."""

import subprocess
import sys
import textwrap

import pytest

from tests.running import ROOT


def run(code: str) -> str:
    """The output of this program in a process of its own."""
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
        from service.decoding.sandbox import enter_sandbox

        attempts = {{name: compile(code, name, "eval") for name, code in {ATTEMPTS!r}.items()}}
        enter_sandbox()
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
        from service.decoding.sandbox import enter_sandbox

        limits = open("/proc/self/limits")
        enter_sandbox()
        print(*[line for line in limits if "core" in line])
        """)
    assert told.split()[:6] == ["Max", "core", "file", "size", "0", "0"]


@pytest.mark.parametrize(("before", "why"), [
    ("sys.platform = 'darwin'", "seccomp needs Linux"),
    ("import tests.service.no_sandbox", "libseccomp.so.2 is missing (Debian's package libseccomp2)"),
    ("sandbox.ALLOWED += ('openat', 'newfstatat', 'ioctl')",
     "the system accepted the rules but does not enforce them"),
    ("sandbox._check = lambda: None\n"
     "sandbox.ALLOWED += ('openat', 'newfstatat', 'ioctl', 'prlimit64')\n"
     "sandbox.enter_sandbox()", "the system refuses the rules: E"),
    ("sandbox._ALL_THREADS = 99", "libseccomp does not support attribute 99: E"),
    ("sandbox._ALLOW = 0x12345678", "libseccomp refuses a rule for read: EINVAL"),
])  # fmt: skip
def test_where_it_cannot_be_it_says_why(before: str, why: str) -> None:
    code = f"import sys\nfrom service.decoding import sandbox\n{before}\n" + textwrap.dedent("""
        try:
            sandbox.enter_sandbox()
        except sandbox.SandboxMissing as error:
            print(error)
        """)
    assert run(code).startswith(why)
