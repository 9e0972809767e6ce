"""The load generator's requests and responses, in each form of body."""

import asyncio
import json

import pytest

from bench.load import LoadResult, read_answer, write_request
from service.http.open_inference.request import read_binary

PHOTO = b"\xff\xd8photo"


def _split(request: bytes) -> tuple[dict[str, str], bytes]:
    head, _, body = request.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    assert first == "POST /path HTTP/1.1"
    return dict(line.split(": ", 1) for line in lines), body


@pytest.mark.parametrize("form", ["raw", "multipart", "kserve", "open-inference"])
def test_a_request_has_the_length_that_it_names_and_holds_the_photo(form: str) -> None:
    headers, body = _split(write_request("/path", PHOTO, form))
    assert int(headers["Content-Length"]) == len(body)
    assert PHOTO in body


def test_kserves_head_tells_where_the_photo_begins_and_asks_for_bytes() -> None:
    headers, body = _split(write_request("/path", PHOTO, "kserve"))
    length = int(headers["Inference-Header-Content-Length"])
    (photo,) = json.loads(body[:length])["inputs"]
    assert photo == {
        "name": "photo", "shape": [1, len(PHOTO)], "datatype": "UINT8",
        "parameters": {"binary_data_size": len(PHOTO)},
    }  # fmt: skip
    assert json.loads(body[:length])["outputs"] == [{"name": "face", "parameters": {"binary_data": True}}]
    assert body[length:] == PHOTO


def test_this_services_head_announces_a_file_and_its_length_comes_first() -> None:
    headers, body = _split(write_request("/path", PHOTO, "open-inference"))
    request = read_binary(body, headers["Inference-Header-Content-Length"], max_photos=1)
    assert request.photos == [PHOTO]
    assert request.outputs == {"face": True}


async def _read(answer: bytes) -> tuple[int, bytes]:
    reader = asyncio.StreamReader()
    reader.feed_data(answer)
    return await read_answer(reader)


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 5\r\nInference-Header-Content-Length: 2\r\n\r\n",
        b"Inference-Header-Content-Length: 2\r\nContent-Length: 5\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n",
    ],
)
def test_an_answer_is_read_to_its_end_and_no_further(head: bytes) -> None:
    body = b"2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n" if b"chunked" in head else b"abcde"
    assert asyncio.run(_read(b"HTTP/1.1 200 OK\r\n" + head + body + b"")) == (200, b"abcde")


@pytest.mark.parametrize(
    ("status", "body", "is_good"),
    [
        (200, b"\x89PNG...", True),
        (200, b'{"outputs": []}\x1a\x00\x00\x00\x89PNG...', True),
        (200, b'"iVBORw0K"', True),
        (200, b'{"error": "no eye"}', False),
        (500, b"\x89PNG...", False),
    ],
)
def test_an_answer_is_good_if_it_holds_a_png(status: int, body: bytes, is_good: bool) -> None:
    result = LoadResult(0.0, float("inf"))
    result.note(0.0, status, body)
    assert (len(result.latencies_s), result.num_bad) == ((1, 0) if is_good else (0, 1))
