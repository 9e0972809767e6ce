"""Damaged pictures of every format, always the same ones; and a command that sends many to a running service.

    python -m tests.service.damaged --pictures 20000

starts a service, sends them over four connections, and prints one JSON object: answers by status and code,
those that are not documented, the slowest one. It exits 1 if one is not documented, a 500, or late.
"""

import argparse
import collections
import io
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
import numpy as np
import PIL.Image

from tests.fakes import astronaut, encoded, turned
from tests.running import run_service

LIMIT_S: Final = 10.0
"""The service's own deadline; a picture of these sizes takes milliseconds."""

ANY: Final = {"content-type": "image/any"}
FACE: Final = PIL.Image.fromarray(astronaut()[40:180, 150:290])


def _files() -> dict[str, bytes]:
    """One file of every kind that the service reads, and of some that it refuses."""
    palette, gray = FACE.convert("P"), FACE.convert("L")
    return {
        "jpeg": encoded(FACE, "jpeg", quality=90),
        "jpeg-progressive": encoded(FACE, "jpeg", progressive=True),
        "jpeg-gray": encoded(gray, "jpeg"),
        "jpeg-cmyk": encoded(FACE.convert("CMYK"), "jpeg"),
        "jpeg-restarts": encoded(FACE, "jpeg", restart_marker_rows=1),
        "jpeg-turned": turned(np.asarray(FACE), 6),
        "png": encoded(FACE),
        "png-palette": encoded(palette),
        "png-alpha": encoded(FACE.convert("RGBA")),
        "png-16": encoded(PIL.Image.fromarray(np.asarray(gray).astype(np.uint16) * 257)),
        "webp": encoded(FACE, "webp", quality=80),
        "webp-lossless": encoded(FACE.convert("RGBA"), "webp", lossless=True),
        "webp-animated": _animated("webp"),
        "avif": encoded(FACE, "avif"),
        "avif-animated": _animated("avif"),
        "bmp": encoded(FACE, "bmp"),
        "bmp-palette": encoded(palette, "bmp"),
        "gif": encoded(palette, "gif"),
        "tiff": encoded(FACE, "tiff"),
    }


def _animated(format: str) -> bytes:
    buffer = io.BytesIO()
    FACE.save(buffer, format, save_all=True, append_images=[FACE.rotate(5)])
    return buffer.getvalue()


FILES: Final = _files()
Random = np.random.Generator


