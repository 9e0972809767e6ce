"""Requests of the Open Inference Protocol: what is read, and what is refused in which words."""

import base64
import json
import struct
from typing import Any

import pytest
from fastapi.exceptions import RequestValidationError

from service.errors import InvalidJson, InvalidParameter
from service.http.open_inference.request import InferenceRequest, JsonParser, read_binary

FILES = [b"\xff\xd8 first", b"second?>"]
IN_BASE64 = [base64.b64encode(each).decode() for each in FILES]
IMAGE: dict[str, Any] = {"name": "image", "datatype": "BYTES", "shape": [2]}


def read(request: object, binary: bytes = b"", length: str | None = None) -> InferenceRequest:
    told = request if isinstance(request, bytes) else json.dumps(request).encode()
    if binary or length is not None:
        return read_binary(told + binary, str(len(told)) if length is None else length, max_photos=3)
    parser, bytewise = JsonParser(max_photos=3), JsonParser(max_photos=3)
    parser.feed(told)
    for at in range(len(told)):
        bytewise.feed(told[at : at + 1])
    request = parser.close()
    assert bytewise.close() == request
    return request


def pack(*files: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(each)) + each for each in files)


def in_json(**more: object) -> dict[str, Any]:
    return {"inputs": [IMAGE | {"data": IN_BASE64}], **more}


def in_binary(size: int, **more: object) -> dict[str, Any]:
    return {"inputs": [IMAGE | {"parameters": {"binary_data_size": size}}], **more}


def test_files_are_read_from_base64_and_from_binary_data() -> None:
    binary = pack(*FILES)
    for request in (read(in_json()), read(in_binary(len(binary)), binary)):
        assert request.photos == FILES
        assert request.outputs == {"face": False, "result": False}
        assert (request.query.eye, request.query.person, request.query.format) == ("auto", "largest", None)
        assert request.id is None and request.timeout_ms is None


@pytest.mark.parametrize("indent", [None, 4])
def test_base64_may_be_laid_out_and_escaped(indent: int | None) -> None:
    told = json.dumps(in_json(id='"data":["'), indent=indent).replace("/", r"\/")
    request = read(told.encode())
    assert request.photos == FILES and request.id == '"data":["'


def test_parameters_and_outputs_are_read() -> None:
    parameters = {"eye": "left", "person": 1, "input": "photo", "format": "webp", "timeout": 2500}
    parameters |= {"guesses": 16, "seed": 2**32 - 1}
    outputs = [{"name": "result", "parameters": {"binary_data": False}}, {"name": "face"}]
    request = read(in_json(parameters=parameters | {"binary_data_output": True}, outputs=outputs, id="7"))
    query = request.query
    assert (query.eye, query.person, query.input, query.format) == ("left", 1, "photo", "webp")
    assert (query.guesses, query.seed) == (16, 2**32 - 1)
    assert (request.timeout_ms, request.id) == (2.5, "7")
    assert list(request.outputs.items()) == [("result", False), ("face", True)]


