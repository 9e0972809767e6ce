"""What is unpacked is what was packed; bytes that were made to do harm are refused."""

import json
import math
import struct
import time
import tracemalloc
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from service.decoding.messages import MAX_TEXT, InvalidMessage, pack, unpack
from service.errors import EyeTooSmall, ImageCorrupt, ModelNotFound, NoEyeFound, Unauthorized
from service.pipeline import EyeCrop, MeasuredEye, PhotoEyes, RejectedEye, SelectedCrops
from service.vision.eyes import Eye
from service.vision.quality import Quality

EYE = Eye(1.0, 2.0, 30.0, 4.0, "left")
QUALITY = Quality(30.0, 0.5, 0.5, 0.5, 0.5, 4.0)
PIXELS = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)


def message(told: str, data: bytes = b"") -> bytes:
    """What a process says that was not made by `pack`."""
    return struct.pack("!II", len(told.encode()), len(data)) + told.encode() + data


@pytest.mark.parametrize("value", [
    None, True, 3, 2.5, "text", [1.5, {"a": "b"}], EYE, [EYE, EYE],
    PhotoEyes(3, 4, [MeasuredEye(EYE, QUALITY)], None), PhotoEyes(3, 4, [], [EYE]),
])  # fmt: skip
def test_values_come_back(value: object) -> None:
    assert unpack(pack(value)) == value


def test_arrays_come_back() -> None:
    arrays = [PIXELS, PIXELS[:, ::2], np.asfortranarray(PIXELS), np.zeros((0, 3), np.uint8)]
    for array, expected in zip(unpack(pack(arrays)), arrays, strict=True):
        assert array.dtype == np.uint8 and array.shape == expected.shape and np.array_equal(array, expected)


def test_what_was_chosen_of_a_photo_comes_back() -> None:
    refused = RejectedEye(EYE, EyeTooSmall("too small"))
    told = unpack(pack(SelectedCrops([EyeCrop(PIXELS, EYE, QUALITY)], [refused], "photo", 2)))
    assert type(told) is SelectedCrops and (told.input, told.num_left_out) == ("photo", 2)
    assert np.array_equal(told.crops[0].pixels, PIXELS) and told.crops[0].eye == EYE
    assert type(told.refused[0].error) is EyeTooSmall and str(told.refused[0].error) == "too small"


def test_errors_come_back_with_what_they_say() -> None:
    for error in (NoEyeFound("none", num_below_threshold=3), ImageCorrupt("x"), ModelNotFound("y")):
        told = unpack(pack(error))
        assert type(told) is type(error) and str(told) == str(error) and told.members == error.members


def test_a_mistake_in_the_code_comes_back_with_where_it_was() -> None:
    mistake = RuntimeError("a mistake\n2026-01-01 INFO forged")
    mistake.add_note("in there\n2026-01-01 INFO forged")
    told = unpack(pack(mistake))
    assert str(told) == "a mistake\\n2026-01-01 INFO forged"
    assert told.__notes__ == ["    | in there\n    | 2026-01-01 INFO forged"]


def test_no_text_is_longer_than_anybody_reads_or_looks_like_another_line() -> None:
    assert len(unpack(message(json.dumps("x" * 5000)))) == MAX_TEXT
    told = unpack(pack(NoEyeFound("\r\n\x1b[31m\u2028" + "x" * 5000)))
    assert len(str(told)) < MAX_TEXT + 30 and str(told).startswith("\\r\\n\\x1b[31m\\u2028xxx")


@dataclass(frozen=True, slots=True)
class Unknown:
    """Nobody carries it."""

    number: int


@pytest.mark.parametrize("value", [
    Unknown(3), object(), print, b"bytes", {1, 2}, PIXELS.astype(np.float32), Eye, ValueError("x"),
    Unauthorized("x"), [Unknown(3)],
])  # fmt: skip
def test_what_is_not_carried_is_not_packed(value: object) -> None:
    with pytest.raises(TypeError, match="is not carried"):
        pack(value)


