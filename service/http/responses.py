"""What builds answers: faces, eyes, models, and several photos in one answer.

A photo of several that fails has a problem for an outcome, of the shape that it would have alone.
"""

import base64
import io
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from service.engine.model_reload import LoadedModel, ReloadableModel
from service.http.schemas import (
    CandidateShape,
    CardShape,
    EyesAnswer,
    EyeShape,
    FaceShape,
    ListedModel,
    ModelsAnswer,
    ModelShape,
    Problem,
    QualityShape,
    RefusedShape,
    SeenEyeShape,
    SynthesisAnswer,
    ZippedAnswer,
    ZippedResult,
)
from service.inference.catalog import CatalogEntry
from service.inference.synthesizer import Synthesizer
from service.observability.stage_timer import StageTimer
from service.pipeline import Face, MeasuredEye, PhotoEyes, RejectedEye, Synthesis
from service.provenance import encode_synthetic
from service.vision.images import FaceFormat

_EPOCH: Final = (1980, 1, 1, 0, 0, 0)
"""The first date that a zip can hold: the same photos give the same faces."""


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


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one photo: the JSON of `/synthesize`, or the faces as files, or a problem."""

    file_name: str
    answer: bytes = b""
    faces: Sequence[bytes] = ()
    problem: Problem | None = None

    @property
    def status(self) -> int:
        """The status that the photo would have had alone."""
        return 200 if self.problem is None else self.problem.status


def join_json(outcomes: Sequence[Outcome], request_id: str) -> bytes:
    """A `BatchAnswer` as JSON, around answers that are JSON already."""
    results = [_result(index, outcome) for index, outcome in enumerate(outcomes)]
    end = f'],"not_for_identification":true,"request_id":{json.dumps(request_id)}}}'
    return b'{"results":[' + b",".join(results) + end.encode()


def join_zip(outcomes: Sequence[Outcome], format: FaceFormat, request_id: str) -> bytes:
    """A zip of the faces, named by their photo's place (`003.png`, or `003-1.png`), and `results.json`."""
    results: list[ZippedResult] = []
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:  # pictures are packed already
        for index, outcome in enumerate(outcomes):
            names = _names(index, len(outcome.faces), format)
            for name, face in zip(names, outcome.faces, strict=True):
                archive.writestr(zipfile.ZipInfo(name, _EPOCH), face)
            results.append(
                ZippedResult(
                    index=index,
                    file=outcome.file_name,
                    status=outcome.status,
                    faces=names,
                    problem=outcome.problem,
                )
            )
        told = ZippedAnswer(results=results, request_id=request_id).model_dump_json(indent=1)
        archive.writestr(zipfile.ZipInfo("results.json", _EPOCH), told)
    return buffer.getvalue()


def _names(index: int, num_faces: int, format: Literal["png", "jpeg", "webp"]) -> list[str]:
    ending = "jpg" if format == "jpeg" else format
    if num_faces == 1:
        return [f"{index:03d}.{ending}"]
    return [f"{index:03d}-{number}.{ending}" for number in range(num_faces)]


def _result(index: int, outcome: Outcome) -> bytes:
    problem = outcome.problem.model_dump_json(exclude_none=True) if outcome.problem else "null"
    start = f'{{"index":{index},"file":{json.dumps(outcome.file_name)},"status":{outcome.status},'
    return start.encode() + b'"answer":' + (outcome.answer or b"null") + f',"problem":{problem}}}'.encode()
