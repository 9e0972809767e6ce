"""Soak test: a long run of all kinds of requests, good and bad; does memory, threads or descriptors grow?

    python -m bench.soak --requests 100000

Callers send good photos in several forms, what is no photo, broken requests, bodies that end in the middle,
and bodies that come slowly, all of it beside the attacks of `bench.attacks`. Prints a JSON object for each
hundredth of the way, and at last the statuses of each kind, how the attacks ended, the latency of /livez, and
what memory, threads and descriptors did after the first tenth. Ends with status 1 if an answer was 500 or
more (503 of a full queue excepted), or if a good photo had no face.
"""

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import uvloop

from bench.attacks import attack_without_end, surplus_png
from bench.livez import measure_livez
from bench.load import read_answer, write_request
from bench.photos import write_photos
from bench.servers import CONTENDERS, measure_usage, processes, start_server, wait_until_answering

NUM_CALLERS: Final = 8
NUM_SAMPLES: Final = 100
WARM: Final = NUM_SAMPLES // 10
"""Samples at the beginning that count for nothing: the first tenth of the way."""

SLOW_S: Final = 1.0
"""What a slow body takes; one in a hundred is."""

_CUT: Final = -1
"""The status of a request whose caller left before the answer."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of request: how often it is sent, and how."""

    name: str
    share: int
    request: bytes
    manner: str = "whole"  # or "aborted": half of it, and away; "slow": in ten pieces
    good: bool = False