def test_numbers_that_are_none_are_not_packed() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        pack(math.nan)


EYE_TOLD = [1.0, 2.0, 30.0, 4.0, "left", 1.0, 0]


@pytest.mark.parametrize("told", [
    {"Eye": EYE_TOLD[:-1]}, {"Eye": [*EYE_TOLD, 1]}, {"Eye": 3}, {"Eye": None}, {"Eye": {}},
    *({"Eye": [*EYE_TOLD[:i], None, *EYE_TOLD[i + 1 :]]} for i in range(7)),
    *({"Eye": [*EYE_TOLD[:i], True, *EYE_TOLD[i + 1 :]]} for i in range(7)),
    *({"Eye": [*EYE_TOLD[:i], "up", *EYE_TOLD[i + 1 :]]} for i in range(7)),
    {"PhotoEyes": [1, 2, [{"Eye": EYE_TOLD}], None]}, {"PhotoEyes": [1, 2, {"Eye": EYE_TOLD}, None]},
    {"PhotoEyes": [1, 2, [], [3]]}, {"PhotoEyes": [1.5, 2, [], None]},
    {"RejectedEye": [{"Eye": EYE_TOLD}, "text"]},
    {"SelectedCrops": [[], [], "elsewhere", 0]}, {"EyeCrop": [3, {"Eye": EYE_TOLD}, 4]},
    {"error": Unauthorized.code, "message": "x", "members": {}},
    {"error": "internal_error", "message": "x", "members": {}},
    {"error": "no_eye_found", "message": 3, "members": {}}, {"error": "no_eye_found", "message": "x"},
    {"error": "no_eye_found", "message": "x", "members": {"status": 101}},
    {"error": "no_eye_found", "message": "x", "members": {"num_below_threshold": "x"}},
    {"failure": 3, "note": ""}, {"failure": "x", "note": None},
    {"array": [1]}, {"array": [-1, 0]}, {"array": [1 << 62, 1 << 62, 4]}, {"array": [True]}, {"array": "x"},
    {"array": [0, 0, 0, 0]}, {"array": None}, {"array": [0.0]},
], ids=str)  # fmt: skip
def test_what_is_of_another_form_is_refused(told: Any) -> None:
    with pytest.raises(InvalidMessage):
        unpack(message(json.dumps(told)))


@pytest.mark.parametrize("told", ["NaN", "Infinity", "1e999"])
def test_an_eye_is_at_a_number(told: str) -> None:
    with pytest.raises(InvalidMessage):
        unpack(message(f'{{"Eye": [1.0, 2.0, 30.0, {told}, "left", 1.0, 0]}}'))


@pytest.mark.parametrize("data", [
    b"", b"\0", b"\0" * 8, struct.pack("!II", 5, 0) + b"null", struct.pack("!II", 4, 1) + b"null",
    struct.pack("!II", 4, 0) + b"null!", message("null", b"!"), message('{"array": [2]}', b"123"),
    struct.pack("!II", 1 << 31, 0), message("{"),
    message("[" * 100_000), message('{"a":' * 100_000), message("9" * 5000), b"\x80\x04N.",
], ids=lambda data: repr(data[:20]))  # fmt: skip
def test_bytes_that_are_no_message_are_refused(data: bytes) -> None:
    with pytest.raises(InvalidMessage) as refused:
        unpack(data)
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 300


def test_a_message_takes_no_more_memory_and_time_than_its_length_allows() -> None:
    with pytest.raises(InvalidMessage):
        unpack(message("[" + "[]," * (1 << 20) + "[]]"))  # too long
    worst = message("[" + "[]," * (1 << 18) + "[]]")
    tracemalloc.start()
    begin = time.perf_counter()
    unpack(worst)
    assert time.perf_counter() - begin < 5
    assert tracemalloc.get_traced_memory()[1] < 100 << 20
    tracemalloc.stop()
