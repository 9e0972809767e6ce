"""What answers hold: their JSON shapes, and the headers that every one of them carries.

The names are a contract with callers; what the fields mean is told here once, for `/docs` too.
"""

import base64
from collections.abc import Sequence
from random import Random
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.engine.model_reload import LoadedModel, ReloadableModel
from service.inference.catalog import CatalogEntry
from service.inference.synthesizer import Synthesizer
from service.pipeline import Face, MeasuredEye, PhotoEyes, RejectedEye, Synthesis
from service.provenance import encode_synthetic
from service.vision.images import FaceFormat
from service.vision.photo import StageTimer

PROBLEM_JSON: Final = "application/problem+json"


class Shape(BaseModel):
    """A part of an answer."""

    model_config = ConfigDict(from_attributes=True, frozen=True, protected_namespaces=())


class Answer(Shape):
    """A whole answer in JSON."""

    not_for_identification: Literal[True] = True


class CandidateShape(Shape):
    """What may be an eye, in pixels of the upright photo."""

    x: float = Field(description="Centre, from the left.")
    y: float = Field(description="Centre, from the top.")
    size_px: float = Field(description="Side of the square crop.")
    roll_deg: float = Field(description="Turn of the head, clockwise.")
    side: Literal["left", "right"] = Field(description="The subject's own.")
    score: float = Field(description="How sure the finder is, 0 to 1.")


class EyeShape(CandidateShape):
    """One eye, in pixels of the upright photo."""

    person: int = Field(description="Whose eye it is; counted from 0, the largest person first.")


class QualityShape(Shape):
    """How well an eye is seen, measured alike for eyes of any size."""

    size_px: float = Field(description="Side of its crop in pixels of the photo.")
    sharpness: float = Field(description="0 (a smear) to 1; 0.5 to 0.7 in portraits.")
    brightness: float = Field(description="Mean grey, 0 to 1.")
    contrast: float = Field(description="From its darkest to its brightest twentieth, 0 to 1.")
    light: float = Field(description="How bright that brightest twentieth is, 0 to 1.")
    tilt_deg: float = Field(description="Turn of the head, clockwise.")


class SeenEyeShape(EyeShape):
    """One eye and how well it is seen."""

    quality: QualityShape


class RefusedShape(Shape):
    """One eye that is seen too badly to draw a face from."""

    code: str = Field(description="As a problem has it: `eye_too_small`, `eye_too_dark`, `eye_too_blurred`.")
    detail: str = Field(description="What was measured, what is wanted, what to do.")
    eye: EyeShape


class FaceShape(Shape):
    """One drawn face and the eye that it was drawn from."""

    image: str = Field(description="The face as a file, in base64.")
    format: Literal["png", "jpeg", "webp"]
    width: int
    height: int
    eye: EyeShape
    quality: QualityShape


class ModelShape(Shape):
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


class CardShape(Shape):
    """What a model file says of itself; an eye finder says less than a synthesizer."""

    name: str
    version: str
    part: str = Field(
        "eye_finder", description="What it looks at: `eye`; or `eye_finder`, which looks for it."
    )
    licence_class: str
    training_data: str
    metrics: dict[str, float]
    commit: str
    date: str
    recipe: str | None = None
    objective: str | None = None
    eye_size: int | None = None
    face_size: int | None = None
    sha256: str | None = None


class ListedModel(Shape):
    """One model file that is there."""

    name: str = Field(description="What `EYE2FACE_MODEL` may name it by.")
    source: Literal["shipped", "mounted", "path"]
    num_bytes: int
    answers: bool = Field(description="Whether it is in use.")
    about: CardShape | None = Field(description="What the file says of itself, if it can be used.")
    problem: str | None = Field(description="Why it cannot be used.")


class ModelsAnswer(Answer):
    """The models that are there, and the one that answers, even if its file has changed since."""

    answering: CardShape
    device: Literal["cpu", "cuda"]
    last_failure: str | None = Field(description="Why the last reload kept the old model in use.")
    models: list[ListedModel]
    request_id: str


class SynthesisAnswer(Answer):
    """Every face that was asked for. A face is a guess from one eye and identifies nobody."""

    faces: list[FaceShape]
    refused: list[RefusedShape] = Field(description="Eyes that were chosen, but are seen too badly.")
    input: Literal["photo", "eye"] = Field(description="What the picture was taken for; see the query.")
    num_left_out: int = Field(
        description="With `person=all`: people beyond the most that one photo may have."
    )
    model: ModelShape
    device: Literal["cpu", "cuda"]
    timings_ms: dict[str, float]
    request_id: str


class EyesAnswer(Answer):
    """Every eye that the finder sees in the upright photo."""

    width: int
    height: int
    eyes: list[SeenEyeShape]
    below_threshold: list[CandidateShape] | None = Field(
        None, description="With `all=true`: what scored too low to be an eye, where the finder tells."
    )
    request_id: str


class Health(Answer):
    """Whether the service lives."""

    status: Literal["alive"] = "alive"


