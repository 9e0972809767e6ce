"""Query parameters; unknown names and values are errors."""

from typing import Annotated, Any, Literal, TypeVar

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from service.errors import InvalidParameter


class _Query(BaseModel):
    model_config = ConfigDict(frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_names(cls, values: dict[str, Any]) -> dict[str, Any]:
        unknown = sorted(set(values) - set(cls.model_fields))
        if unknown:
            raise PydanticCustomError(
                "unknown_parameter",
                "There is no query parameter '{name}'; there are {known}.",
                {"name": unknown[0][:40], "known": ", ".join(cls.model_fields)},
            )
        return values


class SynthesizeQuery(_Query):
    """Query of `/synthesize` and `/synthesize/batch`."""

    model_config = ConfigDict(extra="forbid")

    eye: Literal["auto", "left", "right"] = Field(
        "auto", description="Which eye, the subject's left or right; `auto`: the one of better quality."
    )
    person: Literal["largest", "all"] | Annotated[int, Field(ge=0)] = Field(
        "largest", description="Whose face: `largest`, `all`, or a number from 0, the largest person."
    )
    input: Literal["auto", "photo", "eye"] = Field(
        "auto",
        description="`photo`: detect eyes. `eye`: the image is an eye; its central square is used. `auto`: "
        "detect eyes, and report in `input` whether the image is a close-up of one.",
    )
    format: Literal["png", "jpeg", "webp"] | None = Field(
        None, description="Image format of the face; default: the preferred one of `Accept`, in JSON PNG."
    )


class EyesQuery(_Query):
    """Query of `/eyes`."""

    model_config = ConfigDict(extra="forbid")

    overlay: bool = Field(False, description="Answer a PNG of the photo with its eyes marked.")
    all: bool = Field(
        False, description="Include detections below the threshold in JSON; the overlay always shows them."
    )


Q = TypeVar("Q", bound=_Query)


def read_query(request: Request, kind: type[Q]) -> Q:
    """The validated query.

    Raises:
        InvalidParameter: a name is given twice.
        RequestValidationError: a name or value is unknown.
    """
    if not request.scope["query_string"]:
        return kind()
    pairs = request.query_params.multi_items()
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise InvalidParameter(
            f"The query parameter '{repeated[:40]}' is given more than once; give it once."
        )
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        problems = [each | {"loc": ("query", *each["loc"])} for each in error.errors()]
        raise RequestValidationError(problems) from error


def describe_query(kind: type[_Query]) -> list[dict[str, Any]]:
    """The query as parameters of an OpenAPI operation."""
    properties = kind.model_json_schema()["properties"]
    return [
        {
            "name": name,
            "in": "query",
            "required": False,
            "schema": schema,
            "description": schema["description"],
        }
        for name, schema in properties.items()
    ]
