"""The servers that are measured: how each starts and stops, and the CPU time and memory that it uses."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from bench.workload import Model

ROOT: Final = Path(__file__).parent.parent
PEERS_PYTHON: Final = ROOT / "bench" / ".venv" / "bin" / "python"

MALLOC: Final = {
    "MALLOC_MMAP_THRESHOLD_": str(256 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
    "MALLOC_TOP_PAD_": str(16 << 20),
}
"""What this service sets for itself at its start, given to all of them alike."""


@dataclass(frozen=True, slots=True)
class Contender:
    """One server, as the table names it."""

    name: str
    module: str
    form: Literal["raw", "multipart", "kserve"]
    tuned: bool = True
    path: str = "/synthesize"


CONTENDERS: Final = (
    Contender("eye2face", "ours", "raw"),
    Contender("FastAPI, plain", "plain", "multipart", tuned=False),
    Contender("FastAPI, tuned", "tuned", "raw"),
    Contender("LitServe, as documented", "lit", "multipart", tuned=False),
    Contender("LitServe, tuned", "lit", "multipart"),
    Contender("mosec, as documented", "mos", "raw", tuned=False, path="/inference"),
    Contender("mosec, tuned", "mos", "raw", path="/inference"),
    Contender("Triton, as documented", "triton", "kserve", tuned=False, path="/v2/models/faces/infer"),
    Contender("Triton, tuned", "triton", "kserve", path="/v2/models/faces/infer"),
    Contender("BentoML, as documented", "bento", "multipart", tuned=False),
    Contender("BentoML, tuned", "bento", "multipart"),
)


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU time, page faults and memory of all processes of a server."""

    cpu_s: float
    num_faults: int
    memory_mb: float


@contextmanager
def start_server(
    contender: Contender, model: Model, log: Path, *, max_wait_ms: int = 60_000, root: Path = ROOT
) -> Iterator[tuple[int, int]]:
    """The server's port and first process; all of its processes are ended at the end.

    `root` is the checkout whose code it runs. `max_wait_ms` is this service's setting: in a closed loop
    nothing is refused, as the peers refuse nothing.
    """
    port = free_port()
    own = {
        "BENCH_PORT": str(port), "BENCH_MODEL": model, "BENCH_TUNED": "1" if contender.tuned else "0",
        "PYTHONPATH": str(root), "EYE2FACE_DEVICE": "cpu", "EYE2FACE_LOG_LEVEL": "warning",
        "EYE2FACE_MAX_WAIT_MS": str(max_wait_ms), "BENTOML_DO_NOT_TRACK": "1", "DO_NOT_TRACK": "1",
    }  # fmt: skip
    with log.open("ab") as output:
        process = subprocess.Popen(
            _command(contender, port), cwd=root, env=os.environ | MALLOC | own,
            stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
        try:
            yield port, process.pid
        finally:
            stop(process)


def _command(contender: Contender, port: int) -> list[str]:
    python = sys.executable if contender.module == "ours" else str(PEERS_PYTHON)
    served, at = f"bench.peers.{contender.module}", ["--port", str(port)]
    if contender.module == "bento":
        return [python, "-m", "bentoml", "serve", f"{served}:served", *at, "--host", "127.0.0.1"]
    if contender.module == "mos":
        return [python, "-m", served, *at, "--address", "127.0.0.1", "--timeout", "60000"]
    return [python, "-m", served]


def stop(process: "subprocess.Popen[bytes]") -> None:
    """Terminates its processes, and kills those that are left after ten seconds."""
    pids = processes(process.pid)
    for sign in (signal.SIGTERM, signal.SIGKILL):
        for pid in pids:
            try:
                os.kill(pid, sign)
            except ProcessLookupError:
                continue
        end = time.monotonic() + 10
        while time.monotonic() < end and (process.poll() is None or any(map(_lives, pids))):
            time.sleep(0.05)
        pids = [pid for pid in pids if _lives(pid)]
    process.wait(10)


def _lives(pid: int) -> bool:
    return bool(_stat(Path(f"/proc/{pid}")))


def processes(root: int) -> list[int]:
    """The living processes of a server and all that it started, in sessions of their own too."""
    parents: dict[int, int] = {}
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal() and (fields := _stat(folder)):
            parents[int(folder.name)] = int(fields[1])
            if int(fields[3]) == root:
                found.append(int(folder.name))
    for pid in parents:
        ancestor = pid
        while ancestor in parents and ancestor != root:
            ancestor = parents[ancestor]
        if ancestor == root and pid not in found:
            found.append(pid)
    return found


def _stat(folder: Path) -> list[str]:
    """The fields of /proc/PID/stat from the state on, none if the process is gone or a zombie."""
    try:
        fields = (folder / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
    return [] if fields[0] == "Z" else fields


def wait_until_answering(port: int, session: int, max_wait_s: float = 120) -> str:
    """Returns once a server speaks HTTP on the port; else raises what went wrong."""
    end = time.monotonic() + max_wait_s
    while time.monotonic() < end:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5).close()
            return ""
        except urllib.error.HTTPError:
            return ""
        except OSError:
            if not _stat(Path(f"/proc/{session}")):
                return "it ended before it answered"
            time.sleep(0.1)
    return f"it did not answer within {max_wait_s:.0f} s"


def cpu_s_of(pid: int) -> float:
    """The CPU time that a process has used, 0 if it lives no more."""
    fields = _stat(Path(f"/proc/{pid}"))
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") if fields else 0.0


def measure_usage(root: int) -> Usage:
    """CPU time, page faults and memory (PSS) of the living processes of a server."""
    cpu_s, num_faults, memory_kb = 0.0, 0, 0
    for pid in processes(root):
        folder = Path(f"/proc/{pid}")
        cpu_s += cpu_s_of(pid)
        if fields := _stat(folder):
            num_faults += int(fields[7])
        try:
            rollup = (folder / "smaps_rollup").read_text()
        except OSError:
            continue
        memory_kb += sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
    return Usage(cpu_s, num_faults, memory_kb / 1024)


def cpu_name() -> str:
    """The name of this machine's processor."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown")


def free_port() -> int:
    """A port of this machine that nobody listens on at the moment."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port
