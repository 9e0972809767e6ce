"""The latency of /livez, while something else keeps the service busy.

    python -m bench.livez 8000

Asks every 20 ms until its input ends, each time on a new connection, and prints the seconds of each answer.
It is a process of its own, which other senders do not keep busy.
"""

import http.client
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from bench.servers import ROOT

PERIOD_S: Final = 0.02


def ask_livez(port: int) -> float:
    """The seconds until the answer is read."""
    begin = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/livez")
    assert b"alive" in connection.getresponse().read()
    connection.close()
    return time.perf_counter() - begin


@contextmanager
def measure_livez(port: int) -> Iterator[list[float]]:
    """The latencies in ascending order; the list is filled at the end."""
    latencies: list[float] = []
    command = [sys.executable, "-m", "bench.livez", str(port)]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as probe:
        assert probe.stdout and probe.stdout.readline()  # the first answer, of a cold service
        try:
            yield latencies
        finally:
            told, _ = probe.communicate()
            latencies += sorted(map(float, told.split()))
        if probe.returncode:
            raise RuntimeError(f"/livez on port {port} was not answered")


def main() -> None:
    """Prints the first latency at once and the others when the input ends; a full pipe would block it."""
    port = int(sys.argv[1])
    print(ask_livez(port), flush=True)
    latencies = []
    while not select.select([sys.stdin], [], [], PERIOD_S)[0]:
        latencies.append(ask_livez(port))
    print(*latencies, sep="\n")


if __name__ == "__main__":
    main()
