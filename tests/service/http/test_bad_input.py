"""Bad pictures and requests: each has its own code and a sentence that helps; no crash, and none is slow."""

import base64
import io
import struct
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import PIL.Image
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from tests.fakes import astronaut, encoded
from tests.service.shapes import check_problem

MAX_CPU_SECONDS = 1.0
"""CPU time, so that busy neighbors do not make the tests fail."""


def claiming_png(width: int, height: int) -> bytes:
    """A PNG of 65 bytes that claims any size and holds next to no pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


def bomb() -> bytes:
    """A whole PNG of 12,000 x 12,000 pixels in 20 kB; in RGB it would take 432 MB."""
    picture = PIL.Image.new("1", (12_000, 12_000))
    buffer = io.BytesIO()
    picture.save(buffer, "png")
    return buffer.getvalue()


def jpeg() -> bytes:
    return encoded(astronaut(), "jpeg")


def noise() -> bytes:
    """A photo without people."""
    return encoded(np.random.default_rng(0).integers(0, 256, (240, 320, 3), dtype=np.uint8), "jpeg")


def raw(body: bytes, content_type: str = "image/jpeg") -> dict[str, Any]:
    return {"content": body, "headers": {"content-type": content_type}}


@dataclass(frozen=True)
class Case:
    """One bad request, and what it must be answered with; `says` are words of the sentence."""

    name: str
    request: Callable[[], dict[str, Any]]
    status: int
    code: str
    says: str
    query: str = ""


PARAMETER = (422, "invalid_parameter")
CASES = [
    Case("empty body", lambda: {"content": b""}, 400, "empty_body", "no body"),
    Case("empty picture", lambda: raw(b""), 400, "empty_body", "image"),
    Case("empty file in a form", lambda: {"files": {"image": ("p.jpg", b"")}}, 400, "empty_body", ""),
    Case("empty base64", lambda: {"json": {"image": ""}}, 400, "empty_body", ""),
    Case("text", lambda: raw(b"hello, this is text" * 10), 415, "not_an_image", ""),
    Case("text in a form", lambda: {"files": {"image": ("p.jpg", b"hello" * 9)}}, 415, "not_an_image", ""),
    Case("truncated JPEG", lambda: raw(jpeg()[:8000]), 422, "image_corrupt", ""),
    Case("JPEG of a header only", lambda: raw(jpeg()[:20]), 422, "image_corrupt", ""),
    Case("100,000² claimed", lambda: raw(claiming_png(10**5, 10**5)), 413, "image_too_large", "100,000"),
    Case("12,000² bomb", lambda: raw(bomb(), "image/png"), 413, "image_too_large", "12,000"),
    Case("GIF", lambda: raw(encoded(astronaut(), "gif"), "image/gif"), 415, "unsupported_format", "GIF"),
    Case("TIFF", lambda: raw(encoded(astronaut(), "tiff"), "image/tiff"), 415, "unsupported_format", "TIFF"),
    Case("0 x 0", lambda: raw(claiming_png(0, 0), "image/png"), 422, "image_too_small", ""),
    Case("no people", lambda: raw(noise()), 422, "no_eye_found", ""),
    Case("wrong type", lambda: raw(jpeg(), "text/plain"), 415, "unsupported_media_type", "text/plain"),
    Case(
        "curl --data-binary without a type",
        lambda: raw(jpeg(), "application/x-www-form-urlencoded"),
        415, "unsupported_media_type", "image/*",
    ),
    Case("no content type", lambda: {"content": jpeg()}, 415, "unsupported_media_type", "no Content-Type"),
    Case("wrong field", lambda: {"files": {"photo": ("p.jpg", jpeg())}}, 422, "missing_field", "'photo'"),
    Case("wrong JSON field", lambda: {"json": {"photo": "aaaa"}}, 422, "missing_field", "'photo'"),
    Case("broken JSON", lambda: raw(b"{", "application/json"), 400, "invalid_json", "JSON"),
    Case("broken base64", lambda: {"json": {"image": "?"}}, 400, "invalid_json", "base64"),
    Case("broken form", lambda: raw(b"x", "multipart/form-data; boundary=y"), 400, "invalid_form", "form"),
    Case(
        "two photos",
        lambda: {"files": [("image", ("1.jpg", jpeg())), ("image", ("2.jpg", jpeg()))]},
        400, "invalid_form", "one photo",
    ),
    Case("too many bytes", lambda: raw(bytes(20_000_001)), 413, "upload_too_large", "20,000,000"),
    Case("unknown eye", lambda: raw(jpeg()), *PARAMETER, "'auto', 'left' or 'right'", "?eye=third"),
    Case("unknown person", lambda: raw(jpeg()), *PARAMETER, "person='best'", "?person=best"),
    Case("negative person", lambda: raw(jpeg()), *PARAMETER, "person='-1'", "?person=-1"),
    Case("unknown input", lambda: raw(jpeg()), *PARAMETER, "input='x'", "?input=x"),
    Case("unknown format", lambda: raw(jpeg()), *PARAMETER, "'webp'", "?format=gif"),
    Case("empty value", lambda: raw(jpeg()), *PARAMETER, "eye", "?eye="),
    Case("unknown name", lambda: raw(jpeg()), *PARAMETER, "eye, person, input, format", "?eyes=left"),
    Case("a name twice", lambda: raw(jpeg()), *PARAMETER, "more than once", "?eye=left&eye=left"),
    Case("person who is not there", lambda: raw(jpeg()), 422, "no_such_person", "7", "?person=7"),
    Case(
        "several faces as one image",
        lambda: {"content": jpeg(), "headers": {"content-type": "image/jpeg", "accept": "image/*"}},
        406, "not_acceptable", "person=all", "?person=all",
    ),
    Case(
        "a form of answer that is not made here",
        lambda: {"content": jpeg(), "headers": {"content-type": "image/jpeg", "accept": "text/html"}},
        406, "not_acceptable", "text/html",
    ),
    Case(
        "format against Accept",
        lambda: {"content": jpeg(), "headers": {"content-type": "image/jpeg", "accept": "image/png"}},
        406, "not_acceptable", "image/jpeg", "?format=jpeg",
    ),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_bad_input_is_answered_with_its_own_code_quickly(client: TestClient, case: Case) -> None:
    request = case.request()
    start = time.process_time()
    answer = client.post("/synthesize" + case.query, **request)
    seconds = time.process_time() - start
    members = ["num_below_threshold"] if case.code == "no_eye_found" else []
    problem = check_problem(answer, case.status, case.code, *members)
    assert case.says in problem["detail"]
    assert seconds < MAX_CPU_SECONDS


@pytest.mark.parametrize("query", ["?overlay=maybe", "?eye=left", "?overlay=true&overlay=true"])
def test_the_eyes_route_refuses_what_it_does_not_know(client: TestClient, query: str) -> None:
    check_problem(client.post("/eyes" + query, **raw(jpeg())), 422, "invalid_parameter")


@pytest.mark.parametrize(("query", "accept"), [("", "image/png"), ("?overlay=true", "application/json")])
def test_the_eyes_route_answers_in_one_form(client: TestClient, query: str, accept: str) -> None:
    answer = client.post(
        "/eyes" + query, content=jpeg(), headers={"content-type": "image/jpeg", "accept": accept}
    )
    check_problem(answer, 406, "not_acceptable")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "not_found"),
        ("GET", "/synthesize/", 404, "not_found"),
        ("GET", "/web/none.js", 404, "not_found"),
        ("GET", "/web/..%2fapp.py", 404, "not_found"),
        ("GET", "/synthesize", 405, "method_not_allowed"),
        ("POST", "/livez", 405, "method_not_allowed"),
        ("DELETE", "/web/page.js", 405, "method_not_allowed"),
    ],
)
def test_wrong_paths_and_methods_have_the_one_shape(
    client: TestClient, method: str, path: str, status: int, code: str
) -> None:
    check_problem(client.request(method, path), status, code)


def unusual_pictures() -> dict[str, bytes]:
    """Photos that a picture format stores in an unusual way; all hold the astronaut."""
    photo = PIL.Image.fromarray(astronaut())
    sixteen_bit = (np.asarray(photo.convert("L"), dtype=np.uint16) * 257).astype(np.uint16)
    alpha = photo.convert("RGBA")
    alpha.putalpha(200)
    return {
        "gray JPEG": encoded(photo.convert("L"), "jpeg"),
        "CMYK JPEG": encoded(photo.convert("CMYK"), "jpeg"),
        "progressive JPEG": encoded(photo, "jpeg", progressive=True),
        "16-bit PNG": encoded(PIL.Image.fromarray(sixteen_bit), "png"),
        "palette PNG": encoded(photo.convert("P"), "png"),
        "PNG with alpha": encoded(alpha, "png"),
        "gray PNG with alpha": encoded(photo.convert("LA"), "png"),
        "WebP": encoded(photo, "webp"),
        "WebP with alpha": encoded(alpha, "webp", lossless=True),
        "AVIF with alpha": encoded(alpha, "avif"),
        "BMP": encoded(photo, "bmp"),
    }


def test_unusual_pictures_are_answered_properly(client: TestClient) -> None:
    for name, picture in unusual_pictures().items():
        answer = client.post("/synthesize", **raw(picture, "image/*"))
        assert answer.status_code == 200, (name, answer.text)
        assert PIL.Image.open(io.BytesIO(answer.content)).size == (128, 128), name


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(0, 30_000),
    st.binary(min_size=1, max_size=8),
    st.sampled_from(["jpeg", "png", "webp", "avif", "bmp"]),
)
def test_a_photo_with_damaged_bytes_is_answered_or_refused(
    client: TestClient, offset: int, damage: bytes, format: str
) -> None:
    body = bytearray(encoded(astronaut()[60:160, 170:280], format))
    offset %= len(body)
    body[offset : offset + len(damage)] = damage
    answer = client.post("/synthesize?input=eye", json={"image": base64.b64encode(bytes(body)).decode()})
    assert answer.status_code in (200, 413, 415, 422), answer.text
