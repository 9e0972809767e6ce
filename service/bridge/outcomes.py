"""What comes of an event: a face, or the error in its place, as JSON without identities."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal

from service.bridge.sources import CameraEvent
from service.client.models import Synthesis
from service.errors import Eye2FaceError, EyeRefused, NoEyeFound
from service.settings import ConfigurationError

_NOT_TOLD: Final = ("image", "guesses", "spread")
"""Of a face: the image is another message, and there are no further guesses."""

OutcomeKind = Literal["face_drawn", "eye_refused", "no_eye", "failed"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The synthesis of an event, or the error in its place."""

    event: CameraEvent
    result: Synthesis | Eye2FaceError
    timings_ms: Mapping[str, float] = field(default_factory=dict)

    @property
    def kind(self) -> OutcomeKind:
        """Whether there is a face, and if not, whether the eye is the reason."""
        if isinstance(self.result, Synthesis):
            return "face_drawn"
        if isinstance(self.result, NoEyeFound):
            return "no_eye"
        return "eye_refused" if isinstance(self.result, EyeRefused) else "failed"

    @property
    def fields(self) -> dict[str, Any]:
        """The JSON object: the event with its face's eye, model and timings, or with the error."""
        event = {
            "event_id": self.event.event_id,
            "camera": self.event.camera,
            "label": self.event.label,
            "zones": self.event.zones,
            "source_topic": self.event.source_topic,
        }
        if not isinstance(self.result, Synthesis):
            return event | error_fields(self.result)
        face = self.result.faces[0]
        return (
            event
            | {name: value for name, value in asdict(face).items() if name not in _NOT_TOLD}
            | {
                "sha256": hashlib.sha256(face.image).hexdigest(),
                "model": asdict(self.result.model),
                "device": self.result.device,
                "timings_ms": self.timings_ms,
                "request_id": self.result.request_id,
                "synthetic": True,
                "not_for_identification": True,
            }
        )


def error_fields(error: Eye2FaceError) -> dict[str, str]:
    """The error with `code`, `title` and `detail` as in the service's problems."""
    problem = {"code": error.code, "title": error.title, "detail": str(error)}
    return problem | ({"request_id": error.request_id} if error.request_id else {})


def as_ours(error: Exception | None) -> Eye2FaceError:
    """The error itself, if it is ours and names no file of the operator, else one for everybody."""
    if isinstance(error, Eye2FaceError) and not isinstance(error, ConfigurationError):
        return error
    return Eye2FaceError("The bridge failed on this event; its log has the reason.")
