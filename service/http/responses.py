"""Builds the responses from results of the pipeline: faces, eyes, models and batches."""

import base64
import io
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final

from service.engine.model_reload import LoadedModel, ReloadableModel
from service.http import schemas
from service.inference.catalog import CatalogEntry
from service.observability.stage_timer import StageTimer
from service.pipeline import Face, PhotoEyes, Synthesis
from service.provenance.verification import Verification
from service.selection import RefusedEye
from service.vision.images import FaceFormat

_EPOCH: Final = (1980, 1, 1, 0, 0, 0)
"""The earliest date of the ZIP format: a face's own metadata has the time."""


def synthesis_answer(
    synthesis: Synthesis,
    format: FaceFormat,
    model: LoadedModel,
    request_id: str,
    timer: StageTimer,
    *,
    label: bool,
) -> schemas.SynthesisAnswer:
    """The JSON answer of `/synthesize`."""
    files = [model.marker.encode(face, format, label=label) for face in synthesis.faces]
    timer.end("encode")
    return schemas.SynthesisAnswer(
        faces=[_face(face, file, format) for face, file in zip(synthesis.faces, files, strict=True)],
        refused=[_refused(each) for each in synthesis.refused],
        input=synthesis.input,
        num_left_out=synthesis.num_left_out,
        model=model.synthesizer.info,
        device=model.synthesizer.device,
        timings_ms=timer.spent_ms,
        request_id=request_id,
    )


def eyes_answer(found: PhotoEyes, request_id: str, *, all: bool) -> schemas.EyesAnswer:
    """The JSON answer of `/eyes`; with `all` also detections below the threshold, if the finder has them."""
    return schemas.EyesAnswer(
        width=found.width,
        height=found.height,
        eyes=[schemas.SeenEyeShape(**asdict(seen.eye), quality=seen.quality) for seen in found.eyes],
        below_threshold=found.below_threshold if all else None,
        request_id=request_id,
    )


def verify_answer(verification: Verification, request_id: str) -> schemas.VerifyAnswer:
    """The answer of `/verify`."""
    return schemas.VerifyAnswer(**asdict(verification), request_id=request_id)


def models_answer(
    entries: Sequence[CatalogEntry], live: ReloadableModel, request_id: str
) -> schemas.ModelsAnswer:
    """The answer of `/models`."""
    current = live.current
    return schemas.ModelsAnswer(
        answering=current.synthesizer.info,
        device=current.synthesizer.device,
        last_failure=live.last_failure and live.last_failure.replace(str(current.path), current.path.name),
        models=[_listed(entry, current) for entry in entries],
        request_id=request_id,
    )


def _listed(entry: CatalogEntry, current: LoadedModel) -> schemas.ListedModel:
    return schemas.ListedModel(
        name=entry.name,
        source=entry.source,
        num_bytes=entry.num_bytes,
        answers=entry.path == current.path and entry.info == current.synthesizer.info,
        about=entry.info,
        problem=entry.problem,
    )


def _face(face: Face, file: bytes, format: FaceFormat) -> schemas.FaceShape:
    return schemas.FaceShape(
        image=base64.b64encode(file).decode(),
        format=format,
        width=face.pixels.shape[1],
        height=face.pixels.shape[0],
        eye=face.eye,
        quality=face.quality,
    )


def _refused(refused: RefusedEye) -> schemas.RefusedShape:
    return schemas.RefusedShape(code=refused.error.code, detail=str(refused.error), eye=refused.eye)


@dataclass(frozen=True, slots=True)
class BatchResult:
    """One photo of a batch: its answer in JSON, or its faces as files, or its problem."""

    file_name: str
    answer: schemas.SynthesisAnswer | None = None
    faces: Sequence[bytes] = ()
    problem: schemas.Problem | None = None

    @property
    def status(self) -> int:
        """The status that a single request would have had."""
        return 200 if self.problem is None else self.problem.status


def batch_json(results: Sequence[BatchResult], request_id: str) -> bytes:
    """A `BatchAnswer` as JSON."""
    shapes = [
        schemas.ResultShape(
            index=index,
            file=result.file_name,
            status=result.status,
            answer=result.answer,
            problem=result.problem,
        )
        for index, result in enumerate(results)
    ]
    return schemas.BatchAnswer(results=shapes, request_id=request_id).model_dump_json().encode()


def batch_zip(results: Sequence[BatchResult], request_id: str, *, format: FaceFormat) -> bytes:
    """A ZIP of the faces, named by their photo's index (`003.png`, or `003-1.png`), and `results.json`."""
    shapes: list[schemas.ZippedResult] = []
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:  # images are compressed
        for index, result in enumerate(results):
            names = _names(index, len(result.faces), format)
            for name, face in zip(names, result.faces, strict=True):
                archive.writestr(zipfile.ZipInfo(name, _EPOCH), face)
            shapes.append(
                schemas.ZippedResult(
                    index=index,
                    file=result.file_name,
                    status=result.status,
                    faces=names,
                    problem=result.problem,
                )
            )
        document = schemas.ZippedAnswer(results=shapes, request_id=request_id).model_dump_json(indent=1)
        archive.writestr(zipfile.ZipInfo("results.json", _EPOCH), document)
    return buffer.getvalue()


def _names(index: int, num_faces: int, format: FaceFormat) -> list[str]:
    ending = "jpg" if format == "jpeg" else format
    if num_faces == 1:
        return [f"{index:03d}.{ending}"]
    return [f"{index:03d}-{number}.{ending}" for number in range(num_faces)]
