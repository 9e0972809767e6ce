"""What a request asks for beside its body: query parameters, `Accept`, and the header X-Deadline-Ms.

Unknown names and values in the query are errors. Source of content negotiation: RFC 9110, section 12.5.1.
"""

import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Annotated, Any, Final, Literal, TypeVar

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from service.errors import InvalidParameter, NotAcceptable
from service.vision.images import FaceFormat

DEADLINE_HEADER: Final = "X-Deadline-Ms"

_MAX_PARAMETERS: Final = 32

_MAX_RANGES: Final = 100
"""Later media ranges of `Accept` do not count; browsers send ten."""

_ALIASES: Final = {"*": "*/*", "image/jpg": "image/jpeg"}

_INTEGER: Final = re.compile("-?[0-9]+")
_NUMBER: Final = re.compile(r"[0-9]+(\.[0-9]+)?")
"""Numbers are written in digits. Python also takes signs, spaces, `_` and digits of other scripts."""

JSON: Final = "application/json"
FACE_FORMATS: Final[dict[str, FaceFormat]] = {"image/png": "png", "image/jpeg": "jpeg", "image/webp": "webp"}
_OFFERS: Final[dict[FaceFormat | None, tuple[str, ...]]] = {
    None: (*FACE_FORMATS, JSON),
    **{format: (media_type, JSON) for media_type, format in FACE_FORMATS.items()},
}
"""Media types that `/synthesize` can answer with, by its query parameter `format`."""


def _refuse_other_numerals(value: object) -> object:
    if isinstance(value, str) and not _INTEGER.fullmatch(value):
        raise PydanticCustomError("int_parsing", "a valid integer")
    return value


_Integer = Annotated[int, BeforeValidator(_refuse_other_numerals)]


class Query(BaseModel):
    """Base of the queries; a name that is none of their fields is refused."""

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