def test_what_clients_repeat_or_leave_empty_is_taken() -> None:
    empty: dict[str, Any] = {
        "id": None,
        "parameters": None,
        "outputs": [],
        "model_name": "m",
        "model_version": "1",
    }
    assert read(in_json(**empty)).outputs == {"face": False, "result": False}


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "layout": (in_json(parameters={"layout": "grid"}), "no parameter 'layout'; there are eye, person"),
    "topk": (in_json(parameters={"topk": 3}), "no parameter 'topk'"),
    "guesses": (in_json(parameters={"guesses": 1.5}), r"`int \| null`, got `float`"),
    "seed": (in_json(parameters={"seed": -1}), ">= 0"),
    "person": (in_json(parameters={"person": True}), r"`int \| str \| null`, got `bool`"),
    "timeout": (in_json(parameters={"timeout": 0}), ">= 1"),
    "input": ({"inputs": [IMAGE | {"name": "photo", "data": []}]}, "The inputs are 'photo' BYTES;"),
    "inputs": ({"inputs": [IMAGE | {"data": IN_BASE64}] * 2}, "'image' BYTES, 'image' BYTES; there is one"),
    "no input": ({"inputs": []}, "The inputs are none"),
    "datatype": ({"inputs": [IMAGE | {"datatype": "UINT8", "data": []}]}, "'image' UINT8; there is one"),
    "numbers": ({"inputs": [IMAGE | {"data": [1, 2]}]}, "Expected `str`, got `int`"),
    "shape": ({"inputs": [IMAGE | {"shape": [1, 2], "data": IN_BASE64}]}, r"is \[1, 2\], and it holds 2"),
    "number": ({"inputs": [IMAGE | {"shape": [3], "data": IN_BASE64}]}, r"is \[3\], and it holds 2 files"),
    "nothing": ({"inputs": [IMAGE | {"shape": [0], "data": []}]}, "holds 0 files"),
    "too many": ({"inputs": [IMAGE | {"shape": [4], "data": ["aaaa"] * 4}]}, "more than 3 elements"),
    "no data": ({"inputs": [IMAGE]}, "has no data"),
    "no length": (in_binary(8), "no data"),
    "both": ({"inputs": [in_binary(9)["inputs"][0] | {"data": IN_BASE64}]}, "but no header"),
    "shared memory": (
        {"inputs": [IMAGE | {"parameters": {"shared_memory_region": "x"}}]}, "`shared_memory_region`"
    ),
    "output": (in_json(outputs=[{"name": "nose"}]), "no output 'nose', or it is named twice"),
    "outputs": (in_json(outputs=[{"name": "face"}] * 2), "no output 'face', or it is named twice"),
    "classes": (in_json(outputs=[{"name": "face", "parameters": {"classification": 1}}]), "classification"),
    "field": (in_json(model="x"), "unknown field `model`"),
    "escaped key": ({'x"data': IN_BASE64, **in_json()}, "unknown field"),
    "no inputs": ({"id": "7"}, "missing required field `inputs`"),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_wrong_is_named(kind: str) -> None:
    request, words = WRONG[kind]
    with pytest.raises(InvalidParameter, match=words):
        read(request)


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"eye": "up"}, "'auto', 'left' or 'right'"),
        ({"guesses": 17}, "less than or equal to 16"),
        ({"guesses": 0}, "greater than or equal to 1"),
        ({"seed": 2**32}, "less than or equal to 4294967295"),
    ],
)
def test_a_value_that_a_parameter_has_not_is_refused_as_in_the_query(
    parameters: dict[str, Any], words: str
) -> None:
    with pytest.raises(RequestValidationError, match=words):
        read(in_json(parameters=parameters))


@pytest.mark.parametrize("size", [0, 5, 9])
def test_binary_data_has_the_size_that_is_told(size: int) -> None:
    with pytest.raises(InvalidParameter, match=f"is {size}, and 8 bytes follow"):
        read(in_binary(size), pack(b"four"))


@pytest.mark.parametrize("binary", [b"abc", pack(b"four")[:-1], pack(b"a") + b"\xff\xff\xff\xff", b"\0\0\0"])
def test_an_element_ends_with_the_binary_data(binary: bytes) -> None:
    with pytest.raises(InvalidParameter, match="longer than what is left"):
        read(in_binary(len(binary)), binary)


def test_elements_of_binary_data_are_bounded_in_number() -> None:
    with pytest.raises(InvalidParameter, match="more than 3 elements"):
        read(in_binary(4_000_000), pack(b"") * 1_000_000)


@pytest.mark.parametrize("length", ["-1", "1e2", "999999", "", "9" * 5000])
def test_the_length_of_the_json_is_checked(length: str) -> None:
    with pytest.raises(InvalidParameter, match="Inference-Header-Content-Length is"):
        read(in_json(), length=length)


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b'{"inputs":[]}x', b'{"inputs":[{"data":["aaaa'])
def test_what_is_no_json_is_named(body: bytes) -> None:
    with pytest.raises(InvalidJson, match="not JSON"):
        read(body)


@pytest.mark.parametrize("data", ["a", "aaa", "aa=a", "data:image/png;base64,aaaa", "a\\naaa", "a b="])
def test_what_is_no_base64_is_named(data: str) -> None:
    with pytest.raises(InvalidJson, match="not base64"):
        read(b'{"inputs":[{"name":"image","datatype":"BYTES","shape":[1],"data":["%b"]}]}' % data.encode())


def test_base64_that_json_escapes_is_refused() -> None:
    told = b'{"inputs":[{"name":"image","datatype":"BYTES","shape":[1],"d\\u0061ta":["aaaa"]}]}'
    with pytest.raises(InvalidJson, match="escapes"):
        read(told)


LARGE = {
    "spaces": b" " * 20_000,
    "id": json.dumps(in_json(id="x" * 20_000)).encode(),
    "spaces between": b'{"inputs":[{"data":["aaaa"' + b" " * 20_000 + b"]}]}",
    "after": json.dumps(in_json()).encode() + b" " * 20_000,
}


@pytest.mark.parametrize("kind", LARGE)
def test_the_json_beside_the_base64_is_bounded(kind: str) -> None:
    with pytest.raises(InvalidJson, match="more than 16,384 bytes beside"):
        read(LARGE[kind])
