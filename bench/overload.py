"""Overload: goodput, rejections and latency under an open loop at multiples of the capacity.

    python -m bench.overload --factors 2 5 --seconds 30

Capacity is measured first, by a closed loop. Then photos are sent at a fixed rate whether or not answers
come, over as many connections as that takes, and /livez is asked beside them. Prints one JSON object for each
factor. The sender works on the same cores: `goodput_of_rest` is the goodput in parts of the capacity of the
cores that it leaves.
"""

import argparse
import asyncio
import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import uvloop

from bench.livez import measure_livez
from bench.load import run_load, write_request
from bench.photos import NAMES, write_photos
from bench.servers import CONTENDERS, measure_usage, start_server, wait_until_answering


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer: when its photo was sent, how long it took, its status (0: none)."""

    sent: float
    seconds: float
    status: int


async def flood(port: int, request: bytes, per_s: float, seconds: float) -> list[Answer]:
    """The answers to photos sent at a fixed rate."""
    begin = time.monotonic()
    asking = []
    idle: list[_Caller] = []
    for number in range(int(per_s * seconds)):
        await asyncio.sleep(max(0.0, begin + number / per_s - time.monotonic()))
        asking.append(asyncio.ensure_future(_ask(port, request, begin, idle)))
    answers = list(await asyncio.gather(*asking))
    for caller in idle:
        caller.transport.close()
    return answers


class _Caller(asyncio.Protocol):
    """One connection, with as little work for it as there can be."""

    def __init__(self) -> None:
        self._received = bytearray()
        self._status: asyncio.Future[int] | None = None
        self.is_open = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is none by inheritance

    async def ask(self, request: bytes) -> int:
        """The answer's status, 0 where the connection was closed before."""
        self._status = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return await self._status

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        if end and len(body) >= int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]):
            self._received.clear()
            self._end(int(head.split(b" ", 2)[1]))

    def connection_lost(self, error: Exception | None) -> None:
        self.is_open = False
        self._end(0)

    def _end(self, status: int) -> None:
        if self._status is not None and not self._status.done():
            self._status.set_result(status)


async def _ask(port: int, request: bytes, begin: float, idle: list[_Caller]) -> Answer:
    sent = time.monotonic()
    status = 0
    try:
        async with asyncio.timeout(30):
            caller = await _take(port, idle)
            status = await caller.ask(request)
            idle.append(caller)
    except OSError:  # a timeout is one
        status = 0
    return Answer(sent - begin, time.monotonic() - sent, status)


async def _take(port: int, idle: list[_Caller]) -> _Caller:
    """A connection that waits for work, or a new one, as the pool of any client's library would have it."""
    while idle:
        if (caller := idle.pop()).is_open:
            return caller
    _, caller = await asyncio.get_running_loop().create_connection(_Caller, "127.0.0.1", port)
    return caller


@contextmanager
def _cpu(service: int, told: dict[str, Any]) -> Iterator[None]:
    """Tells how many cores sender and service used."""
    begin, sender_s, service_s = time.monotonic(), time.process_time(), measure_usage(service).cpu_s
    yield
    seconds = time.monotonic() - begin
    told["sender_cores"] = (time.process_time() - sender_s) / seconds
    told["service_cores"] = (measure_usage(service).cpu_s - service_s) / seconds


def describe(answers: list[Answer], seconds: float) -> dict[str, Any]:
    """Goodput within a second, the latency of what was taken in the first and last quarter, refusals."""
    good = [each for each in answers if each.status == 200]
    quarters = [[each for each in good if part <= each.sent * 4 / seconds < part + 1] for part in (0, 3)]
    return {
        "sent_per_s": len(answers) / seconds,
        "good_within_1s_per_s": sum(each.seconds < 1 for each in good) / seconds,
        "p99_ms_first_quarter": _percentile_ms(quarters[0], 99),
        "p99_ms_last_quarter": _percentile_ms(quarters[1], 99),
        "refused": sum(each.status == 503 for each in answers),
        "refusal_p50_ms": _percentile_ms((each for each in answers if each.status == 503), 50),
        "refusal_p99_ms": _percentile_ms((each for each in answers if each.status == 503), 99),
        "other": sum(each.status not in (200, 503) for each in answers),
    }


def _percentile_ms(answers: Iterable[Answer], percent: int) -> float | None:
    times = sorted(each.seconds * 1000 for each in answers)
    return statistics.quantiles(times, n=100)[percent - 1] if len(times) > 1 else None


def main() -> None:
    """Measures this service alone; its peers have no bound to their queue by default."""
    parser = argparse.ArgumentParser(description="Goodput, latency and refusals under overload.")
    parser.add_argument("--factors", type=float, nargs="+", default=[2, 5])
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--photo", choices=NAMES, default="250px")
    parser.add_argument("--model", choices=["cpu", "standin"], default="cpu")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        photo = write_photos(Path(folder))[given.photo].read_bytes()
        request = write_request("/synthesize", photo, "raw")
        log = Path(folder) / "log"
        with start_server(CONTENDERS[0], given.model, log, max_wait_ms=500) as (port, session):
            wait_until_answering(port, session)
            at_capacity: dict[str, Any] = {}
            with _cpu(session, at_capacity):
                result = uvloop.run(run_load(port, request, 4, 2, given.seconds / 3))
            capacity = len(result.latencies_s) / (given.seconds / 3)
            at_capacity |= {"capacity_per_s": capacity, "memory_mb": measure_usage(session).memory_mb}
            print(json.dumps(at_capacity), flush=True)
            for factor in given.factors:
                told: dict[str, Any] = {"factor": factor}
                with _cpu(session, told), measure_livez(port) as livez:
                    answers = uvloop.run(flood(port, request, capacity * factor, given.seconds))
                told |= describe(answers, given.seconds)
                told["livez_p99_ms"] = livez[len(livez) * 99 // 100] * 1000
                told["goodput_of_capacity"] = told["good_within_1s_per_s"] / capacity
                num_cores = len(os.sched_getaffinity(0))
                left = (num_cores - told["sender_cores"]) / (num_cores - at_capacity["sender_cores"])
                told["goodput_of_rest"] = told["goodput_of_capacity"] / left
                print(json.dumps(told | {"memory_mb": measure_usage(session).memory_mb}), flush=True)
            after = uvloop.run(run_load(port, request, 4, 0.5, given.seconds / 3))
            print(json.dumps({"afterwards_per_s": len(after.latencies_s) / (given.seconds / 3)}), flush=True)


if __name__ == "__main__":
    main()