class Readiness(Answer):
    """That photos can be sent, and what the service is at."""

    status: Literal["ready"] = "ready"
    device: Literal["cpu", "cuda"]
    model: str
    num_workers: int
    num_busy: int = Field(description="Workers at a photo.")
    num_queued: int = Field(description="Photos that wait for a worker.")
    last_inference_age_s: float = Field(description="Since the model last ran, at the start for instance.")
    last_inference_ms: float = Field(description="How long that took.")


class Problem(Answer):
    """Why there is no answer. Source: RFC 9457."""

    type: str = Field(description="A name for the kind of problem, unlike any other.")
    title: str
    status: int
    detail: str = Field(description="What was found, what was expected, what to do.")
    code: str = Field(description="The kind of problem, short and stable.")
    request_id: str
    num_below_threshold: int | None = Field(
        None, description="With `no_eye_found`: candidates that scored too low, where the finder tells."
    )


def answer_faces(
    synthesis: Synthesis, format: FaceFormat, synthesizer: Synthesizer, request_id: str, timer: StageTimer
) -> bytes:
    """The JSON of `/synthesize`: every face as a file, and how it was made."""
    with timer.span("encode"):
        files = [encode_synthetic(face, format) for face in synthesis.faces]
    answer = SynthesisAnswer(
        faces=[_face(face, file, format) for face, file in zip(synthesis.faces, files, strict=True)],
        refused=[_refused(each) for each in synthesis.refused],
        input=synthesis.input,
        num_left_out=synthesis.num_left_out,
        model=ModelShape.model_validate(synthesizer.info),
        device=synthesizer.device,
        timings_ms=timer.spent_ms,
        request_id=request_id,
    )
    return answer.model_dump_json().encode()


def answer_eyes(found: PhotoEyes, request_id: str, *, all: bool) -> bytes:
    """The JSON of `/eyes`; with `all` also what scored below the threshold, where the finder tells."""
    below = None
    if all and found.below_threshold is not None:
        below = [CandidateShape.model_validate(eye) for eye in found.below_threshold]
    answer = EyesAnswer(
        width=found.width,
        height=found.height,
        eyes=[_seen(each) for each in found.eyes],
        below_threshold=below,
        request_id=request_id,
    )
    return answer.model_dump_json(exclude_none=True).encode()


def answer_models(entries: Sequence[CatalogEntry], live: ReloadableModel, request_id: str) -> ModelsAnswer:
    """The JSON of `/models`."""
    current = live.current
    return ModelsAnswer(
        answering=CardShape.model_validate(current.synthesizer.info),
        device=current.synthesizer.device,
        last_failure=live.last_failure and live.last_failure.replace(str(current.path.parent), ""),
        models=[_listed(entry, current) for entry in entries],
        request_id=request_id,
    )


def _listed(entry: CatalogEntry, current: LoadedModel) -> ListedModel:
    about = None if entry.info is None else CardShape.model_validate(entry.info)
    return ListedModel(
        name=entry.name,
        source=entry.source,
        num_bytes=entry.num_bytes,
        answers=entry.path == current.path and entry.info == current.synthesizer.info,
        about=about,
        problem=entry.problem,
    )


def _face(face: Face, file: bytes, format: FaceFormat) -> FaceShape:
    return FaceShape(
        image=base64.b64encode(file).decode(),
        format=format,
        width=face.pixels.shape[1],
        height=face.pixels.shape[0],
        eye=EyeShape.model_validate(face.eye),
        quality=QualityShape.model_validate(face.quality),
    )


def _refused(refused: RejectedEye) -> RefusedShape:
    eye = EyeShape.model_validate(refused.eye)
    return RefusedShape(code=refused.error.code, detail=str(refused.error), eye=eye)


def _seen(seen: MeasuredEye) -> SeenEyeShape:
    quality = QualityShape.model_validate(seen.quality)
    return SeenEyeShape(**EyeShape.model_validate(seen.eye).model_dump(), quality=quality)


class Stamps:
    """Middleware: gives each request its id, and each answer the headers that all of them carry."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._random = Random()  # an id must be like no other one, not beyond guessing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, and stamps the answer on its way back."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        if "request_id" not in state:  # a server around it may have given one
            state["request_id"] = f"{self._random.getrandbits(128):032x}"
        request_id: str = state["request_id"]

        async def send_stamped(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = list(message.get("headers", ()))
                there = {name for name, _ in headers}
                own = [(b"x-request-id", request_id.encode()), *_STAMPS]
                message["headers"] = headers + [stamp for stamp in own if stamp[0] not in there]
            await send(message)

        await self._app(scope, receive, send_stamped)


def stamps(request_id: str) -> dict[str, str]:
    """The headers of every answer, errors and health included; a page has a policy of its own instead."""
    return _SAME_FOR_ALL | {"X-Request-Id": request_id}


_SAME_FOR_ALL: Final = {
    "X-Synthetic": "true",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}
_STAMPS: Final = [(name.lower().encode(), value.encode()) for name, value in _SAME_FOR_ALL.items()]
