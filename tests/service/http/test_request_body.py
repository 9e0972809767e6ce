"""The bytes of the picture out of the three forms of body, counted while they come."""

import asyncio
import base64
import json
import time
import tracemalloc
from collections.abc import Iterable
from contextlib import closing
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.requests import ClientDisconnect, Request

from service.errors import (
    EmptyBody,
    Eye2FaceError,
    InvalidForm,
    InvalidJson,
    InvalidParameter,
    MissingField,
    Overloaded,
    UnsupportedMediaType,
    UploadTooLarge,
)
from service.http.request_body import (
    BodyReservation,
    UploadedPhoto,
    UploadMemoryLimit,
    read_photo,
    read_photos,
)

PHOTO = bytes(range(256)) * 40


class Sender:
    """Sends a body in pieces, as a server would, and counts how many were asked for."""

    def __init__(self, pieces: Iterable[bytes], *, hangs_up: bool = False) -> None:
        self.pieces = list(pieces)
        self.num_asked = 0
        self.hangs_up = hangs_up

    async def receive(self) -> dict[str, object]:
        index = self.num_asked
        self.num_asked += 1
        if index >= len(self.pieces):
            return {"type": "http.disconnect"}
        more = index + 1 < len(self.pieces) or self.hangs_up
        return {"type": "http.request", "body": self.pieces[index], "more_body": more}


def read(
    body: bytes | Sender, content_type: str | None = None, max_bytes: int = 10**6, **headers: str
) -> bytes:
    request = make_request(body, content_type, headers)
    return asyncio.run(read_photo(request, max_bytes=max_bytes, max_s=10))


def read_files(body: bytes, content_type: str) -> list[UploadedPhoto]:
    request = make_request(body, content_type, {})
    return asyncio.run(read_photos(request, max_bytes=10**6, max_s=10, max_files=10))


def make_request(body: bytes | Sender, content_type: str | None, headers: dict[str, str]) -> Request:
    sender = body if isinstance(body, Sender) else Sender([body[:1000], body[1000:]])
    if content_type is not None:
        headers["content-type"] = content_type
    if isinstance(body, bytes):
        headers.setdefault("content-length", str(len(body)))
    else:
        headers.setdefault("transfer-encoding", "chunked")
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/",
        "query_string": b"",
        "headers": raw,
        "state": {"body": BodyReservation(UploadMemoryLimit(10**9))},
    }
    return Request(scope, sender.receive)


def form(files: list[tuple[str, tuple[str | None, bytes]]]) -> tuple[bytes, str]:
    request = httpx.Request("POST", "http://service", files=files)
    return request.read(), request.headers["content-type"]


def as_json(document: object) -> bytes:
    return json.dumps(document).encode()


@pytest.mark.parametrize("content_type", ["image/jpeg", "image/png", "IMAGE/X; a=b", "image/*"])
def test_raw_bytes_come_as_they_are(content_type: str) -> None:
    assert read(PHOTO, content_type) == PHOTO


def test_a_form_gives_the_file_in_its_field() -> None:
    assert read(*form([("image", ("p.jpg", PHOTO))])) == PHOTO


def test_a_large_file_in_a_form_is_not_written_to_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/nowhere")
    large = PHOTO * 200  # 2 MB; Starlette rolls to disk at 1 MB
    assert read(*form([("image", ("p.jpg", large))]), max_bytes=10**7) == large


@pytest.mark.parametrize("content_type", ["application/json", "Application/JSON; charset=utf-8"])
def test_json_gives_what_its_base64_means(content_type: str) -> None:
    assert read(as_json({"image": base64.b64encode(PHOTO).decode()}), content_type) == PHOTO


@pytest.mark.parametrize(
    "content_type", [None, "text/plain", "application/x-www-form-urlencoded", "image/png"]
)
def test_no_body_is_empty_whatever_its_type_says(content_type: str | None) -> None:
    with pytest.raises(EmptyBody):
        read(b"", content_type)


