"""Inference responses: tensors of bytes in a JSON object, or after it as binary data."""

import base64
import struct
from collections.abc import Mapping, Sequence

import msgspec

from service.http.open_inference.request import Output


def encode_element(content: bytes, output: Output, *, is_binary: bool) -> bytes:
    """An element as it is sent: after its length, or in JSON, a face in base64 and a result as text."""
    if is_binary:
        return struct.pack("<I", len(content)) + content
    if output == "face":
        return b'"%b"' % base64.b64encode(content)
    return msgspec.json.encode(content.decode())


def write_inference_response(
    head: Mapping[str, str], outputs: Mapping[Output, bool], elements: Mapping[Output, Sequence[bytes]]
) -> tuple[bytes, int | None]:
    """The body, and the length of its JSON object if binary data follows.

    `outputs` says whether the elements of each, as they are sent, are binary.
    """
    tensors: list[dict[str, object]] = []
    binary: list[bytes] = []
    for name, is_binary in outputs.items():
        tensor: dict[str, object] = {"name": name, "datatype": "BYTES", "shape": [len(elements[name])]}
        if is_binary:
            tensor["parameters"] = {"binary_data_size": sum(map(len, elements[name]))}
            binary += elements[name]
        else:
            tensor["data"] = [msgspec.Raw(each) for each in elements[name]]
        tensors.append(tensor)
    told = msgspec.json.encode({**head, "outputs": tensors})
    return b"".join([told, *binary]), len(told) if any(outputs.values()) else None
