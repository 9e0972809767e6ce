"""What answers hold: their JSON shapes, and the headers that every one of them carries.

The names are a contract with callers; what the fields mean is told here once, for `/docs` too.
"""

from typing import Final, Literal
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

PROBLEM_JSON: Final = "application/problem+json"


class _Shape(BaseModel):
    model_config = ConfigDict(from_attributes=True, frozen=True, protected_namespaces=())


class _Answer(_Shape):
    not_for_identification: Literal[True] = True


class EyeShape(_Shape):
    """One eye, in pixels of the upright photo."""

    x: float = Field(description="Centre, from the left.")
    y: float = Field(description="Centre, from the top.")
    size_px: float = Field(description="Side of the square crop.")
    roll_deg: float = Field(description="Turn of the head, clockwise.")
    side: Literal["left", "right"] = Field(description="The subject's own.")
    score: float = Field(description="How sure the finder is, 0 to 1.")
    person: int = Field(description="Whose eye it is; counted from 0, the largest person first.")


class QualityShape(_Shape):
    """How well an eye can be seen, measured on its crop."""

    size_px: float
    sharpness: float
    brightness: float


class FaceShape(_Shape):
    """One drawn face and the eye that it was drawn from."""

    image: str = Field(description="The face as a file, in base64.")
    format: Literal["png", "jpeg", "webp"]
    width: int
    height: int
    eye: EyeShape
    quality: QualityShape


class ModelShape(_Shape):
    """The model that drew, and under which class of licence it may be used."""

    name: str
    version: str
    licence_class: str
    part: str
    recipe: str
    objective: str
    training_data: str
    commit: str
    date: str
    sha256: str


class SynthesisAnswer(_Answer):
    """Every face that was asked for. A face is a guess from one eye and identifies nobody."""

    faces: list[FaceShape]
    model: ModelShape
    device: Literal["cpu", "cuda"]
    timings_ms: dict[str, float]
    request_id: str


class EyesAnswer(_Answer):
    """Every eye that the finder sees in the upright photo."""

    width: int
    height: int
    eyes: list[EyeShape]
    request_id: str


class Health(_Answer):
    """Whether the service lives or is ready, and on which device it works."""

    status: Literal["alive", "ready"]
    device: Literal["cpu", "cuda"] | None = None
    model: str | None = None


class Problem(_Answer):
    """Why there is no answer. Source: RFC 9457."""

    type: str = Field(description="A name for the kind of problem, unlike any other.")
    title: str
    status: int
    detail: str = Field(description="What was found, what was expected, what to do.")
    code: str = Field(description="The kind of problem, short and stable.")
    request_id: str


class Stamps:
    """Middleware: gives each request its id, and each answer the headers that all of them carry."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, and stamps the answer on its way back."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id

        async def send_stamped(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(stamps(request_id))
            await send(message)

        await self._app(scope, receive, send_stamped)


def stamps(request_id: str) -> dict[str, str]:
    """The headers that every answer carries, errors and health included."""
    return {
        "X-Synthetic": "true",
        "X-Request-Id": request_id,
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
    }