@pytest.mark.parametrize(
    "content_type", [None, "text/plain", "application/octet-stream", "imagejpeg", "video/mp4"]
)
def test_another_content_type_is_refused_with_the_three_that_are_taken(content_type: str | None) -> None:
    with pytest.raises(UnsupportedMediaType, match=r"image/\*, multipart/form-data .* application/json"):
        read(PHOTO, content_type)


@pytest.mark.parametrize("coding", ["gzip", "BR", "identity, gzip"])
def test_a_body_that_is_compressed_once_more_is_refused_as_that(coding: str) -> None:
    sender = Sender([PHOTO])
    with pytest.raises(UnsupportedMediaType, match=f"Content-Encoding is '{coding}'. Send the body as it is"):
        read(sender, "image/jpeg", content_encoding=coding)
    assert sender.num_asked == 0
    assert read(PHOTO, "image/jpeg", content_encoding="Identity") == PHOTO


def test_an_announced_length_over_the_limit_is_refused_before_anything_is_read() -> None:
    sender = Sender([PHOTO])
    with pytest.raises(UploadTooLarge, match="20,000,001 bytes are announced; at most 20,000,000"):
        read(sender, "image/jpeg", 20_000_000, content_length="20000001")
    assert sender.num_asked == 0


@pytest.mark.parametrize("content_type", ["image/png", "application/json", "multipart/form-data; boundary=x"])
def test_a_body_without_length_is_read_to_the_limit_and_not_beyond(content_type: str) -> None:
    sender = Sender(
        [b"--x\r\nContent-Disposition: form-data; name=image; filename=p\r\n\r\n", *[b" " * 100] * 50]
    )
    with pytest.raises(UploadTooLarge):
        read(sender, content_type, 1000)
    assert sender.num_asked <= 12


def test_a_body_of_just_the_limit_is_taken() -> None:
    assert read(PHOTO, "image/png", len(PHOTO)) == PHOTO
    with pytest.raises(UploadTooLarge):
        read(Sender([PHOTO, b"1"]), "image/png", len(PHOTO))


@pytest.mark.parametrize("content_type", ["image/png", "application/json", "multipart/form-data; boundary=x"])
def test_a_caller_who_hangs_up_ends_the_reading(content_type: str) -> None:
    with pytest.raises(ClientDisconnect):
        read(Sender([b"--x\r\n"], hangs_up=True), content_type)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50])
def test_a_form_is_the_same_however_it_is_cut_into_chunks(size: int) -> None:
    body, content_type = form([("image", ("p.jpg", b"\xff\xd8 \r\n--y \r\n-\r\n"))])
    chunks = [body[start : start + size] for start in range(0, len(body), size)]
    assert read(Sender(chunks), content_type) == b"\xff\xd8 \r\n--y \r\n-\r\n"


@pytest.mark.parametrize(
    "content_type", ["multipart/form-data", "multipart/form-data; boundary=" + "x" * 1000]
)
def test_a_form_without_a_usable_boundary_is_refused(content_type: str) -> None:
    with pytest.raises(InvalidForm, match=r"cannot be read: .*[Bb]oundary"):
        read(b"--x--\r\n", content_type)


@pytest.mark.parametrize(
    "body",
    [
        b"hello",
        b"--x hello",
        b"--x\r\n\xff: a\r\n\r\n",
        b"--x\r\n" + b"a: b\r\n" * 100,
        b"--x\r\nContent-Type: image/jpeg\r\n\r\nhello\r\n--x--\r\n",
    ],
)
def test_a_form_that_breaks_the_rules_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidForm, match="cannot be read"):
        read(body, "multipart/form-data; boundary=x")


@pytest.mark.parametrize("file_name", ["p.jpg", None])
def test_a_form_of_more_fields_than_anybody_needs_is_refused(file_name: str | None) -> None:
    with pytest.raises(InvalidForm, match=r"Maximum number of fi.* is 16"):
        read(*form([("image", (file_name, b"x"))] * 17))


