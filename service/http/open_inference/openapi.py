"""What FastAPI cannot infer for /openapi.json: the request, its answers and the errors of the protocol."""

from typing import Any, Final

from service import errors
from service.http.open_inference.request import INPUT, JSON_LENGTH, OUTPUTS
from service.http.openapi import DEADLINE, SECURITY, SYNTHESIZE_ERRORS, describe_errors
from service.http.request_params import JSON, SynthesizeQuery

BINARY: Final = "application/octet-stream"

_ERROR: Final = {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}
_NOT_HERE: Final = {errors.NotAcceptable, errors.InvalidForm, errors.MissingField}
_CONTENT: Final = {JSON: {"schema": _ERROR}}


def _tensor(**properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "required": ["name", *properties], "properties": {"name": _NAME, **properties}}


_NAME: Final = {"type": "string"}
_BYTES: Final[dict[str, Any]] = {
    "datatype": {"const": "BYTES"},
    "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
}
_DATA: Final = {"type": "array", "items": {"type": "string"}}
_OPTIONS: Final = SynthesizeQuery.model_json_schema()["properties"] | {
    "timeout": {"type": "integer", "minimum": 1, "description": "Deadline, in microseconds."},
    "binary_data_output": {"type": "boolean", "description": "All outputs as binary data."},
}
_REQUEST: Final = {
    "type": "object",
    "required": ["inputs"],
    "additionalProperties": False,
    "properties": {
        "id": {"type": "string"},
        "model_name": {"type": "string"},
        "model_version": {"type": "string"},
        "parameters": {"type": "object", "properties": _OPTIONS, "additionalProperties": False},
        "inputs": {"type": "array", "minItems": 1, "maxItems": 1, "items": _tensor(**_BYTES, data=_DATA)},
        "outputs": {"type": "array", "items": _tensor()},
    },
}
_RESPONSE: Final = {
    "type": "object",
    "required": ["model_name", "model_version", "outputs"],
    "properties": {
        "id": {"type": "string"},
        "model_name": {"type": "string"},
        "model_version": {"type": "string"},
        "outputs": {"type": "array", "items": _tensor(**_BYTES)},
    },
}

INFER_REQUEST: Final[dict[str, Any]] = SECURITY | {
    "requestBody": {
        "required": True,
        "description": f"Image files in the input `{INPUT}`: base64, or binary data after the JSON object, "
        f"whose length is in the header `{JSON_LENGTH}`.",
        "content": {JSON: {"schema": _REQUEST}, BINARY: {"schema": {"type": "string", "format": "binary"}}},
    },
    "parameters": [
        {
            "name": JSON_LENGTH, "in": "header", "required": False,
            "schema": {"type": "integer", "minimum": 0},
            "description": "Length of the JSON object before binary data.",
        },
        DEADLINE,
    ],
}  # fmt: skip

INFER_RESPONSES: Final = {
    200: {
        "description": f"The outputs {' and '.join(f'`{name}`' for name in OUTPUTS)}.",
        "content": {JSON: {"schema": _RESPONSE}, BINARY: {}},
    },
    **describe_errors(SYNTHESIZE_ERRORS - _NOT_HERE | {errors.NotFound}, _CONTENT),
}
READY_RESPONSES: Final = describe_errors({errors.NotReady}, _CONTENT)
SERVER_RESPONSES: Final = describe_errors({errors.Unauthorized}, _CONTENT)
MODEL_RESPONSES: Final = describe_errors({errors.Unauthorized, errors.NotFound, errors.NotReady}, _CONTENT)