class SynthesizeQuery(Query):
    """Query of `/synthesize/batch`, and most of that of `/synthesize`."""

    eye: Literal["auto", "left", "right"] = Field(
        "auto", description="Which eye, the subject's left or right; `auto`: the one of better quality."
    )
    person: Literal["largest", "all"] | Annotated[_Integer, Field(ge=0)] = Field(
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
    label: bool = Field(False, description='Draw the letters "AI" into a corner of the face.')
    guesses: _Integer = Field(
        1, ge=1, le=16, description="Faces drawn of each eye, 1 to 16: the default face and random guesses."
    )
    seed: _Integer = Field(
        0, ge=0, le=2**32 - 1, description="Decides the random guesses: the same seed gives the same ones."
    )


class FaceQuery(SynthesizeQuery):
    """Query of `/synthesize`."""

    layout: Literal["first", "grid"] = Field(
        "first", description="What an image shows: the default face, or a `grid` of all guesses, it first."
    )


class VerifyQuery(Query):
    """Query of `/verify`, which has no parameters."""


class EyesQuery(Query):
    """Query of `/eyes`."""

    overlay: bool = Field(False, description="Answer a PNG of the photo with its eyes marked.")
    all: bool = Field(
        False, description="Include detections below the threshold in JSON; the overlay always shows them."
    )


Q = TypeVar("Q", bound=Query)


def read_query(request: Request, kind: type[Q]) -> Q:
    """The validated query.

    Raises:
        InvalidParameter: a name is given twice, or there are too many.
        RequestValidationError: a name or value is unknown.
    """
    if not request.scope["query_string"]:
        default: Q = _default(kind)
        return default
    if request.scope["query_string"].count(b"&") >= _MAX_PARAMETERS:
        raise InvalidParameter(f"The query has more than {_MAX_PARAMETERS} parameters.")
    values: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name in values:
            raise InvalidParameter(
                f"The query parameter '{name[:40]}' is given more than once; give it once."
            )
        values[name] = value
    return validate_query(kind, values)


@cache
def _default(kind: type[Q]) -> Q:
    """The query without parameters; it is frozen."""
    return kind()


def validate_query(kind: type[Q], values: Mapping[str, object]) -> Q:
    """The validated query of these values.

    Raises:
        RequestValidationError: a name or value is unknown.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        problems = [each | {"loc": ("query", *each["loc"])} for each in error.errors()]
        raise RequestValidationError(problems) from error


def describe_query(kind: type[Query]) -> list[dict[str, Any]]:
    """The query as parameters of an OpenAPI operation."""
    properties = kind.model_json_schema().get("properties", {})
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


def choose_face_type(request: Request, query: FaceQuery) -> str:
    """The media type of the answer: an image of one person, or JSON, which may hold several.

    Raises:
        InvalidParameter: a grid of everybody is asked for.
        NotAcceptable: the request accepts none.
    """
    if query.layout == "grid":
        if query.person == "all":
            raise InvalidParameter(
                "layout=grid is an image of one person, and person=all is answered in JSON."
            )
        images = [each for each in _OFFERS[query.format] if each != JSON]
        return choose_media_type(request, images, hint=" for layout=grid: JSON lists the guesses")
    if query.person == "all":
        return choose_media_type(request, (JSON,), hint=" for person=all: an image holds one face")
    return choose_media_type(request, _OFFERS[query.format])


def choose_media_type(request: Request, offers: Sequence[str], hint: str = "") -> str:
    """The offered media type that the request accepts.

    Raises:
        NotAcceptable: it accepts none; the message ends with the hint.
    """
    accept = ",".join(request.headers.getlist("accept"))
    chosen = negotiate(accept, offers)
    if chosen is None:
        raise NotAcceptable(f"Accept is '{accept[:80]}'; the answer can be {' or '.join(offers)}{hint}.")
    return chosen


def negotiate(accept: str | None, offers: Sequence[str]) -> str | None:
    """The offered media type of the highest quality, or None if none is acceptable.

    Of equal quality, the more specific range wins, then the earlier offer: `application/json, */*` gets JSON.
    No header, or an empty one, accepts anything.
    """
    if accept is None or not accept.strip():
        return offers[0]
    qualities: dict[str, float] = {}
    for name, quality in filter(None, map(_parse, accept.split(",", _MAX_RANGES)[:_MAX_RANGES])):
        qualities[name] = max(quality, qualities.get(name, 0.0))
    best, chosen = (0.0, 0), None
    for offer in offers:
        patterns = ("*/*", f"{offer.partition('/')[0]}/*", offer)
        specificity = max((each for each in range(3) if patterns[each] in qualities), default=0)
        quality = qualities.get(patterns[specificity], 0.0)
        if quality > 0 and (chosen is None or (quality, specificity) > best):
            best, chosen = (quality, specificity), offer
    return chosen


def _parse(text: str) -> tuple[str, float] | None:
    """A media range and its quality, or None if it is invalid; parameters other than `q` are ignored."""
    name, *parameters = (part.strip().lower() for part in text.split(";"))
    quality = 1.0
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key.strip() == "q":
            try:
                quality = float(value)
            except ValueError:
                return None
    return (_ALIASES.get(name, name), quality) if 0.0 <= quality <= 1.0 else None  # also refuses nan


def read_deadline_ms(request: Request, most_ms: float) -> float:
    """The milliseconds after which the caller has no use for an answer, `most_ms` at most.

    Raises:
        InvalidParameter: the header holds no number above 0.
    """
    text = request.headers.get(DEADLINE_HEADER)
    if text is None:
        return most_ms
    deadline_ms = float(text) if _NUMBER.fullmatch(text) else 0.0
    if deadline_ms > 0:
        return min(deadline_ms, most_ms)
    raise InvalidParameter(
        f"{DEADLINE_HEADER} is '{text[:40]}'; it must be a number of milliseconds above 0."
    )