@pytest.mark.parametrize(
    ("num_headers", "length", "is_read"), [(8, 4000, True), (9, 1, False), (2, 5000, False)]
)
def test_the_headers_of_a_field_are_bounded(num_headers: int, length: int, is_read: bool) -> None:
    first = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n'
    others = (b"a: " + b"b" * length + b"\r\n") * (num_headers - 1)
    body = first + others + b"\r\n" + PHOTO + b"\r\n--x--\r\n"
    if is_read:
        assert read(body, "multipart/form-data; boundary=x") == PHOTO
    else:
        with pytest.raises(InvalidForm, match="cannot be read"):
            read(body, "multipart/form-data; boundary=x")


def test_a_form_with_another_field_names_what_it_holds() -> None:
    with pytest.raises(MissingField, match=r"'picture'.*'image'"):
        read(*form([("picture", ("p.jpg", PHOTO))]))


def test_a_form_with_the_photo_as_text_asks_for_a_file() -> None:
    with pytest.raises(MissingField, match="file name"):
        read(*form([("image", (None, b"text"))]))


def part(*lines: str) -> tuple[bytes, str]:
    text = "\r\n".join(["--x", *lines, "", "data", "--x--", ""])
    return text.encode(), "multipart/form-data; boundary=x"


@pytest.mark.parametrize("name", ["utf-8''p%22%20%C3%A9.jpg", "us-ascii'en'p.jpg", "p.jpg"])
def test_an_extended_file_name_alone_makes_a_file(name: str) -> None:
    assert read(*part(f"Content-Disposition: form-data; name=image; filename*={name}")) == b"data"


@pytest.mark.parametrize(
    "extended",
    [
        "filename*=undefined''p",
        "filename*=a\0b''p",
        "filename*=utf-8''p; filename*0=p",
        "filename*0*=a''b; filename*=p; filename*1=p",
        "filename*=utf-8''%5cp%22",
        "filename*=idna''" + "a" * 100,
    ],
)
def test_no_extended_file_name_is_a_mistake_of_ours(extended: str) -> None:
    assert read(*part(f"Content-Disposition: form-data; name=image; {extended}")) == b"data"


def test_an_extended_file_name_is_unescaped() -> None:
    (photo,) = read_files(
        *part("Content-Disposition: form-data; name=image; filename*=utf-8''%5c%22%C3%A9%5c")
    )
    assert photo.file_name == '\\"é\\'


@pytest.mark.parametrize("charset", ["punycode", "undefined", "unicode_escape", "utf-7", "latin-1"])
def test_names_in_a_form_are_utf_8_whatever_its_type_says(charset: str) -> None:
    body, content_type = part('Content-Disposition: form-data; name="image"; filename="é\\ud800+2AA-"')
    (photo,) = read_files(body, f"{content_type}; charset={charset}")
    assert photo.file_name == "é\\ud800+2AA-"


def test_a_boundary_that_is_everywhere_in_a_file_is_refused() -> None:
    head = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
    few, many = (head + b"\r\n--xy" * number + b"\r\n--x--\r\n" for number in (900, 1100))
    assert len(read(few, "multipart/form-data; boundary=x")) == 900 * 6
    with pytest.raises(InvalidForm, match="boundary comes in it more than 1000 times"):
        read(many, "multipart/form-data; boundary=x")


def test_a_plain_file_name_precedes_the_extended_one() -> None:
    body, content_type = part("Content-Disposition: form-data; name=image; filename*=utf-8''a; filename=b")
    (photo,) = read_files(body, content_type)
    assert photo.file_name == "b"


def test_an_extended_name_of_a_field_is_named_as_the_fault() -> None:
    with pytest.raises(InvalidForm, match=r"'name\*'; use 'name'"):
        read(*part("Content-Disposition: form-data; name*=utf-8''image; filename=p"))


