"""Pipelines, upgrades, halves of connections, other names and other sites."""

import itertools
import socket

import pytest

from tests.attacks.target import HOST, Target, at_once, pour, read_all

pytestmark = [pytest.mark.slow, pytest.mark.serial]

GET = b"GET /livez HTTP/1.1\r\n" + HOST
LAST = GET + b"Connection: close\r\n\r\n"
UPGRADES = {
    "none": b"",
    "h2c": b"Connection: Upgrade\r\nUpgrade: h2c\r\n",
    "h2c with a body": b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\nxy",
    "websocket": b"Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n",
    "two": b"Connection: Upgrade\r\nUpgrade: h2c\r\nUpgrade: websocket\r\n",
}


@pytest.mark.parametrize("kind", UPGRADES)
def test_a_thousand_pipelined_requests_are_answered(target: Target, kind: str) -> None:
    request = GET + UPGRADES[kind] + b"\r\n" * (not UPGRADES[kind].endswith(b"xy"))
    with target.stays_well():
        assert target.ask(request * 1000 + LAST).count(b"HTTP/1.1 200 OK") == 1001


def test_an_endless_pipeline_that_nobody_reads_is_not_queued(target: Target) -> None:
    def attack() -> None:
        with target.connect() as client:
            client.settimeout(2)
            assert pour(client, itertools.repeat((GET + b"\r\n") * 2000, 500)) < 50_000_000

    with target.stays_well():
        at_once(attack, 3)


def test_a_client_that_closed_its_half_is_answered(target: Target) -> None:
    for num_requests in (1, 50):
        with target.connect((GET + b"\r\n") * num_requests) as client:
            client.shutdown(socket.SHUT_WR)
            assert read_all(client).count(b"HTTP/1.1 200 OK") == num_requests


@pytest.mark.parametrize(
    "head",
    [
        b"GET /livez HTTP/1.1\r\nHost: rebound.example\r\n",
        b"GET /livez HTTP/1.1\r\nHost: localhost.rebound.example:8000\r\n",
        GET + b"Host: rebound.example\r\n",
        b"POST /eyes HTTP/1.1\r\n" + HOST + b"Origin: https://elsewhere.example\r\n",
        b"POST /eyes HTTP/1.1\r\n" + HOST + b"Origin: null\r\n",
        b"POST /eyes HTTP/1.1\r\n" + HOST + b"Sec-Fetch-Site: cross-site\r\n",
    ],
)
def test_other_names_and_sites_are_refused(target: Target, head: bytes) -> None:
    answer = target.ask(head + b"\r\n")
    assert answer.startswith(b"HTTP/1.1 403 ") and b'"code":"not_local"' in answer


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00",
        b"CONNECT localhost:80 HTTP/1.1\r\n" + HOST + b"\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /livez HTTP/9.9\r\n\r\n",
        b"GET /livez\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"POST /eyes HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST /eyes HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"POST /eyes HTTP/1.1\r\n" + HOST + b"Content-Length: 99999999999999999999999\r\n\r\n",
        b"POST /eyes HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n",
        b"POST /eyes HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"GET /livez HTTP/1.1\r\n" + HOST + b"X: y\x00z\r\n\r\n",
        b"GET /livez HTTP/1.1\nHost: localhost\n\n",
    ],
)
def test_what_is_no_request_is_refused(target: Target, sent: bytes) -> None:
    answer = target.ask(sent)
    assert answer.startswith(b"HTTP/1.1 400 ") and b'"code":"bad_request"' in answer
