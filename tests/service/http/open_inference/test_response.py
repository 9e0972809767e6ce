"""Responses of the Open Inference Protocol."""

import json

from service.http.open_inference.response import encode_element, write_inference_response


def test_outputs_are_in_json_or_after_it() -> None:
    face, result = b"\x89PNG", b'{"faces":["\xc3\xa9"]}'
    elements = {
        "face": [encode_element(face, "face", is_binary=True), encode_element(b"", "face", is_binary=True)],
        "result": [encode_element(result, "result", is_binary=False)],
    }
    outputs = {"result": False, "face": True}
    body, length = write_inference_response({"model_name": "m"}, outputs, elements)  # type: ignore[arg-type]
    assert json.loads(body[:length]) == {
        "model_name": "m",
        "outputs": [
            {"name": "result", "datatype": "BYTES", "shape": [1], "data": [result.decode()]},
            {"name": "face", "datatype": "BYTES", "shape": [2], "parameters": {"binary_data_size": 12}},
        ],
    }
    assert body[length:] == b"\4\0\0\0\x89PNG\0\0\0\0"


def test_json_alone_has_no_length() -> None:
    elements = {"face": [encode_element(b"\xff", "face", is_binary=False)]}
    body, length = write_inference_response({}, {"face": False}, elements)  # type: ignore[arg-type]
    assert length is None
    assert json.loads(body)["outputs"][0]["data"] == ["/w=="]
