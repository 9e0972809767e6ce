"""JSON schemas of the responses; class and field names are public, and descriptions appear in `/docs`."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from service.inference.session import Device
from service.provenance.signing import SignatureState
from service.provenance.verification import Confidence, Verdict
from service.vision.eyes import Side
from service.vision.images import FaceFormat


def _optional(description: str) -> Any:
    """A field that is left out where it has no value."""
    return Field(None, exclude_if=lambda value: value is None, description=description)


class Shape(BaseModel):
    """Base of all schemas."""

    model_config = ConfigDict(from_attributes=True, frozen=True, protected_namespaces=())


class Answer(Shape):
    """Base of the responses."""

    not_for_identification: Literal[True] = True


class CandidateShape(Shape):
    """An eye detection, in pixels of the upright photo."""

    x: float = Field(description="Center, from the left.")
    y: float = Field(description="Center, from the top.")
    size_px: float = Field(description="Side of the square crop around the eye.")
    roll_deg: float = Field(description="Rotation of the head, clockwise.")
    side: Side = Field(description="Left or right from the subject's view.")
    score: float = Field(description="Confidence of the detection, 0 to 1.")


class EyeShape(CandidateShape):
    """One eye, in pixels of the upright photo."""

    person: int = Field(description="Index of the person, from 0, the largest first.")


class QualityShape(Shape):
    """Image quality of an eye, comparable across sizes."""

    size_px: float = Field(description="Side of its crop, in pixels of the photo.")
    sharpness: float = Field(description="0 (blurred) to 1; 0.5 to 0.7 in portraits.")
    brightness: float = Field(description="Mean gray value, 0 to 1.")
    contrast: float = Field(description="Difference of the 95th and 5th percentile of brightness, 0 to 1.")
    light: float = Field(description="95th percentile of brightness, 0 to 1.")
    tilt_deg: float = Field(description="Rotation of the head, clockwise.")


class SeenEyeShape(EyeShape):
    """One eye and its quality."""

    quality: QualityShape


class RefusedShape(Shape):
    """One eye whose quality is too low for a face."""

    code: str = Field(description="Error code: `eye_too_small`, `eye_too_dark` or `eye_too_blurred`.")
    detail: str = Field(description="What was measured, what is required, what to do.")
    eye: EyeShape


class GuessShape(Shape):
    """A further face that could belong to the eye."""

    guess: int = Field(description="Index of the guess, from 1; 0 is the default face.")
    seed: int
    image: str = Field(description="The image file, in base64; format and size are those of the face.")


class FaceShape(Shape):
    """One synthetic face and its eye."""

    image: str = Field(description="The image file, in base64.")
    format: FaceFormat
    width: int
    height: int
    eye: EyeShape
    quality: QualityShape
    certainty: float = Field(
        description="How much of what differs between people the eye tells, 0 (nothing) to 1 (everything)."
    )
    guesses: list[GuessShape] | None = _optional("With `guesses` above 1: the further faces.")
    spread: float | None = _optional(
        "With `guesses` above 1: how far all of them differ, as the root mean square of each "
        "color's standard deviation, in levels of 255."
    )


class ModelShape(Shape):
    """The model, with its license class."""

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
    """Metadata of a model file; an eye finder has less than a synthesizer."""

    name: str
    version: str
    part: str = Field(
        "eye_finder", description="Input of the model: `eye`; or `eye_finder`, which detects it."
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
    """One model file."""

    name: str = Field(description="Its name in `EYE2FACE_MODEL`.")
    source: Literal["shipped", "mounted", "path"]
    num_bytes: int
    answers: bool = Field(description="Whether it is in use.")
    about: CardShape | None = Field(description="Metadata, if the file can be used.")
    problem: str | None = Field(description="Why the file cannot be used.")


class ModelsAnswer(Answer):
    """The available models, and the one in use, even if its file has changed since."""

    answering: CardShape
    device: Device
    last_failure: str | None = Field(description="Why the last reload failed and kept the model.")
    models: list[ListedModel]
    request_id: str


class SynthesisAnswer(Answer):
    """The requested faces. A face is a guess from one eye and identifies nobody."""

    faces: list[FaceShape]
    refused: list[RefusedShape] = Field(description="Selected eyes whose quality is too low.")
    input: Literal["photo", "eye"] = Field(description="How the image was interpreted; see the query.")
    num_left_out: int = Field(description="With `person=all`: people beyond the maximum of one photo.")
    model: ModelShape
    device: Device
    timings_ms: dict[str, float]
    request_id: str


class EyesAnswer(Answer):
    """The detected eyes in the upright photo."""

    width: int
    height: int
    eyes: list[SeenEyeShape]
    below_threshold: list[CandidateShape] | None = _optional(
        "With `all=true`: detections below the threshold, if the finder reports them."
    )
    request_id: str


class SignatureShape(Shape):
    """Layer of the signed C2PA manifest."""

    state: SignatureState = Field(
        description="`trusted`: by a certificate of this deployment. `valid`: by any other: no proof. "
        "`invalid`: the picture or its manifest changed. `unchecked`: this service does not read manifests."
    )
    confidence: Confidence


class WatermarkShape(Shape):
    """Layer of the watermark."""

    found: bool
    score: float = Field(description="Best score of all trials, in standard deviations.")
    threshold: float = Field(description="Least score that counts.")
    false_alarm_probability: float = Field(description="That a picture without watermark scores as high.")
    confidence: Confidence = Field(
        description="`weak`: this deployment has no secret of its own, so anybody can forge its watermark."
    )


class MetadataShape(Shape):
    """Layer of the metadata: what the file says of itself, which anybody can write."""

    says_synthetic: bool
    system: str | None = Field(description="The AI system that it names.")
    created: str | None = Field(description="The time that it names.")
    id: str | None = Field(description="The ID that it names.")
    confidence: Confidence


class VerifyAnswer(Answer):
    """What is known of where a picture comes from. `nothing_found` does not say that it is a photograph."""

    verdict: Verdict
    signature: SignatureShape
    watermark: WatermarkShape
    metadata: MetadataShape
    request_id: str


class PolicyAnswer(Answer):
    """What the service is for, what it must not be used for, and who answers for it."""

    purpose: str
    refused_uses: list[str]
    unmasking: str = Field(description="Answer to whoever asks what somebody looks like.")
    marking: str = Field(description="How faces are marked, and where pictures are verified.")
    operator_name: str = Field(description="Who answers for this service; empty if nobody is named.")
    operator_contact: str = Field(description="Where complaints go; empty if nothing is named.")


class Health(Answer):
    """The process runs."""

    status: Literal["alive"] = "alive"


class Readiness(Answer):
    """Photos can be processed; load of the service."""

    status: Literal["ready"] = "ready"
    device: Device
    model: str
    marking: Literal["required", "off"] = Field(description="Whether faces have a watermark.")
    signed: bool = Field(description="Whether faces have a signed C2PA manifest.")
    num_workers: int
    num_busy: int = Field(description="Busy workers.")
    num_queued: int = Field(description="Photos in the queue.")
    last_inference_age_s: float = Field(description="Seconds since the last inference.")
    last_inference_ms: float = Field(description="Duration of the last inference.")


class Problem(Answer):
    """An error. Source: RFC 9457."""

    type: str = Field(description="URI of the error code.")
    title: str
    status: int
    detail: str = Field(description="What was found, what was expected, what to do.")
    code: str = Field(description="Stable error code.")
    request_id: str
    num_below_threshold: int | None = _optional(
        "With `no_eye_found`: detections below the threshold, if the finder reports them."
    )
    retry_after_s: int | None = _optional("In a batch: what Retry-After would say, in seconds.")


class ResultShape(Shape):
    """Result of one photo."""

    index: int = Field(description="Index in the form, from 0.")
    file: str = Field(description="File name in the form.")
    status: int = Field(description="Status that a single request would have had.")
    answer: SynthesisAnswer | None = Field(description="Answer of `/synthesize`.")
    problem: Problem | None = Field(description="The error, if there is no face.")


class BatchAnswer(Answer):
    """Results in the order of the form."""

    results: list[ResultShape]
    request_id: str


class ZippedResult(Shape):
    """Result of one photo in `results.json` of the ZIP."""

    index: int
    file: str
    status: int
    faces: list[str] = Field(description="Names of the files; a face is followed by its further guesses.")
    problem: Problem | None


class ZippedAnswer(Answer):
    """`results.json` of the ZIP."""

    results: list[ZippedResult]
    request_id: str