@pytest.mark.parametrize("coding", ["base64", "Quoted-Printable"])
def test_a_transfer_encoding_is_named_as_the_fault(coding: str) -> None:
    head = "Content-Disposition: form-data; name=image; filename=p"
    with pytest.raises(InvalidForm, match=f"Content-Transfer-Encoding is '{coding}'"):
        read(*part(head, f"Content-Transfer-Encoding: {coding}"))
    assert read(*part(head, "Content-Transfer-Encoding: Binary")) == b"data"


def test_a_content_type_that_takes_long_to_parse_is_refused() -> None:
    begin = time.process_time()
    with pytest.raises(InvalidForm, match="Content-Type"):
        read(b"--x--", "multipart/form-data; boundary=x" + ";" * 32_000)
    assert time.process_time() - begin < 0.05


def test_a_form_with_two_photos_is_refused() -> None:
    with pytest.raises(InvalidForm, match="one photo"):
        read(*form([("image", ("1.jpg", PHOTO)), ("image", ("2.jpg", PHOTO))]))


def test_options_in_the_body_are_sent_to_the_query() -> None:
    with pytest.raises(InvalidParameter, match=r"'eye'.*query"):
        read(*form([("image", ("p.jpg", PHOTO)), ("eye", (None, b"left"))]))
    with pytest.raises(InvalidParameter, match=r"'eye'.*query"):
        read(as_json({"image": "aaaa", "eye": "left"}), "application/json")


def test_a_form_that_is_cut_off_is_refused() -> None:
    body, content_type = form([("image", ("p.jpg", PHOTO))])
    for end in (0, 10, 100, 1000, len(body) - 10):
        with pytest.raises((InvalidForm, EmptyBody)):
            read(body[:end], content_type)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 100_000, "not an object"),
        (b'{"image": 1' + b"0" * 5000 + b"}", "no string"),
        (b'{"image": [' + b"[]," * 1_000_000 + b"[]]}", "no string"),
        (b"[]", "not an object"),
        (b'{"image": "aaaa"}' + b" " * 5000, "more than the photo"),
        (b'{"image": "aaaa"} {"image": "aaaa"}', "not JSON"),
        (b'{"image": "aaaa', "not JSON"),
        (b'{"im\\u0061ge": "aaaa"}', "escapes characters"),
        (b" " * 5000 + b'{"image": "aaaa"}', "not JSON"),
        (b'{"image": "aa==aaaa"}', "not base64"),
        (b'{"image": "' + b"aaaa" * 2**18 + b'aa==aaaa"}', "not base64"),
        (b'{"image": "' + b"aaaa" * (2**18 - 1) + b'aa==aaaa"}', "not base64"),
        (b'{"image": "aaa\\"}', "not base64"),
        (b'"text"', "not an object"),
        (b'{"image": 3}', "no string"),
        (b'{"image": null}', "no string"),
        (b'{"image": "data:image/png;base64,aaaa"}', "data URL"),
        (b'{"image": "aaa"}', "not base64"),
        (b'{"image": "a-_a"}', "not base64"),
        (b'{"image": "aa\\naa"}', "not base64"),
        ('{"image": "ä"}'.encode(), "not base64"),
    ],
)
def test_json_that_is_wrong_says_why(body: bytes, said: str) -> None:
    with pytest.raises(InvalidJson, match=said):
        read(body, "application/json", max_bytes=10**7)


def test_json_may_have_escaped_slashes_and_a_byte_order_mark() -> None:
    for num in (1, 2**20 - 1, 2**20, 3 * 2**20):  # around the length that is decoded at once
        text = b"a" * num + b"/" * (-num % 4 + 4)
        body = b'\xef\xbb\xbf {"image" : "' + text.replace(b"/", rb"\/") + b'"} '
        assert read(body, "application/json", max_bytes=10**7) == base64.b64decode(text)


