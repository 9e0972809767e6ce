"""Hostile senders for the soak: floods, trickles, and responses that nobody reads, each of a bounded size.

An attack has a connection of its own. It ends when the service answers or closes it, or after MAX_S.
"""

import asyncio
import random
import struct
import zlib
from collections import Counter
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

MAX_S: Final = 20.0
NUM_AT_ONCE: Final = 12
PERIOD_S: Final = 0.1
"""Between the starts of two attacks."""

_GET = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n"
_POST = b"POST /eyes HTTP/1.1\r\nHost: localhost\r\n"
_CHUNKED = b"Content-Type: image/png\r\nTransfer-Encoding: chunked\r\n\r\n"
_LENGTH = b"Content-Length: 9999999\r\n\r\n"
_JSON = _POST + b"Content-Type: application/json\r\n" + _LENGTH
_UPGRADE = _GET + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
_SCRIPT = b"GET /web/swagger/swagger-ui-bundle.js HTTP/1.1\r\nHost: localhost\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Attack:
    """What is sent first, and what then again and again; `reads`: whether the answer is read."""

    name: str
    start: bytes
    piece: bytes = b""
    num_pieces: int = 100
    pause_s: float = 0.0
    reads: bool = True


def _trickle(name: str, start: bytes, piece: bytes) -> Attack:
    return Attack(name, start, piece, pause_s=MAX_S / 100)


ATTACKS: Final = (
    Attack("long URL", b"GET /", b"x" * 65536),
    Attack("long header", _GET + b"X: ", b"x" * 65536),
    Attack("many headers", _GET, b"x: y\r\n" * 10_000),
    Attack("long Accept", _POST + b"Accept: ", b"image/png;q=0.5," * 4096),
    Attack("many trailers", _POST + _CHUNKED + b"0\r\n", b"x: y\r\n" * 10_000),
    Attack("chunk extensions", _POST + _CHUNKED, b"1;x=y\r\nx\r\n" * 6000),
    Attack("long query", b"GET /livez?", b"a=b&" * 16384),
    Attack("lists in JSON", _JSON + b'{"image":[', b"[]," * 20_000),
    Attack("names in JSON", _JSON + b"{", b'"x":0,' * 10_000),
    Attack("pipelined upgrades", _UPGRADE * 1000, num_pieces=0),
    Attack("unread pipeline", b"", _UPGRADE * 500, reads=False),
    Attack("unread responses", _SCRIPT * 20, pause_s=MAX_S / 100, reads=False),
    _trickle("slow head", _GET, b"x: y\r\n"),
    _trickle("slow body", _POST + b"Content-Type: image/png\r\n" + _LENGTH, b"x"),
    _trickle("slow trailers", _POST + _CHUNKED + b"0\r\n", b"x: y\r\n"),
    _trickle("slow body after its answer", b"POST /nowhere HTTP/1.1\r\nHost: localhost\r\n" + _LENGTH, b"x"),
)


def surplus_png() -> bytes:
    """A PNG of 16 x 16 pixels that holds 100,000 rows."""
    _, file = cv2.imencode(".png", np.zeros((100_000, 16), np.uint8))
    png = bytearray(file.tobytes())
    struct.pack_into(">I", png, 20, 16)
    struct.pack_into(">I", png, 29, zlib.crc32(png[12:29]))
    return bytes(png)


async def attack_without_end(port: int, lot: random.Random, endings: Counter[tuple[str, str]]) -> None:
    """Starts attacks in random order until it is cancelled.

    `endings` counts the status of the answer, "closed", or "open" after MAX_S, by attack.
    """
    running = asyncio.Semaphore(NUM_AT_ONCE)

    async def run(attack: Attack) -> None:
        async with running:
            endings[attack.name, await _send(port, attack)] += 1

    async with asyncio.TaskGroup() as attacks:
        while True:
            async with running:
                attacks.create_task(run(lot.choice(ATTACKS)))
            await asyncio.sleep(PERIOD_S)


async def _send(port: int, attack: Attack) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(MAX_S):
            writer.write(attack.start)
            for _ in range(attack.num_pieces):
                writer.write(attack.piece)
                await writer.drain()
                await asyncio.sleep(attack.pause_s)
            if attack.reads:
                return (await reader.read(12))[9:].decode() or "closed"
            await asyncio.sleep(MAX_S)
    except ConnectionError:
        return "closed"
    except TimeoutError:
        pass
    finally:
        writer.transport.abort()
    return "open"
