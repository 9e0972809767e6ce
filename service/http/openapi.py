"""What FastAPI cannot infer for /openapi.json: bodies, query, API keys and errors of the photo routes."""

from collections.abc import Set
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from service import errors
from service.errors import Eye2FaceError
from service.http.json_body import FIELD
from service.http.request_params import DEADLINE_HEADER, Query, describe_query
from service.http.schemas import Problem, SynthesisAnswer

DESCRIPTION: Final = (
    "Synthesizes a face from one eye in a photo. The face is a guess and identifies nobody; every response "
    "says so (header `X-Synthetic: true`, in JSON `not_for_identification: true`). "
    "Errors are problem+json (RFC 9457)."
)

PROBLEM_JSON: Final = "application/problem+json"
ZIP: Final = "application/zip"

_BINARY: Final = {"type": "string", "format": "binary"}
_BASE64: Final = {"type": "string", "format": "byte", "description": "The photo's file, in base64."}


def _form(field: dict[str, Any]) -> dict[str, Any]:
    """A form or JSON object with this field only: options go into the query."""
    return {
        "schema": {
            "type": "object",
            "required": [FIELD],
            "properties": {FIELD: field},
            "additionalProperties": False,
        }
    }


PHOTO_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "description": f"One photo: a file in the field `{FIELD}`, the bytes themselves, or base64 in JSON.",
        "content": {
            "multipart/form-data": _form(_BINARY),
            "image/*": {"schema": _BINARY},
            "application/json": _form(_BASE64),
        },
    }
}

BATCH_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "description": f"Several photos, each a file in a field `{FIELD}`.",
        "content": {"multipart/form-data": _form({"type": "array", "minItems": 1, "items": _BINARY})},
    }
}


DEADLINE: Final[dict[str, Any]] = {
    "name": DEADLINE_HEADER,
    "in": "header",
    "required": False,
    "schema": {"type": "number", "exclusiveMinimum": 0},
    "description": "Deadline for the response, in milliseconds after the end of the upload.",
}


SECURITY: Final[dict[str, Any]] = {"security": [{"HTTPBearer": []}, {"APIKeyHeader": []}]}
"""As FastAPI describes `service.access.admission.require_key`."""


OPTIONAL_KEY: Final[dict[str, Any]] = {"security": [{}, *SECURITY["security"]]}


def describe_route(
    body: dict[str, Any], query: type[Query], security: dict[str, Any] = SECURITY
) -> dict[str, Any]:
    """The `openapi_extra` of a route that takes photos: its body, query, header, and API key."""
    return body | security | {"parameters": [*describe_query(query), DEADLINE]}


def describe_errors(
    kinds: Set[type[Eye2FaceError]], content: dict[str, Any] | None = None
) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that may fail with these errors, by status; their content is a problem."""
    by_status: dict[int | str, list[str]] = {}
    for kind in sorted(kinds, key=lambda kind: (kind.status, kind.code)):
        by_status.setdefault(kind.status, []).append(f"`{kind.code}`: {kind.title}")
    content = content or {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {
        status: {"description": "; ".join(codes), "content": content} for status, codes in by_status.items()
    }


def _leaves(kind: type[Eye2FaceError]) -> set[type[Eye2FaceError]]:
    """The errors of a branch of the tree."""
    return {each for each in kind.branch() if not each.__subclasses__()}


_OF_OTHER_ROUTES: Final = {errors.NotFound, errors.MethodNotAllowed}
_OF_THE_UPLOAD: Final = _leaves(errors.RequestError) - _OF_OTHER_ROUTES | {
    *(errors.EmptyBody, errors.Overloaded, errors.NotReady)
}
_OF_THE_PHOTO: Final = _leaves(errors.ImageError) | {
    *(errors.SandboxMissing, errors.ReadingFailed, errors.OutOfMemory, errors.DeadlineExceeded)
}
_OF_THE_EYES: Final = _leaves(errors.EyeRefused) | {
    *(errors.NoEyeFound, errors.NoSuchPerson, errors.NoSuchEye, errors.InferenceFailed, errors.SigningFailed)
}

SYNTHESIZE_ERRORS: Final = _OF_THE_UPLOAD | _OF_THE_PHOTO | _OF_THE_EYES

_DEVICE_HEADER: Final = {
    "X-Device": {"schema": {"type": "string"}, "description": "Device that ran the model."}
}

READY_RESPONSES: Final = describe_errors({errors.NotReady})

MODELS_RESPONSES: Final = describe_errors({errors.Unauthorized, errors.ModelNotFound, errors.NotReady})
METRICS_RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "Prometheus' text format.", "content": {"text/plain": {}}},
    **describe_errors({errors.Unauthorized, errors.NotFound}),
}

EYES_RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "The detected eyes, or with `overlay=true` the photo with the eyes marked.",
        "content": {"image/png": {}},
    },
    **describe_errors(_OF_THE_UPLOAD | _OF_THE_PHOTO),
}

VERIFY_RESPONSES: Final = describe_errors(_OF_THE_UPLOAD | _OF_THE_PHOTO)

BATCH_RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "One result for each photo, in their order; as ZIP, the faces and `results.json`.",
        "content": {ZIP: {"schema": _BINARY}},
        "headers": _DEVICE_HEADER,
    },
    **describe_errors(_OF_THE_UPLOAD - {errors.InvalidJson}),
}

SYNTHESIZE_RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "The face, or with `Accept: application/json` each face with its eye and quality.",
        "content": {"image/png": {}, "image/jpeg": {}, "image/webp": {}},
        "headers": _DEVICE_HEADER,
        "model": SynthesisAnswer,
    },
    **describe_errors(SYNTHESIZE_ERRORS),
}


def build_openapi(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document of the app, cached."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title, version=app.version, description=DESCRIPTION, routes=app.routes
        )
        shapes = document.setdefault("components", {}).setdefault("schemas", {})
        shapes["Problem"] = Problem.model_json_schema(mode="serialization")
        app.openapi_schema = document
    return app.openapi_schema