def test_json_of_another_shape_makes_no_tree() -> None:
    body = b'{"image": [' + b"[]," * 1_000_000 + b"[]]}"
    tracemalloc.start()
    try:
        with pytest.raises(InvalidJson):
            read(body, "application/json", max_bytes=10**7)
        assert tracemalloc.get_traced_memory()[1] < 3 * len(body)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("document", [{}, {"picture": "aaaa"}])
def test_json_without_the_field_says_so(document: object) -> None:
    with pytest.raises(MissingField, match='"image"'):
        read(as_json(document), "application/json")


@settings(max_examples=150, deadline=None)
@given(
    st.binary(max_size=200),
    st.sampled_from(
        ["application/json", "multipart/form-data; boundary=x", "multipart/form-data; charset=x; boundary=x"]
    ),
    st.sampled_from(
        [
            b"",
            b"--x\r\n",
            b'--x\r\nContent-Disposition: form-data; name="image"; filename="p"\r\n\r\n',
            b'{"image":',
        ]
    ),
)
def test_any_body_is_read_or_refused_by_an_error_of_ours(
    body: bytes, content_type: str, start: bytes
) -> None:
    try:
        assert isinstance(read(start + body, content_type), bytes)
    except Eye2FaceError as error:
        assert str(error)


def hold(limit: UploadMemoryLimit) -> closing[BodyReservation]:
    return closing(BodyReservation(limit))


def test_one_body_alone_may_have_any_number_of_bytes() -> None:
    limit = UploadMemoryLimit(640)
    with hold(limit) as body:
        body.grow(10_000)
    assert limit.num_held == 0


def test_beyond_the_limit_large_bodies_are_refused_and_small_ones_beyond_twice_as_much() -> None:
    limit = UploadMemoryLimit(640)
    with (
        hold(limit) as first,
        hold(limit) as second,
        hold(limit) as small,
    ):
        first.grow(630)
        second.grow(10)
        with pytest.raises(Overloaded, match="650 bytes"):
            second.grow(10)
        small.grow(10)
        with pytest.raises(Overloaded):
            first.grow(640)
        with pytest.raises(Overloaded) as refused:
            small.grow(0)
        assert refused.value.retry_after_s == 1
    assert limit.num_held == 0
    with hold(limit) as other, hold(limit) as large:
        other.grow(1)
        large.grow(600)


@pytest.mark.parametrize("kind", ["image", "JSON", "form"])
def test_the_bytes_of_a_body_are_counted_as_they_arrive(kind: str) -> None:
    body, content_type = {
        "image": (PHOTO, "image/png"),
        "JSON": (as_json({"image": base64.b64encode(PHOTO).decode()}), "application/json"),
        "form": form([("image", ("a.png", PHOTO))]),
    }[kind]
    sender = Sender([body[:1000], body[1000:]])
    request = make_request(sender, content_type, {})
    counted = list[int]()

    async def receive() -> Any:
        counted.append(request.state.body.num_bytes)
        return await sender.receive()

    request._receive = receive
    asyncio.run(read_photo(request, max_bytes=10**6, max_s=10))
    assert counted[:2] == [0, 1000] and request.state.body.num_bytes == len(body)


def test_a_body_that_fails_leaves_its_room() -> None:
    limit = UploadMemoryLimit(10)
    with pytest.raises(KeyError), hold(limit) as body:
        body.grow(100)
        raise KeyError
    assert limit.num_held == 0


def test_a_response_takes_the_place_of_its_body_until_it_has_left() -> None:
    limit = UploadMemoryLimit(1000)
    with hold(limit) as first, hold(limit) as second:
        first.grow(600)
        first.replace(900)
        assert limit.num_held == 900
        second.grow(50)
        with pytest.raises(Overloaded):
            second.replace(500)
    assert limit.num_held == 0
