"""Inference requests: image files in the input `image`, parameters, and the outputs that are wanted.

The files come as base64 in the JSON object, or after it as binary data, whose elements are a length in 4
little-endian bytes and a file. Base64 is decoded as it arrives, as in `service.http.json_body`.

Source: https://kserve.github.io/website/docs/concepts/architecture/data-plane/v2-protocol
"""

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from service.errors import InvalidJson, InvalidParameter
from service.http.json_body import FIELD, Base64Extractor, too_many_photos
from service.http.request_params import SynthesizeQuery, validate_query

JSON_LENGTH: Final = "Inference-Header-Content-Length"
"""Header with the length of the JSON object that comes before binary data."""

INPUT: Final = FIELD
Output = Literal["face", "result"]
OUTPUTS: Final[tuple[Output, ...]] = ("face", "result")

_MAX_JSON: Final = 16 * 1024
"""Bytes of the JSON object beside the base64."""

_DATA_START: Final = re.compile(rb'"data"\s*:\s*\[\s*"')
_NEXT_ELEMENT: Final = re.compile(rb'"\s*,\s*"')
_LENGTH: Final = struct.Struct("<I")

_Natural = Annotated[int, Meta(ge=0, le=2**63 - 1)]


class _Shape(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    pass


class _InputParameters(_Shape):
    binary_data_size: _Natural | None = None


class _Input(_Shape):
    name: str
    datatype: str
    shape: list[_Natural]
    parameters: _InputParameters | None = None
    data: list[str] | None = None


class _OutputParameters(_Shape):
    binary_data: bool | None = None


class _Output(_Shape):
    name: str
    parameters: _OutputParameters | None = None


_ALL_OUTPUTS: Final = [_Output(name=name) for name in OUTPUTS]


class _Parameters(_Shape):
    eye: str | None = None
    person: str | _Natural | None = None
    input: str | None = None
    format: str | None = None
    label: bool | None = None
    guesses: _Natural | None = None
    seed: _Natural | None = None
    timeout: Annotated[int, Meta(ge=1, le=2**63 - 1)] | None = None
    binary_data_output: bool = False


_NO_PARAMETERS: Final = _Parameters()


class _Request(_Shape):
    inputs: list[_Input]
    outputs: list[_Output] | None = None
    parameters: _Parameters | None = None
    id: str | None = None
    model_name: str | None = None  # both as in the URL
    model_version: str | None = None


@dataclass(frozen=True, slots=True)
class InferenceRequest:
    """A valid request."""

    photos: list[bytes]
    query: SynthesizeQuery
    outputs: Mapping[Output, bool]
    """The outputs in order, and whether each is wanted as binary data."""
    id: str | None
    timeout_ms: float | None


class JsonParser:
    """Reads a request whose files are base64 in a JSON body that arrives in chunks.

    Its methods raise:
        InvalidJson: the body is not JSON, or not base64.
        InvalidParameter: it is not a request of this protocol.
        RequestValidationError: a parameter has an unknown value.
    """

    def __init__(self, *, max_photos: int) -> None:
        self._json = Base64Extractor(_DATA_START, _NEXT_ELEMENT, max_frame=_MAX_JSON, max_strings=max_photos)

    def feed(self, chunk: bytes) -> None:
        """Takes the next chunk of the body."""
        self._json.feed(chunk)
        if len(self._json.frame) > _MAX_JSON:
            _parse(self._json.frame)

    def close(self) -> InferenceRequest:
        """The request of the body, all of which was fed."""
        request, image = _parse(self._json.frame)
        if image.data is None:
            raise InvalidParameter(
                f"'{INPUT}' has no data. Send base64 in 'data', or binary data and the header {JSON_LENGTH}."
            )
        if image.parameters and image.parameters.binary_data_size is not None:
            raise InvalidParameter(f"'{INPUT}' has a binary_data_size, but no header {JSON_LENGTH} came.")
        if image.data != [""] * len(self._json.decoded):
            raise InvalidJson("The JSON escapes characters that need it not. Send base64 as it is.")
        return _complete(request, image, self._json.decoded)


def read_binary(body: bytes, json_length: str, *, max_photos: int) -> InferenceRequest:
    """The request of a body whose JSON object is so long, and after which the files follow.

    Raises:
        InvalidJson, InvalidParameter, RequestValidationError: as `JsonParser`.
    """
    num_json = _read_length(json_length, len(body))
    request, image = _parse(body[:num_json])
    return _complete(request, image, _split(image, memoryview(body)[num_json:], max_photos))


def _complete(request: _Request, image: _Input, photos: list[bytes]) -> InferenceRequest:
    if image.shape != [len(photos)] or not photos:
        raise InvalidParameter(
            f"The shape of '{INPUT}' is {image.shape[:8]}, and it holds {len(photos)} files; "
            "it must be [number of files], one at least."
        )
    told = request.parameters or _NO_PARAMETERS
    options = {name: getattr(told, name) for name in SynthesizeQuery.model_fields}
    return InferenceRequest(
        photos=photos,
        query=validate_query(SynthesizeQuery, {k: v for k, v in options.items() if v is not None}),
        outputs=_read_outputs(request.outputs, is_binary=told.binary_data_output),
        id=request.id,
        timeout_ms=None if told.timeout is None else told.timeout / 1000,
    )


def _read_length(text: str, num_bytes: int) -> int:
    if text.isdecimal() and int(text[:20]) <= num_bytes:
        return int(text[:20])
    raise InvalidParameter(
        f"{JSON_LENGTH} is '{text[:40]}'; it must be the length of the JSON object, "
        f"at most the {num_bytes:,} bytes of the body."
    )


def _parse(frame: bytes) -> tuple[_Request, _Input]:
    """The JSON object without base64, and its input."""
    try:
        request = msgspec.json.decode(frame[:_MAX_JSON], type=_Request)
    except msgspec.ValidationError as error:
        raise InvalidParameter(_explain(str(error))) from error
    except msgspec.DecodeError as error:
        reason = str(error) if len(frame) <= _MAX_JSON else f"more than {_MAX_JSON:,} bytes beside the images"
        raise InvalidJson(f"The request is not JSON ({reason}).") from error
    if len(frame) > _MAX_JSON:
        raise InvalidJson(f"The JSON has more than {_MAX_JSON:,} bytes beside the images.")
    return request, _find_image(request.inputs)


def _explain(reason: str) -> str:
    """What is wrong with JSON of another shape, by msgspec's message."""
    if "unknown field" in reason and reason.endswith("`$.parameters`"):
        known = ", ".join(_Parameters.__struct_fields__)
        return f"There is no parameter '{reason.split('`')[1][:40]}'; there are {known}."
    return f"{reason[:200]}. Send a request of the Open Inference Protocol."


def _find_image(inputs: list[_Input]) -> _Input:
    if [(each.name, each.datatype) for each in inputs] != [(INPUT, "BYTES")]:
        found = ", ".join(f"'{each.name[:40]}' {each.datatype[:40]}" for each in inputs[:5])
        raise InvalidParameter(f"The inputs are {found or 'none'}; there is one, '{INPUT}' BYTES.")
    return inputs[0]


def _split(image: _Input, data: memoryview, max_photos: int) -> list[bytes]:
    """The elements of binary data."""
    size = image.parameters.binary_data_size if image.parameters else None
    if image.data is not None or size != len(data):
        raise InvalidParameter(
            f"The binary_data_size of '{INPUT}' is {size}, and {len(data):,} bytes follow the JSON; "
            "both must be equal, and 'data' left out."
        )
    photos: list[bytes] = []
    while data:
        if len(photos) == max_photos:
            raise too_many_photos(max_photos)
        end = _LENGTH.size + (_LENGTH.unpack_from(data)[0] if len(data) >= _LENGTH.size else 0)
        if end > len(data):
            raise InvalidParameter(
                f"Element {len(photos)} of '{INPUT}' is longer than what is left of the binary data. Each is "
                "its length in 4 bytes, little-endian, and as many bytes."
            )
        photos.append(bytes(data[_LENGTH.size : end]))
        data = data[end:]
    return photos


def _read_outputs(wanted: list[_Output] | None, *, is_binary: bool) -> dict[Output, bool]:
    outputs: dict[Output, bool] = {}
    for each in wanted or _ALL_OUTPUTS:
        name = next((known for known in OUTPUTS if known == each.name), None)
        if name is None or name in outputs:
            raise InvalidParameter(
                f"There is no output '{each.name[:40]}', or it is named twice; there are "
                f"{' and '.join(OUTPUTS)}."
            )
        own = each.parameters.binary_data if each.parameters else None
        outputs[name] = is_binary if own is None else own
    return outputs