@dataclass
class Soak:
    """What is left to send and what came back."""

    port: int
    kinds: list[Kind]
    num_left: int
    lot: random.Random
    statuses: Counter[tuple[str, int]] = field(default_factory=Counter)
    attacks: Counter[tuple[str, str]] = field(default_factory=Counter)
    """How they ended."""

    async def send_requests(self) -> None:
        """One caller, on one connection for as long as the service keeps it."""
        weights = [kind.share for kind in self.kinds]
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        while self.num_left > 0:
            self.num_left -= 1
            (kind,) = self.lot.choices(self.kinds, weights)
            try:
                status, stays = await self._send(kind, reader, writer)
            except (OSError, asyncio.IncompleteReadError):
                status, stays = 0, False
            self.statuses[kind.name, status] += 1
            if not stays:
                writer.close()
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.close()

    async def _send(
        self, kind: Kind, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> tuple[int, bool]:
        """The status, and whether the connection can be used again."""
        if kind.manner == "aborted":
            writer.write(kind.request[: len(kind.request) // 2])
            await writer.drain()
            return _CUT, False
        if kind.manner == "slow":
            step = len(kind.request) // 10 + 1
            for start in range(0, len(kind.request), step):
                writer.write(kind.request[start : start + step])
                await asyncio.sleep(SLOW_S / 10)
        else:
            writer.write(kind.request)
        async with asyncio.timeout(60):
            status, _ = await read_answer(reader)
        return status, status < 400 or status in (404, 422)


def _kinds(photo: bytes) -> list[Kind]:
    def post(path: str, body: bytes, form: str = "raw") -> bytes:
        return write_request(path, body, form)

    good = partial(Kind, good=True)
    get = b"GET %b HTTP/1.1\r\nHost: localhost\r\n\r\n"
    wrong_type = post("/synthesize", photo).replace(b"image/jpeg", b"text/plain")
    broken_form = post("/synthesize", photo, "multipart").replace(b"form-data; name", b"form-dota; nome")
    return [
        good("raw", 30, post("/synthesize", photo)),
        good("multipart", 10, post("/synthesize", photo, "multipart")),
        good("eyes", 5, post("/eyes", photo)),
        good("slow", 1, post("/synthesize", photo), manner="slow"),
        good("readyz", 5, get % b"/readyz"),
        good("metrics", 3, get % b"/metrics"),
        good("models", 3, get % b"/models"),
        Kind("aborted", 10, post("/synthesize", photo), "aborted"),
        Kind("no picture", 10, post("/synthesize", b"no picture" * 100)),
        Kind("cut off", 5, post("/synthesize", photo[: len(photo) // 2])),
        Kind("surplus pixels", 1, post("/synthesize", surplus_png())),
        Kind("empty", 4, post("/synthesize", b"")),
        Kind("odd question", 5, post("/synthesize?eye=third", photo)),
        Kind("wrong type", 4, wrong_type),
        Kind("broken form", 3, broken_form),
        Kind("nowhere", 2, get % b"/nowhere"),
    ]


def _count(pid: int, what: str) -> int:
    return sum(len(list(Path(f"/proc/{each}/{what}").iterdir())) for each in processes(pid))


async def _run(soak: Soak, pid: int, num_requests: int) -> list[dict[str, Any]]:
    attackers = asyncio.ensure_future(attack_without_end(soak.port, soak.lot, soak.attacks))
    callers = [asyncio.ensure_future(soak.send_requests()) for _ in range(NUM_CALLERS)]
    samples: list[dict[str, Any]] = []
    begin = time.monotonic()
    while not all(caller.done() for caller in callers):
        await asyncio.sleep(0.05)
        num_sent = num_requests - max(0, soak.num_left)
        if num_sent * NUM_SAMPLES >= num_requests * (len(samples) + 1):
            told = {
                "num_sent": num_sent, "seconds": round(time.monotonic() - begin, 1),
                "memory_mb": measure_usage(pid).memory_mb, "threads": _count(pid, "task"),
                "files": _count(pid, "fd"),
            }  # fmt: skip
            samples.append(told)
            print(json.dumps(told), flush=True)
    attackers.cancel()
    await asyncio.wait([attackers])
    for caller in callers:
        caller.result()  # an error of a caller is one of this program
    return samples


def describe(soak: Soak, samples: list[dict[str, Any]]) -> dict[str, Any]:
    """Statuses by kind, faults, and how much grew from the first tenth on."""
    kept = samples[WARM:]
    num_sent = [each["num_sent"] / 10_000 for each in kept]
    growth = {
        f"{name}_per_10000": float(np.polyfit(num_sent, [each[name] for each in kept], 1)[0])
        for name in ("memory_mb", "threads", "files")
    }
    good = {kind.name for kind in soak.kinds if kind.good}
    return {
        "statuses": _nest(soak.statuses),
        "attacks": _nest(soak.attacks),
        "faults": sum(n for (_, status), n in soak.statuses.items() if status >= 500 and status != 503),
        "good_without_answer": sum(n for (name, s), n in soak.statuses.items() if name in good and s != 200),
        "most_memory_mb": max(each["memory_mb"] for each in samples),
        "first": kept[0],
        "last": kept[-1],
        **growth,
    }


def _nest(counted: Mapping[tuple[str, Any], int]) -> dict[str, dict[str, int]]:
    nested: dict[str, dict[str, int]] = {}
    for (name, ending), number in sorted(counted.items()):
        nested.setdefault(name, {})[str(ending)] = number
    return nested


def main() -> None:
    """Soaks this service, with its own model on the CPU."""
    parser = argparse.ArgumentParser(description="Whether the service wears out.")
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        photo = write_photos(Path(folder))["250px"].read_bytes()
        with start_server(CONTENDERS[0], "cpu", Path(folder) / "log") as (port, pid):
            wait_until_answering(port, pid)
            soak = Soak(port, _kinds(photo), given.requests, random.Random(given.seed))
            with measure_livez(port) as latencies:
                samples = uvloop.run(_run(soak, pid, given.requests))
    told = describe(soak, samples) | {"livez_p99_ms": latencies[len(latencies) * 99 // 100] * 1000}
    print(json.dumps(told, indent=1))
    sys.exit(1 if told["faults"] or told["good_without_answer"] else 0)


if __name__ == "__main__":
    main()
