"""Messages survive encoding and decoding; malicious bytes are refused."""

import math
import socket
import time
import tracemalloc
from typing import Any, TypeVar

import msgspec
import numpy as np
import pytest

from service.decoding.messages import (
    MAX_TEXT,
    DecoderConnection,
    InvalidMessage,
    KnownError,
    MemoryRequest,
    Message,
    Ready,
    Result,
    TaskOutcomes,
    UnexpectedError,
    decode_message,
    encode_message,
)
from service.errors import EyeTooSmall, ImageCorrupt, ModelNotFound, NoEyeFound, Unauthorized
from service.pipeline import PhotoEyes
from service.selection import EyeCrop, MeasuredEye, RefusedEye, SelectedCrops
from service.vision.eyes import Eye, Quality
from service.vision.images import Image

T = TypeVar("T")
EYE = Eye(1.0, 2.0, 30.0, 4.0, "left")
QUALITY = Quality(30.0, 0.5, 0.5, 0.5, 0.5, 4.0)
PIXELS = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)


def raw(**message: Any) -> bytes:
    """A message that was not made by `encode_message`."""
    return msgspec.msgpack.encode(message)


def result(value: object, spent_ms: object = None) -> bytes:
    """An outcome that was not made by `encode_message`."""
    return raw(type="TaskOutcomes", outcomes=[{"type": "Result", "value": value, "spent_ms": spent_ms or {}}])


def returned(value: T, kind: Any = None) -> T:
    """The value once it was encoded and decoded."""
    message = decode_message(encode_message(TaskOutcomes([Result(value, {})])), kind or type(value))
    assert isinstance(message, TaskOutcomes)
    (outcome,) = message.outcomes
    assert isinstance(outcome, Result)
    value = outcome.value
    return value


@pytest.mark.parametrize("message", [Ready("no libseccomp"), MemoryRequest(1 << 30),
    TaskOutcomes[PhotoEyes]([
        Result(PhotoEyes(3, 4, [MeasuredEye(EYE, QUALITY)], None), {"decode": 1.5}),
        Result(PhotoEyes(3, 4, [], [EYE]), {}), UnexpectedError("a mistake", "in line 3", {}),
    ]),
])  # fmt: skip
def test_a_message_comes_back(message: Message) -> None:
    assert decode_message(encode_message(message), PhotoEyes) == message


@pytest.mark.parametrize("pixels", [PIXELS, PIXELS[:, ::2], np.asfortranarray(PIXELS)])
def test_an_image_comes_back_however_it_lies_in_memory(pixels: Image) -> None:
    got = returned(pixels, Image)
    assert got.dtype == np.uint8
    np.testing.assert_array_equal(got, pixels)


def test_selected_crops_come_back() -> None:
    refused = RefusedEye(EYE, EyeTooSmall("too small"))
    got = returned(SelectedCrops([EyeCrop(PIXELS, EYE, QUALITY)], [refused], "photo", 2))
    assert type(got) is SelectedCrops and (got.input, got.num_left_out) == ("photo", 2)
    assert np.array_equal(got.crops[0].pixels, PIXELS) and got.crops[0].eye == EYE
    assert type(got.refused[0].error) is EyeTooSmall and str(got.refused[0].error) == "too small"


def test_errors_come_back_with_what_they_say() -> None:
    for error in (NoEyeFound("none", num_below_threshold=3), ImageCorrupt("x"), ModelNotFound("y")):
        message = decode_message(encode_message(KnownError(error, {})), Image)
        assert isinstance(message, KnownError)
        told = message.error
        assert type(told) is type(error) and str(told) == str(error) and told.members == error.members


def test_a_mistake_in_the_code_is_told_with_where_it_was_and_forges_no_line_of_the_log() -> None:
    forged = "\n2026-01-01 INFO forged"
    error = UnexpectedError(f"a mistake{forged}", f"in there{forged}", {}).as_error()
    assert str(error) == "a mistake\\n2026-01-01 INFO forged"
    assert error.__notes__ == ["    | in there\n    | 2026-01-01 INFO forged"]


def test_no_text_is_longer_than_anybody_reads_or_looks_like_another_line() -> None:
    error = NoEyeFound("\r\n\x1b[31m\u2028" + "x" * 5000)
    message = decode_message(encode_message(KnownError(error, {})), Image)
    assert isinstance(message, KnownError)
    told = str(message.error)
    assert len(told) < MAX_TEXT + 30 and told.startswith("\\r\\n\\x1b[31m\\u2028xxx")
    assert len(str(UnexpectedError("x" * 5000, "", {}).as_error())) == MAX_TEXT


