"""Responses of the service as frozen values, and its problems as exceptions.

Fields are described in `/docs`. These are not the service's own schemas (`service.http.schemas`): a client
reads tolerantly, needs only the fields it has here, and holds image bytes where JSON has base64.
"""

import math
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, TypeVar

import httpx
import msgspec

from service.client.retries import is_problem, retry_after_s
from service.errors import Eye2FaceError

T = TypeVar("T")
_MAX_PROBLEM_BYTES: Final = 100_000


class CallFailed(Eye2FaceError):
    """A call without an answer of the service; raised by the client only.

    `status` is that of a gateway.
    """

    status, code, title = 502, "call_failed", "The call failed"


class Unreachable(CallFailed):
    """No connection, or a lost one, in every attempt."""

    code, title = "unreachable", "The service cannot be reached"


class CallTimedOut(CallFailed):
    """The deadline of the call, or the timeout of a request, is over."""

    status, code, title = 504, "out_of_time", "No answer in time"


class UnexpectedAnswer(CallFailed):
    """Another server answered, or an incompatible version of the service."""

    code, title = "unexpected_answer", "The answer is not understood"


@dataclass(frozen=True, slots=True)
class EyeCandidate:
    """An eye detection, in pixels of the upright photo; `roll_deg` clockwise, `side` the subject's."""

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
    """Image quality of an eye; all but `size_px` and `tilt_deg` from 0 to 1."""

    size_px: float
    sharpness: float
    brightness: float
    contrast: float
    light: float
    tilt_deg: float


@dataclass(frozen=True, slots=True)
class MeasuredEye(Eye):
    """One eye and its quality."""

    quality: Quality


@dataclass(frozen=True, slots=True)
class Guess:
    """A further face that could belong to the eye; `image` has the format and the size of the face."""

    guess: int
    seed: int
    image: bytes


@dataclass(frozen=True, slots=True)
class Face:
    """One synthetic face, `image` being a file of its `format`, and its eye.

    `certainty`, 0 to 1: how much of what differs between people the eye tells. `guesses` are the further
    faces that were asked for, and `spread` how far all of them differ, in levels of 255.
    """

    image: bytes
    format: Literal["png", "jpeg", "webp"]
    width: int
    height: int
    eye: Eye
    quality: Quality
    certainty: float
    guesses: tuple[Guess, ...] = ()
    spread: float | None = None


@dataclass(frozen=True, slots=True)
class RejectedEye:
    """One eye whose quality is too low for a face."""

    code: str
    detail: str
    eye: Eye


@dataclass(frozen=True, slots=True)
class Model:
    """The model, with its license class."""

    name: str
    version: str
    licence_class: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Synthesis:
    """The requested faces. A face is a guess from one eye and identifies nobody."""

    faces: Annotated[tuple[Face, ...], msgspec.Meta(min_length=1)]
    refused: tuple[RejectedEye, ...]
    input: Literal["photo", "eye"]
    model: Model
    device: str
    timings_ms: dict[str, float]
    request_id: str
    not_for_identification: bool


@dataclass(frozen=True, slots=True)
class PhotoEyes:
    """The eyes in the upright photo; `below_threshold` only if requested and reported by the finder."""

    width: int
    height: int
    eyes: tuple[MeasuredEye, ...]
    request_id: str
    below_threshold: tuple[EyeCandidate, ...] | None = None


@dataclass(frozen=True, slots=True)
class Readiness:
    """Photos can be processed, on this device by this model."""

    status: Literal["ready"]
    device: str
    model: str


@dataclass(frozen=True, slots=True)
class _Problem:
    code: Annotated[str, msgspec.Meta(pattern=r"\A[a-z0-9_]{1,64}\Z")]  # it comes into logs
    title: str
    status: int
    detail: str
    request_id: str = ""


def parse_json(response: httpx.Response, kind: type[T]) -> T:
    """The JSON body as a value of `kind`.

    Raises:
        Eye2FaceError: the response is a problem; raised as the class of its code.
        UnexpectedAnswer: it is neither.
    """
    _raise_problem(response)
    try:
        return msgspec.json.decode(response.content, type=kind)
    except (ValueError, RecursionError) as error:
        raise UnexpectedAnswer(
            f"{_shown(response)} is no {kind.__name__}: {str(error)[:160]}. "
            "Client and service are of different versions, or something else answered."
        ) from error


def parse_image(response: httpx.Response, media_type: str) -> bytes:
    """The image file that is the body.

    Raises:
        Eye2FaceError: as `parse_json`.
    """
    _raise_problem(response)
    if response.headers.get("content-type") != media_type:
        raise UnexpectedAnswer(f"{_shown(response)} came where {media_type} was asked for.")
    return response.content


def _raise_problem(response: httpx.Response) -> None:
    if response.status_code == httpx.codes.OK:
        return
    if not is_problem(response) or len(response.content) > _MAX_PROBLEM_BYTES:
        raise UnexpectedAnswer(
            f"{_shown(response)} is no answer of eye2face; is another server or a proxy at that address?"
        )
    try:
        document = msgspec.json.decode(response.content, type=dict[str, Any])
        problem = msgspec.convert(document, _Problem)
    except (ValueError, RecursionError) as error:
        raise UnexpectedAnswer(f"{_shown(response)} is no problem of RFC 9457.") from error
    raise _as_error(problem, document, response.headers)


def _as_error(problem: _Problem, document: dict[str, Any], headers: httpx.Headers) -> Eye2FaceError:
    """The error with that code; for an unknown code, an Eye2FaceError with its values."""
    kind = next((each for each in Eye2FaceError.branch() if each.code == problem.code), Eye2FaceError)
    error = kind(problem.detail)
    error.status, error.code, error.title = problem.status, problem.code, problem.title
    error.request_id = problem.request_id
    error.members = {
        name: value for name, value in document.items() if type(value) is int and name != "status"
    }
    error.retry_after_s = math.ceil(retry_after_s(headers))
    return error


def _shown(response: httpx.Response) -> str:
    media_type = response.headers.get("content-type", "no Content-Type")[:60]
    target = f", to {response.headers['location'][:200]}" if response.has_redirect_location else ""
    return f"The answer {response.status_code} ({media_type}{target})"
