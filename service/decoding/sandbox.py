"""The seccomp sandbox of decoder processes.

Image decoders have had vulnerabilities (libwebp's CVE-2023-4863) through which an image runs code. In the
sandbox Linux refuses all access to files, networks, programs, signals and new threads, irrevocably. The
process can only compute, and answer with `service.decoding.messages`.
"""

import ctypes
import errno
import resource
import sys
from typing import Final

from service.errors import SandboxMissing

ALLOWED: Final = (
    # what is open
    "read", "readv", "recvfrom", "recvmsg", "write", "writev", "sendto", "sendmsg", "poll", "ppoll", "close",
    "dup2", "dup3", "fstat", "lseek",
    # memory
    "brk", "madvise", "mremap", "munmap",
    # time, and other threads
    "clock_gettime", "clock_nanosleep", "futex", "gettimeofday", "nanosleep", "sched_yield", "membarrier",
    # itself
    "exit", "exit_group", "getcpu", "getpid", "getrandom", "gettid", "restart_syscall", "rt_sigaction",
    "rt_sigprocmask", "rt_sigreturn", "sched_getaffinity", "set_robust_list", "sigaltstack",
)  # fmt: skip
"""System calls that decoding, eye detection and answering need; those that this CPU lacks are skipped."""

ALLOWED_IF_NOT_EXECUTABLE: Final = ("mmap", "mprotect")
"""Memory may be mapped, but not as executable."""

_ALLOW: Final = 0x7FFF0000
_REFUSE: Final = 0x00050000 | errno.EPERM
_ALL_THREADS, _SPECULATING, _IN_A_TREE = 4, 7, 8
_MASKED_EQUAL: Final = 7
_PROTECTION, _EXECUTABLE = 2, 4
"""The names of these in seccomp.h and mman.h: SCMP_ACT_ALLOW, SCMP_ACT_ERRNO, SCMP_FLTATR_CTL_TSYNC, _SSB
and _OPTIMIZE, SCMP_CMP_MASKED_EQ; the third argument of `mmap` and `mprotect`, PROT_EXEC."""


class _Comparison(ctypes.Structure):
    """libseccomp's `scmp_arg_cmp`."""

    _fields_ = (
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("datum_a", ctypes.c_uint64),
        ("datum_b", ctypes.c_uint64),
    )


def enter_sandbox() -> None:
    """Puts this process with all its threads into the sandbox. Open and import all it needs before.

    Raises:
        SandboxMissing: the system does not support it; the process is not in it.
    """
    if not sys.platform.startswith("linux"):
        raise SandboxMissing("seccomp needs Linux")
    try:
        library = ctypes.CDLL("libseccomp.so.2")
    except OSError as error:
        raise SandboxMissing("libseccomp.so.2 is missing (Debian's package libseccomp2)") from error
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a dump would hold the photo
    library.seccomp_init.restype = ctypes.c_void_p
    rules = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(_REFUSE)))
    try:
        # _SPECULATING: as Linux from 5.16 on, older ones would go slower.
        for attribute, value in ((_ALL_THREADS, 1), (_SPECULATING, 1), (_IN_A_TREE, 2)):
            if failed := library.seccomp_attr_set(rules, attribute, value):
                raise SandboxMissing(f"libseccomp does not support attribute {attribute}: {_explain(failed)}")
        not_executable = _Comparison(_PROTECTION, _MASKED_EQUAL, _EXECUTABLE, 0)
        for name in (*ALLOWED, *ALLOWED_IF_NOT_EXECUTABLE):
            conditions = [not_executable] if name in ALLOWED_IF_NOT_EXECUTABLE else []
            number = library.seccomp_syscall_resolve_name(name.encode())
            if number < 0:  # another processor's
                continue
            array = (_Comparison * len(conditions))(*conditions)
            failed = library.seccomp_rule_add_array(
                rules, ctypes.c_uint32(_ALLOW), number, ctypes.c_uint(len(conditions)), array
            )
            if failed:
                raise SandboxMissing(f"libseccomp refuses a rule for {name}: {_explain(failed)}")
        if failed := library.seccomp_load(rules):
            raise SandboxMissing(f"the system refuses the rules: {_explain(failed)}")
    finally:
        library.seccomp_release(rules)
    _check()


def _explain(failed: int) -> str:
    return errno.errorcode.get(-failed, str(failed))


def _check() -> None:
    """Raises SandboxMissing: the system accepted the rules but does not enforce them."""
    try:
        open(sys.executable, "rb").close()
    except PermissionError:
        return
    raise SandboxMissing("the system accepted the rules but does not enforce them")


if __name__ == "__main__":
    try:
        enter_sandbox()
    except SandboxMissing as unavailable:
        print(f"none: {unavailable}")
    else:
        print("seccomp")