@pytest.mark.parametrize("value", [
    object(), print, PIXELS.astype(np.float32), PIXELS[0], Eye, ValueError("x"), Unauthorized("x"),
], ids=lambda value: type(value).__name__)  # fmt: skip
def test_a_value_of_another_type_is_not_encoded(value: object) -> None:
    with pytest.raises(TypeError, match="is in no message"):
        encode_message(TaskOutcomes([Result(value, {})]))


EYE_SENT = {"x": 1.0, "y": 2.0, "size_px": 30.0, "roll_deg": 4.0, "side": "left", "score": 1.0, "person": 0}


@pytest.mark.parametrize("value", [
    None, 3, [], {}, {name: value for name, value in EYE_SENT.items() if name != "x"},
    *(EYE_SENT | {name: wrong} for name in EYE_SENT for wrong in (None, True, "up", [1])),
    *(EYE_SENT | {"roll_deg": wrong} for wrong in (math.nan, math.inf, -math.inf)),
], ids=str)  # fmt: skip
def test_an_eye_of_another_form_is_refused(value: object) -> None:
    assert decode_message(result(EYE_SENT), Eye) == TaskOutcomes([Result(EYE, {})])
    with pytest.raises(InvalidMessage):
        decode_message(result(value), Eye)


CROP_SENT = {"pixels": [1, 1, b"123"], "eye": EYE_SENT, "quality": dict.fromkeys(
    ("size_px", "sharpness", "brightness", "contrast", "light", "tilt_deg"), 0.5)}  # fmt: skip
SELECTED_SENT = {"crops": [CROP_SENT], "refused": [], "input": "photo", "num_left_out": 0}


@pytest.mark.parametrize("wrong", [
    {"input": "elsewhere"}, {"num_left_out": 0.5}, {"crops": CROP_SENT}, {"crops": [EYE_SENT]},
    *({"crops": [CROP_SENT | {"pixels": pixels}]} for pixels in (
        3, b"123", [1, 1, "123"], [1, 1, b"12"], [1, 1, b"1234"], [-1, -1, b"123"], [1.0, 1, b"123"],
        [True, 1, b"123"], [1 << 62, 1 << 62, b""], [1, 1, b"123", 3])),
    *({"refused": [{"eye": EYE_SENT, "error": error}]} for error in (
        "text", None, ["eye_too_small"], ["eye_too_small", 3, None], ["eye_too_small", "x", "y"],
        ["no_eye_found", "x", None], ["unauthorized", "x", None], ["internal_error", "x", None],
        ["no such", "x", None])),
], ids=str)  # fmt: skip
def test_selected_crops_of_another_form_are_refused(wrong: dict[str, Any]) -> None:
    assert isinstance(decode_message(result(SELECTED_SENT), SelectedCrops), TaskOutcomes)
    with pytest.raises(InvalidMessage):
        decode_message(result(SELECTED_SENT | wrong), SelectedCrops)


@pytest.mark.parametrize("data", [
    b"", b"\0", b"\xc1", b"\xff" * 8, b"\x80\x04N.", b"\xdd\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff",
    b"\x91" * 100_000, b"\x81\xa1a" * 100_000, raw(type="Unknown"), raw(num_bytes=3),
    raw(type="MemoryRequest"),
    raw(type="MemoryRequest", num_bytes=True), raw(type="MemoryRequest", num_bytes=3, more=3),
    result(3, {"infer": 1.0}), result(3, {"find": "x"}), result(3, {"find": math.inf}), result(None),
    raw(type="Result", value=3, spent_ms={}), raw(type="TaskOutcomes", outcomes=[3]),
    raw(type="TaskOutcomes", outcomes=[{"type": "Ready", "not_sandboxed": ""}]),
    raw(type="KnownError", error=["no_eye_found", "x"], spent_ms={}), encode_message(Ready("")) + b"\0",
], ids=lambda data: repr(data[:30]))  # fmt: skip
def test_bytes_that_are_no_message_are_refused(data: bytes) -> None:
    with pytest.raises(InvalidMessage) as refused:
        decode_message(data, int)
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 300


def test_a_message_takes_no_more_memory_and_time_than_its_length_allows() -> None:
    many = result({"width": 3, "height": 3, "eyes": [], "below_threshold": [EYE_SENT] * 5_000})
    tracemalloc.start()
    begun = time.process_time()
    decode_message(many, PhotoEyes)
    assert time.process_time() - begun < 5
    assert tracemalloc.get_traced_memory()[1] < 20 * len(many)
    tracemalloc.stop()


def test_a_message_is_sent_with_its_length_in_one_write() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)  # a write is a packet
    with ours, theirs:
        DecoderConnection(ours).send(b"photo", lambda: None)
        assert theirs.recv(100) == b"\0\0\0\5photo"
