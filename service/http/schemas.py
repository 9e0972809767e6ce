"""What answers hold: their JSON shapes.

The names are a contract with callers; what the fields mean is told here once, for `/docs` too.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


def _is_none(value: object) -> bool:
    return value is None


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
        None,
        exclude_if=_is_none,
        description="With `all=true`: what scored too low to be an eye, where the finder tells.",
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
        None,
        exclude_if=_is_none,
        description="With `no_eye_found`: candidates that scored too low, where the finder tells.",
    )


class ResultShape(Shape):
    """What became of one photo."""

    index: int = Field(description="Its place in the form, from 0.")
    file: str = Field(description="What its sender calls it.")
    status: int = Field(description="The status that it would have had alone.")
    answer: SynthesisAnswer | None = Field(description="What `/synthesize` answers.")
    problem: Problem | None = Field(description="Why there is no face.")


class BatchAnswer(Answer):
    """What became of each photo, in the order of the form."""

    results: list[ResultShape]
    request_id: str


class ZippedResult(Shape):
    """What became of one photo, in the zip's `results.json`."""

    index: int
    file: str
    status: int
    faces: list[str]
    problem: Problem | None


class ZippedAnswer(Answer):
    """The zip's `results.json`."""

    results: list[ZippedResult]
    request_id: str
