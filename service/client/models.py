"""What the service answers, as values for its callers, and its problems as the errors that they were.

Names and meanings are those of the interface (`/docs`); fields that a newer service adds are passed over.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeVar

import httpx
from pydantic import Base64Bytes, BaseModel, TypeAdapter, ValidationError

from service.errors import Eye2FaceError

T = TypeVar("T")
_PROBLEM_JSON: Final = "application/problem+json"


class CallFailed(Eye2FaceError):
    """A call that got no answer of the service's own; raised by the client, never sent by the service.

    `status` is what a gateway that passes it on would say.
    """

    status = 502
    code = "call_failed"
    title = "The call failed"


class Unreachable(CallFailed):
    """No connection, or it was lost, in every try."""

    code = "unreachable"
    title = "The service cannot be reached"


class CallTimedOut(CallFailed):
    """The time for the call, or for one of its requests, is over."""

    status = 504
    code = "out_of_time"
    title = "No answer in time"


class UnexpectedAnswer(CallFailed):
    """Something else than this service answered, or a service whose answers are not understood here."""

    code = "unexpected_answer"
    title = "The answer is not understood"


@dataclass(frozen=True, slots=True)
class EyeCandidate:
    """What may be an eye: pixels of the upright photo, `roll_deg` clockwise, `side` the subject's own."""

    x: float
    y: float
    size_px: float
    roll_deg: float
    side: Literal["left", "right"]
    score: float


@dataclass(frozen=True, slots=True)
class Eye(EyeCandidate):
    """One eye of a person; persons are counted from 0, the largest first."""

    person: int


@dataclass(frozen=True, slots=True)
class Quality:
    """How well an eye is seen; all but `size_px` and `tilt_deg` from 0 to 1."""

    size_px: float
    sharpness: float
    brightness: float
    contrast: float
    light: float
    tilt_deg: float


@dataclass(frozen=True, slots=True)
class MeasuredEye(Eye):
    """One eye and how well it is seen."""

    quality: Quality


@dataclass(frozen=True, slots=True)
class Face:
    """One synthetic face, `image` being a file of its `format`, and the eye that it was drawn from."""

    image: Base64Bytes
    format: Literal["png", "jpeg", "webp"]
    width: int
    height: int
    eye: Eye
    quality: Quality


@dataclass(frozen=True, slots=True)
class RejectedEye:
    """One eye that is seen too badly to draw a face from."""

    code: str
    detail: str
    eye: Eye


@dataclass(frozen=True, slots=True)
class Model:
    """The model that drew, and under which class of licence it may be used."""

    name: str
    version: str
    licence_class: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Synthesis:
    """Every face that was asked for. A face is a guess from one eye and identifies nobody."""

    faces: tuple[Face, ...]
    refused: tuple[RejectedEye, ...]
    input: Literal["photo", "eye"]
    model: Model
    device: str
    timings_ms: dict[str, float]
    request_id: str
    not_for_identification: Literal[True]


@dataclass(frozen=True, slots=True)
class PhotoEyes:
    """Every eye in the upright photo; `below_threshold` only if it was asked for and the finder tells."""

    width: int
    height: int
    eyes: tuple[MeasuredEye, ...]
    request_id: str
    below_threshold: tuple[EyeCandidate, ...] | None = None


@dataclass(frozen=True, slots=True)
class Readiness:
    """That photos can be sent, on which device and to which model they go."""

    status: Literal["ready"]
    device: str
    model: str


class _Problem(BaseModel):
    code: str
    title: str
    status: int
    detail: str
    request_id: str = ""


def parse_json(response: httpx.Response, kind: type[T]) -> T:
    """The JSON of an answer as a value of `kind`.

    Raises:
        Eye2FaceError: the answer is a problem, raised as the error that it was in the service.
        UnexpectedAnswer: the answer is neither.
    """
    _refuse_problem(response)
    try:
        return TypeAdapter(kind).validate_json(response.content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the whole"
        raise UnexpectedAnswer(
            f"{_shown(response)} is no {kind.__name__}: {where}: {first['msg']}. "
            "Client and service are of different versions, or something else answered."
        ) from error


def parse_image(response: httpx.Response, media_type: str) -> bytes:
    """The file that an answer is.

    Raises:
        Eye2FaceError: as `parse_json`.
    """
    _refuse_problem(response)
    if response.headers.get("content-type") != media_type:
        raise UnexpectedAnswer(f"{_shown(response)} came where {media_type} was asked for.")
    return response.content


def _refuse_problem(response: httpx.Response) -> None:
    if response.status_code == httpx.codes.OK:
        return
    if response.headers.get("content-type", "").partition(";")[0] != _PROBLEM_JSON:
        raise UnexpectedAnswer(
            f"{_shown(response)} is no answer of eye2face; is another server or a proxy at that address?"
        )
    try:
        document: dict[str, Any] = TypeAdapter(dict[str, Any]).validate_json(response.content)
        problem = _Problem.model_validate(document)
    except ValidationError as error:
        raise UnexpectedAnswer(f"{_shown(response)} is no problem of RFC 9457.") from error
    raise _as_error(problem, document)


def _as_error(problem: _Problem, document: dict[str, Any]) -> Eye2FaceError:
    """The error of our tree with that code; of one that is not known, an Eye2FaceError with its values."""
    kind = next((each for each in _kinds(Eye2FaceError) if each.code == problem.code), Eye2FaceError)
    error = kind.__new__(kind, problem.detail)  # whatever else its own __init__ may want is not known here
    error.status, error.code, error.title = problem.status, problem.code, problem.title
    error.request_id = problem.request_id
    known = {"type", *_Problem.model_fields}
    error.members = {
        name: value for name, value in document.items() if name not in known and type(value) is int
    }
    return error


def _kinds(kind: type[Eye2FaceError]) -> Iterator[type[Eye2FaceError]]:
    for each in kind.__subclasses__():
        yield each
        yield from _kinds(each)


def _shown(response: httpx.Response) -> str:
    media_type = response.headers.get("content-type", "no Content-Type")[:60]
    return f"The answer {response.status_code} ({media_type})"
