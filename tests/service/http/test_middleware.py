"""Middleware: HEAD is GET without a body, over a real connection."""

import re
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from service.http.app import create_app
from service.settings import Settings
from tests.fakes import tiny_model
from tests.running import serving
from tests.service.shapes import check_problem


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A service that wants no key."""
    path: Path = tmp_path_factory.mktemp("models") / "tiny.onnx"
    with serving(create_app(Settings(model=str(tiny_model(path)), device="cpu", eye_finder="haar"))) as at:
        yield at


@pytest.mark.parametrize(
    "path", ["/livez", "/readyz", "/", "/docs", "/openapi.json", "/models", "/web/page.js"]
)
def test_it_is_answered_as_get_is(address: str, path: str) -> None:
    whole, head = httpx.get(address + path), httpx.head(address + path)
    assert head.status_code == whole.status_code == 200
    assert not head.content and whole.content
    assert head.headers["content-type"] == whole.headers["content-type"]
    assert {*head.headers} == {*whole.headers}
    if path != "/readyz":  # which tells ages
        assert head.headers["content-length"] == str(len(whole.content))


def test_nothing_follows_its_head_and_the_connection_goes_on(address: str) -> None:
    host, port = address.removeprefix("http://").split(":")
    ask = b"HEAD /livez HTTP/1.1\r\nHost: x\r\n\r\n"
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        for _ in range(3):
            connection.sendall(ask)
            answer = connection.recv(65536)
            assert answer.startswith(b"HTTP/1.1 200 ") and answer.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("sent", ["a", "Trace-1.2_3", "f" * 64])
def test_the_request_id_of_a_caller_is_kept(address: str, sent: str) -> None:
    answer = httpx.get(f"{address}/nowhere", headers={"X-Request-Id": sent})
    assert answer.headers.get_list("x-request-id") == [sent] and answer.json()["request_id"] == sent


@pytest.mark.parametrize("sent", [b"", b"f" * 65, b"a b", b"a'b", b"\xfc"])
def test_a_request_id_that_logs_should_not_hold_is_replaced(address: str, sent: bytes) -> None:
    answer = httpx.get(f"{address}/nowhere", headers={b"X-Request-Id": sent})
    assert re.fullmatch("[0-9a-f]{32}", answer.json()["request_id"])


def test_what_get_does_not_get_it_does_not_either(address: str) -> None:
    assert httpx.head(f"{address}/nowhere").status_code == 404
    refused = httpx.head(f"{address}/synthesize")
    assert (refused.status_code, refused.headers["allow"]) == (405, "POST")
    check_problem(httpx.get(f"{address}/synthesize"), 405, "method_not_allowed")


def test_the_log_names_it(address: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "service.requests"):
        httpx.head(f"{address}/models")
        httpx.get(f"{address}/livez")  # by then the line of the one before is written
    (line,) = [
        record
        for record in caplog.records
        if record.name == "service.requests" and "/models" in record.message
    ]
    assert line.message.startswith("HEAD '/models' 200")
