"""Bodies that cost more than their bytes, and queries."""

import base64
import time

import pytest

from tests.attacks.target import HOST, Target, at_once

pytestmark = [pytest.mark.slow, pytest.mark.serial]

LAST = HOST + b"Connection: close\r\n"


def post(content_type: bytes, body: bytes, *, path: bytes = b"/eyes", extra: bytes = b"") -> bytes:
    length = b"Content-Length: %d\r\n\r\n" % len(body)
    head = b"POST " + path + b" HTTP/1.1\r\n" + LAST + extra + b"Content-Type: " + content_type + b"\r\n"
    return head + length + body


BODIES = {
    "lists for a string": (b'{"image":[' + b"[]," * 6_500_000 + b"[]]}", b"400"),
    "lists beside it": (b'{"image":"aaaa","x":[' + b"[]," * 6_500_000 + b"[]]}", b"422"),
    "depth": (b'{"image":' + b"[" * 19_000_000, b"400"),
    "names": (b"{" + b'"x":0,' * 3_000_000 + b'"image":"aaaa"}', b"422"),
    "escapes": (b'{"image":"' + b"\\u0061" * 3_200_000 + b'"}', b"400"),
    "base64": (b'{"image":"' + base64.b64encode(bytes(14_000_000)) + b'"}', b"415"),
    "spaces": (b" " * 19_000_000, b"400"),
}


@pytest.mark.parametrize("kind", BODIES)
def test_json_costs_no_more_than_its_bytes(target: Target, kind: str) -> None:
    body, status = BODIES[kind]
    begin = time.monotonic()
    with target.stays_well(max_growth_mb=200):
        at_once(lambda: check(target.ask(post(b"application/json", body)), status), 4)
    assert time.monotonic() - begin < 5


IMAGE = b'{"inputs":[{"name":"image","datatype":"BYTES","shape":[1]'
INFERENCES = {
    "base64": (IMAGE + b',"data":["' + base64.b64encode(bytes(14_000_000)) + b'"]}]}', b"415"),
    "strings": (IMAGE + b',"data":[' + b'"",' * 6_000_000 + b'""]}]}', b"422"),
    "numbers": (IMAGE + b',"data":[' + b"0," * 9_000_000 + b"0]}]}", b"422"),
    "lists": (IMAGE + b',"data":' + b"[" * 19_000_000, b"422"),
    "spaces between": (IMAGE + b',"data":["aaaa"' + b" " * 19_000_000 + b"]}]}", b"400"),
    "inputs": (b'{"inputs":[' + b"{}," * 6_000_000 + b"{}]}", b"422"),
    "shape": (b'{"inputs":[{"shape":[' + b"1," * 9_000_000 + b"1]}]}", b"400"),
    "parameters": (b'{"parameters":{' + b'"x":0,' * 3_000_000 + b'"x":0}}', b"422"),
    "id": (b'{"id":"' + b"x" * 19_000_000 + b'"}', b"400"),
    "id of quotes": (b'{"id":"' + b'\\"' * 9_000_000 + b'"}', b"400"),
    "elements": (bytes(19_000_000), b"422"),
    "an element": (b"\xff" * 19_000_000, b"422"),
}


@pytest.mark.parametrize("kind", INFERENCES)
def test_an_inference_request_costs_no_more_than_its_bytes(target: Target, kind: str) -> None:
    body, status = INFERENCES[kind]
    extra = b""
    if "element" in kind:
        told = IMAGE + b',"parameters":{"binary_data_size":%d}}]}' % len(body)
        extra = b"Inference-Header-Content-Length: %d\r\n" % len(told)
        body = told + body
    sent = post(b"application/json", body, path=b"/v2/models/tiny/infer", extra=extra)
    begin = time.monotonic()
    with target.stays_well(max_growth_mb=200):
        at_once(lambda: check(target.ask(sent), status), 4)
    assert time.monotonic() - begin < 5


def check(answer: bytes, status: bytes) -> None:
    assert answer[9:12] == status, answer[:2000]


def test_forms_of_many_parts_are_refused(target: Target) -> None:
    part = b'--x\r\nContent-Disposition: form-data; name="image"\r\n\r\n\r\n'
    with target.stays_well():
        answer = target.ask(post(b"multipart/form-data; boundary=x", part * 200_000))
        check(answer, b"400")
        check(target.ask(post(b"multipart/form-data; boundary=x" + b";" * 30_000, part)), b"400")


HEAD = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
FORMS = {
    "a boundary everywhere": (b"", HEAD + b"\r\n--xy" * 3_000_000 + b"\r\n--x--\r\n", b"400"),
    "a codec of quadratic time": (
        b"; charset=punycode",
        b"--x\r\nContent-Disposition: form-data; name=a\r\n\r\n" + b"ba" * 300_000 + b"\r\n--x--\r\n",
        b"422",
    ),
}


@pytest.mark.parametrize("kind", FORMS)
def test_a_form_costs_no_more_than_its_bytes(target: Target, kind: str) -> None:
    extra, body, status = FORMS[kind]
    with target.stays_well(max_growth_mb=200):
        at_once(lambda: check(target.ask(post(b"multipart/form-data; boundary=x" + extra, body)), status), 4)


QUERIES = {
    "names": b"&".join(b"%x=1" % number for number in range(4000)),
    "one name": b"a=1&" * 7000,
    "escapes": b"%41" * 10_000,
}


@pytest.mark.parametrize("kind", QUERIES)
def test_a_query_takes_no_time(target: Target, kind: str) -> None:
    ask = b"POST /eyes?" + QUERIES[kind] + b" HTTP/1.1\r\n" + LAST + b"Content-Length: 1\r\n\r\nx"
    with target.stays_well():
        at_once(lambda: check(target.ask(ask), b"422"), 4)


@pytest.mark.parametrize("value", [b"a," * 15_000, b"a;" * 15_000, b"a/b;q=0.1," * 3000])
def test_accept_takes_no_time(target: Target, value: bytes) -> None:
    ask = b"POST /eyes HTTP/1.1\r\nAccept: " + value + b"\r\n" + LAST + b"Content-Length: 1\r\n\r\nx"
    with target.stays_well():
        at_once(lambda: check(target.ask(ask), b"406"), 4)


@pytest.mark.parametrize("extra", [b"", b"Connection: close\r\n"])
def test_a_client_that_sends_too_much_sees_why(target: Target, extra: bytes) -> None:
    head = b"POST /eyes HTTP/1.1\r\n" + HOST + extra + b"Content-Type: image/png\r\n"
    with target.connect() as client, target.stays_well():
        client.sendall(head + b"Content-Length: 50000000\r\n\r\n" + bytes(50_000_000))
        check(client.recv(65536), b"413")
