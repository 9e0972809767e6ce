"""Closed-loop load generator: photos over a fixed number of connections, one request at a time on each.

    python -m bench.load PORT PATH PHOTO --form raw --connections 32 --seconds 10

Prints one JSON object. It is a process of its own, the same for every contender, and tells its CPU time.
"""

import argparse
import asyncio
import json
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvloop

_BOUNDARY = b"----bench"


@dataclass
class LoadResult:
    """Latencies and failures of the answers within the measured time."""

    begin: float
    end: float
    latencies_s: list[float] = field(default_factory=list)
    num_bad: int = 0
    bad: str = ""

    def note(self, sent: float, status: int, body: bytes) -> None:
        """Counts an answer; an answer is good if it is a PNG, or holds one after a head or in base64."""
        now = time.monotonic()
        if not self.begin <= now < self.end:
            return
        if status == 200 and (b"\x89PNG" in body[:500] or b"iVBOR" in body[:100]):
            self.latencies_s.append(now - sent)
        else:
            self.num_bad += 1
            self.bad = f"{status} {body[:200]!r}"


def write_request(path: str, photo: bytes, form: str) -> bytes:
    """The request's bytes, head and body.

    `kserve` and `open-inference` are KServe's protocol 2 with binary data: of a Triton model that takes
    numbers, and of this service, which takes files.
    """
    kind, body = b"image/jpeg", photo
    if form in ("kserve", "open-inference"):
        photo_told: dict[str, Any] = {"name": "photo", "shape": [1, len(photo)], "datatype": "UINT8"}
        if form == "open-inference":
            photo_told = {"name": "image", "shape": [1], "datatype": "BYTES"}
            photo = len(photo).to_bytes(4, "little") + photo
        told = json.dumps({
            "inputs": [photo_told | {"parameters": {"binary_data_size": len(photo)}}],
            "outputs": [{"name": "face", "parameters": {"binary_data": True}}],
        }).encode()  # fmt: skip
        kind = b"application/octet-stream\r\nInference-Header-Content-Length: %d" % len(told)
        body = told + photo
    if form == "multipart":
        kind = b"multipart/form-data; boundary=" + _BOUNDARY
        part = b'Content-Disposition: form-data; name="image"; filename="p.jpg"\r\nContent-Type: image/jpeg'
        body = b"--%b\r\n%b\r\n\r\n%b\r\n--%b--\r\n" % (_BOUNDARY, part, photo, _BOUNDARY)
    head = b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n"
    return head % (path.encode(), kind, len(body)) + body


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Status and body; a body must have a length or be chunked."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    status = int(head.split(b" ", 2)[1])
    if b"\r\ncontent-length:" in head:
        length = int(head.split(b"\r\ncontent-length:")[1].split(b"\r\n")[0])
        return status, await reader.readexactly(length)
    body = b""
    while size := int(await reader.readuntil(b"\r\n"), 16):
        body += (await reader.readexactly(size + 2))[:-2]
    await reader.readuntil(b"\r\n")
    return status, body


async def send_requests(port: int, request: bytes, result: LoadResult) -> None:
    """One connection's requests until the time is over; a connection that is closed is opened again."""
    while time.monotonic() < result.end:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.05)
            continue
        try:
            while time.monotonic() < result.end:
                sent = time.monotonic()
                writer.write(request)
                result.note(sent, *await read_answer(reader))
        except (OSError, asyncio.IncompleteReadError, ValueError) as error:
            result.note(0.0, 0, repr(error).encode())
        finally:
            writer.close()


async def run_load(
    port: int, request: bytes, num_connections: int, warm_s: float, seconds: float
) -> LoadResult:
    """The result of a closed loop; answers of the first `warm_s` do not count."""
    begin = time.monotonic() + warm_s
    result = LoadResult(begin, begin + seconds)
    askers = [send_requests(port, request, result) for _ in range(num_connections)]
    await asyncio.wait([asyncio.ensure_future(each) for each in askers], timeout=warm_s + seconds + 10)
    return result


def main() -> None:
    """Prints throughput and latencies as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("path")
    parser.add_argument("photo", type=Path)
    parser.add_argument("--form", choices=["raw", "multipart", "kserve", "open-inference"], default="raw")
    parser.add_argument("--connections", type=int, default=1)
    parser.add_argument("--warm", type=float, default=1.0)
    parser.add_argument("--seconds", type=float, default=10.0)
    given = parser.parse_args()
    request = write_request(given.path, given.photo.read_bytes(), given.form)
    cpu = time.process_time()
    result = uvloop.run(run_load(given.port, request, given.connections, given.warm, given.seconds))
    latencies = sorted(result.latencies_s) or [0.0]  # none: num_good says so
    told = {
        "num_good": len(result.latencies_s),
        "num_bad": result.num_bad,
        "bad": result.bad,
        "per_s": len(result.latencies_s) / given.seconds,
        "p50_ms": statistics.median(latencies) * 1000,
        "p99_ms": latencies[int(len(latencies) * 0.99)] * 1000,
        "load_cpu": (time.process_time() - cpu) / (given.warm + given.seconds),
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
