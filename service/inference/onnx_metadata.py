"""Metadata of ONNX files: read without ONNX Runtime, which would load the graph and compute its constants.

Source: `ModelProto` and `StringStringEntryProto` in onnx.proto; protobuf's encoding of messages.
"""

from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Annotated, Final, Literal, TypeVar

import msgspec

from service.errors import ModelContractUnknown
from service.vision.chunks import read_leb128

T = TypeVar("T")

_EXPORT_AGAIN: Final = (
    "Export the model again with the same version of the project, or install the service that fits it."
)

Text = Annotated[str, msgspec.Meta(max_length=300, pattern=r"\A[^\x00-\x1f\x7f]*\Z")]
"""A text that answers and log lines may hold."""

LicenceClass = Literal["research", "open"]
"""Who may use a model: research only, or anybody for anything."""

MetricValues = Annotated[dict[Text, float], msgspec.Meta(max_length=100)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Size = Annotated[int, msgspec.Meta(ge=1, le=4096)]

_PREFIX: Final = "eye2face."
_METADATA, _KEY, _VALUE = 14, 1, 2
_LENGTHS: Final = {1: 8, 5: 4}
"""Bytes of a field by its wire type, where that says it."""

_MAX_FIELDS: Final = 1000
_MAX_METADATA_BYTES: Final = 4 << 20
"""Of all entries together, one of which may hold a network of half a megabyte."""

_MAX_JSON: Final = 10_000
_JSON_ENTRIES: Final = ("metrics", "score_weights")
_Numbers = float | None | list[float] | dict[str, float | None]
"""What JSON may hold here, which is not deep."""


def read_metadata(content: bytes, path: Path) -> dict[str, str]:
    """The metadata of the model in `path`, which has this content, without the prefix of our names.

    Raises:
        ModelContractUnknown: it is no ONNX model, or its metadata are too large.
    """
    metadata, num_bytes = {}, 0
    try:
        for number, entry in islice(_fields(memoryview(content)), _MAX_FIELDS):
            if number == _METADATA:
                num_bytes += len(entry)
                if num_bytes > _MAX_METADATA_BYTES:
                    raise ModelContractUnknown(
                        f"{path} has more than {_MAX_METADATA_BYTES:,} bytes of metadata. {_EXPORT_AGAIN}"
                    )
                parts = {part: bytes(text).decode() for part, text in islice(_fields(entry), 2)}
                metadata[parts.get(_KEY, "").removeprefix(_PREFIX)] = parts.get(_VALUE, "")
    except (ValueError, IndexError, KeyError) as error:
        raise ModelContractUnknown(
            f"{path} cannot be loaded as an ONNX model. "
            "Expected a file written by `python -m training export`; copy or export it again."
        ) from error
    return metadata


def expect(path: Path, what: str, found: str, expected: str) -> None:
    """Raises ModelContractUnknown if the model in `path` is not what this version of the service expects."""
    if found != expected:
        raise ModelContractUnknown(
            f"{path} has {what} {found[:200]}; this service expects {expected}. {_EXPORT_AGAIN}"
        )


def parse_metadata(metadata: Mapping[str, str], path: Path, kind: type[T], **known: object) -> T:
    """The metadata as a dataclass; `known` are fields that are not in the file.

    Raises:
        ModelContractUnknown: an entry is missing, too long or of the wrong type.
    """
    try:
        decoded = {
            name: msgspec.json.decode(metadata[name][:_MAX_JSON], type=_Numbers)
            for name in _JSON_ENTRIES
            if name in metadata
        }
        return msgspec.convert({**metadata, **decoded, **known}, kind, strict=False)  # numbers are text
    except msgspec.MsgspecError as error:
        raise ModelContractUnknown(
            f"{path} has metadata that cannot be read ({error}). {_EXPORT_AGAIN}"
        ) from error


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """The fields of a message, each with its number and bytes, which are none if it is a number."""
    position = 0
    while position < len(message):
        tag, position = read_leb128(message, position)
        if tag & 7 == 0:
            length, (_, position) = 0, read_leb128(message, position)
        elif tag & 7 == 2:
            length, position = read_leb128(message, position)
        else:
            length = _LENGTHS[tag & 7]
        yield tag >> 3, message[position : position + length]
        position += length
