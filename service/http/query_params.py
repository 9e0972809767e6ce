"""What may stand in a request's query; a name or value that is not known is refused, never passed over."""

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
    """What to draw, and how to send it."""

    model_config = ConfigDict(extra="forbid")

    eye: Literal["auto", "left", "right"] = Field(
        "auto", description="The subject's own left or right; `auto` takes the one that can be seen better."
    )
    person: Literal["largest", "all"] | Annotated[int, Field(ge=0)] = Field(
        "largest", description="Whose face: the largest person's, everybody's, or that of the Nth, from 0."
    )
    input: Literal["auto", "photo", "eye"] = Field(
        "auto",
        description="`eye`: the picture already is an eye; its central square is taken as it is. `photo`: "
        "eyes are looked for. `auto`: they are, and the answer's `input` says if it is a close-up of one.",
    )
    format: Literal["png", "jpeg", "webp"] | None = Field(
        None, description="The face's format; otherwise what `Accept` likes best, and PNG in JSON."
    )


class EyesQuery(_Query):
    """How to show the eyes."""

    model_config = ConfigDict(extra="forbid")

    overlay: bool = Field(False, description="Answer the photo with its eyes drawn, as a PNG.")
    all: bool = Field(
        False, description="In JSON also what scored below the threshold; the overlay always draws it."
    )


Q = TypeVar("Q", bound=_Query)


def read_query(request: Request, kind: type[Q]) -> Q:
    """What stands in the request's query.

    FastAPI could do this by itself, in a third of the CPU time that a request costs beside its photo.

    Raises:
        InvalidParameter: a name stands there twice; it would not be plain which one counts.
        RequestValidationError: a name or value is not known.
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
    """The parameters of a route for its description in OpenAPI."""
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
