"""Endless URLs, headers, trailers and chunk extensions: refused, without growth or delay for others."""

import itertools
import time

import pytest

from tests.attacks.target import CHUNKED, HOST, Target, at_once, drip, pour, read_all

pytestmark = [pytest.mark.slow, pytest.mark.serial]

GET, POST = b"GET /livez HTTP/1.1\r\n" + HOST, b"POST /eyes HTTP/1.1\r\n" + HOST
MEGABYTES = 200_000_000

FLOODS = {
    "URL": (b"GET /", b"x" * 65536),
    "query": (b"GET /livez?", b"a=b&" * 16384),
    "one header": (GET + b"X: ", b"x" * 65536),
    "one name": (GET, b"x" * 65536),
    "short headers": (GET, b"x:\r\n" * 16384),
    "folded lines": (GET + b"X: y\r\n", b" y\r\n" * 16384),
    "tabs": (GET + b"X:", b"\t" * 65536),
    "empty lines": (b"", b"\r\n" * 32768),
    "trailers": (POST + CHUNKED + b"0\r\n", b"x: y\r\n" * 10_000),
    "one trailer": (POST + CHUNKED + b"0\r\nX: ", b"y" * 65536),
    "one extension": (POST + CHUNKED + b"1;x=", b"y" * 65536),
    "extensions": (POST + CHUNKED, (b"1;" + b"y" * 98 + b"\r\nx\r\n") * 500),
    "trailers of a GET": (GET + CHUNKED + b"0\r\n", b"x: y\r\n" * 10_000),
    "digits of a chunk": (POST + CHUNKED, b"0" * 65536),
    "small chunks": (POST + CHUNKED, b"1\r\nx\r\n" * 10_000),
}


@pytest.mark.parametrize("kind", FLOODS)
def test_a_flood_is_refused(target: Target, kind: str) -> None:
    start, piece = FLOODS[kind]

    def attack() -> None:
        with target.connect(start + piece) as connection:  # at once: else a GET may be answered before
            pour(connection, itertools.repeat(piece, MEGABYTES // len(piece)))
            answer = read_all(connection)
        assert answer[:13] in (b"HTTP/1.1 431 ", b"HTTP/1.1 400 ")
        assert b"application/problem+json" in answer

    with target.stays_well():
        at_once(attack, 4)


def test_what_drips_is_closed(target: Target) -> None:
    def attack(start: bytes, piece: bytes) -> None:
        with target.connect(start) as connection:
            assert drip(connection, piece, max_s=20) < 13

    starts = [(b"GET /", b"x"), (GET, b"x: y\r\n"), (GET + CHUNKED + b"0\r\n", b"x: y\r\n"), (b"", b"\r\n")]
    starts += [(GET + b"Content-Length: 999999\r\n\r\n", b"x"), (GET + CHUNKED, b"1\r\nx\r\n")]
    starts += [(b"GET /no HTTP/1.1\r\n" + HOST + b"Content-Length: 999999\r\n\r\n", b"x")]
    starts += [(POST + b"Content-Type: image/png\r\nContent-Length: 999999999\r\n\r\n", b"x")]
    starts += [(GET + b"\r\n" + GET, b"x")]
    waiting = iter(starts)
    with target.stays_well():
        at_once(lambda: attack(*next(waiting)), len(starts))


def test_connections_that_drip_do_not_keep_others_out_for_long(target: Target) -> None:
    head = b"POST /no HTTP/1.1\r\n" + HOST + b"Content-Length: 999999\r\n\r\n"
    begin = time.monotonic()
    connections = [target.connect(head) for _ in range(300)]
    for connection in connections:
        read_all(connection)
        connection.close()
    assert time.monotonic() - begin < 15