def flip_bytes(random: Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for place in random.integers(0, len(data), int(random.integers(1, 20))):
        changed[place] = int(random.integers(0, 256))
    return bytes(changed)


def change_the_head(random: Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for place in random.integers(0, min(64, len(data)), int(random.integers(1, 4))):
        changed[place] = int(random.choice([0, 1, 0x7F, 0x80, 0xFF]))
    return bytes(changed)


def cut_off(random: Random, data: bytes) -> bytes:
    return data[: int(random.integers(1, len(data)))]


def splice(random: Random, data: bytes) -> bytes:
    """Its beginning, and the end of another file."""
    other = FILES[str(random.choice(list(FILES)))]
    return data[: int(random.integers(1, len(data)))] + other[int(random.integers(0, len(other))) :]


def repeat_a_part(random: Random, data: bytes) -> bytes:
    begin, end = sorted(int(each) for each in random.integers(0, len(data), 2))
    return data[:end] + data[begin:end] + data[end:]


def leave_a_part_out(random: Random, data: bytes) -> bytes:
    begin, end = sorted(int(each) for each in random.integers(0, len(data), 2))
    return data[:begin] + data[end:] or data[:1]


def cut_off_and_end(random: Random, data: bytes) -> bytes:
    """Cut off, but with an end marker, so that a naive check takes it for whole."""
    end = {b"\xff\xd8": b"\xff\xd9", b"\x89P": b"\0\0\0\0IEND\xaeB`\x82"}.get(data[:2], bytes(64))
    return cut_off(random, data) + end


MUTATIONS: Final[tuple[Callable[[Random, bytes], bytes], ...]] = (
    flip_bytes, change_the_head, cut_off, cut_off_and_end, splice, repeat_a_part, leave_a_part_out,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Damaged:
    """One damaged picture, how it was damaged, and the path of its request."""

    about: str
    path: str
    data: bytes


def damage(name: str, num: int) -> Iterator[Damaged]:
    """So many damaged pictures out of one file, the same ones each time."""
    random = np.random.default_rng(sorted(FILES).index(name))
    for number in range(num):
        mutate = MUTATIONS[number % len(MUTATIONS)]
        data = mutate(random, FILES[name])
        path = ("/synthesize", "/eyes")[int(random.integers(2))]
        query = "?input=eye" if path == "/synthesize" and random.integers(2) else ""
        yield Damaged(f"{name} {number} {mutate.__name__}", path + query, data)


def damage_all(num: int) -> Iterator[Damaged]:
    """So many, of every file alike many."""
    per_file = -(-num // len(FILES))
    return (each for name in FILES for each in damage(name, per_file))


def documented_statuses(openapi: dict[str, Any]) -> dict[str, set[int]]:
    """The statuses that a damaged picture may be answered with, by path."""
    posts = {path: item["post"]["responses"] for path, item in openapi["paths"].items() if "post" in item}
    return {path: {int(status) for status in each} - {500, 503} for path, each in posts.items()}


@dataclass
class Answers:
    """What came back."""

    by_code: collections.Counter[str] = field(default_factory=collections.Counter)
    wrong: list[str] = field(default_factory=list)
    slowest_s: float = 0.0
    slowest: str = ""

    def note(self, sent: Damaged, answer: httpx.Response, seconds: float, documented: set[int]) -> None:
        """Counts one."""
        code = "" if answer.status_code == 200 else f" {answer.json()['code']}"
        self.by_code[f"{answer.status_code}{code}"] += 1
        if answer.status_code not in documented or seconds > LIMIT_S:
            self.wrong.append(f"{sent.about}: {answer.status_code}{code} after {seconds:.1f} s")
        if seconds > self.slowest_s:
            self.slowest_s, self.slowest = seconds, sent.about


def send(address: str, num: int, num_connections: int) -> Answers:
    """Sends so many to a service; a connection that breaks is an error."""
    answers, pictures, turn = Answers(), damage_all(num), threading.Lock()
    documented = documented_statuses(httpx.get(f"{address}/openapi.json").json())

    def keep_sending() -> None:
        with httpx.Client(base_url=address, timeout=60) as client:
            while True:
                with turn:
                    sent = next(pictures, None)
                if sent is None:
                    return
                begin = time.monotonic()
                try:
                    answer = client.post(sent.path, content=sent.data, headers=ANY)
                except httpx.HTTPError as error:
                    answers.wrong.append(f"{sent.about}: {error!r}")
                    continue
                seconds = time.monotonic() - begin
                with turn:
                    answers.note(sent, answer, seconds, documented[sent.path.partition("?")[0]])

    threads = [threading.Thread(target=keep_sending) for _ in range(num_connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def main() -> int:
    """1 if an answer is not as it must be."""
    parser = argparse.ArgumentParser(description="Sends damaged pictures to a service of its own.")
    parser.add_argument("--pictures", type=int, default=20_000)
    parser.add_argument("--connections", type=int, default=4)
    given = parser.parse_args()
    with run_service(eye_finder="learned", log_level="warning") as address:
        begin = time.monotonic()
        answers = send(address, given.pictures, given.connections)
        still_ready = httpx.get(f"{address}/readyz").status_code == 200
    told = {
        "pictures": answers.by_code.total(),
        "answers": dict(answers.by_code.most_common()),
        "wrong": answers.wrong,
        "slowest_ms": round(answers.slowest_s * 1000),
        "slowest": answers.slowest,
        "seconds": round(time.monotonic() - begin),
        "ready afterwards": still_ready,
    }
    print(json.dumps(told, indent=1))
    return 0 if still_ready and not answers.wrong else 1


if __name__ == "__main__":
    sys.exit(main())
