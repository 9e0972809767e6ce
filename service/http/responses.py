"""Builds the responses from results of the pipeline: faces, eyes, models and batches."""

import base64
import io
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import chain
from typing import Final

from service.engine.model_reload import LoadedModel, ReloadableModel
from service.http import schemas
from service.http.request_params import SynthesizeQuery
from service.inference.catalog import CatalogEntry
from service.observability.stage_timer import StageTimer
from service.pipeline import Face, PhotoEyes, Synthesis
from service.provenance.verification import Verification
from service.selection import RefusedEye
from service.vision.images import FaceFormat

_EPOCH: Final = (1980, 1, 1, 0, 0, 0)
"""The earliest date of the ZIP format: a face's own metadata has the time."""


def face_files(
    synthesis: Synthesis, query: SynthesizeQuery, model: LoadedModel, timer: StageTimer
) -> list[list[bytes]]:
    """The files of each face: the default face and its further guesses."""
    write = partial(model.marker.encode, format=query.format or "png", label=query.label)
    files = [[write(face, guess=guess) for guess in range(len(face.guesses))] for face in synthesis.faces]
    timer.end("encode")
    return files


def synthesis_answer(
    synthesis: Synthesis, files: list[list[bytes]], query: SynthesizeQuery, model: LoadedModel,
    request_id: str, timer: StageTimer,
) -> schemas.SynthesisAnswer:  # fmt: skip
    """The JSON answer of `/synthesize`, with the `face_files`."""
    return schemas.SynthesisAnswer(
        faces=[_face(face, each, query) for face, each in zip(synthesis.faces, files, strict=True)],
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


def _face(face: Face, files: Sequence[bytes], query: SynthesizeQuery) -> schemas.FaceShape:
    image, *others = (base64.b64encode(file).decode() for file in files)
    guesses = [
        schemas.GuessShape(guess=guess, seed=query.seed, image=each) for guess, each in enumerate(others, 1)
    ]
    return schemas.FaceShape(
        image=image,
        format=query.format or "png",
        width=face.pixels.shape[1],
        height=face.pixels.shape[0],
        eye=face.eye,
        quality=face.quality,
        certainty=face.certainty,
        guesses=guesses or None,
        spread=face.spread if guesses else None,
    )


def _refused(refused: RefusedEye) -> schemas.RefusedShape:
    return schemas.RefusedShape(code=refused.error.code, detail=str(refused.error), eye=refused.eye)


@dataclass(frozen=True, slots=True)
class BatchResult:
    """One photo of a batch: its answer in JSON, or the files of each face, or its problem."""

    index: int
    file: str
    answer: schemas.SynthesisAnswer | None = None
    faces: Sequence[Sequence[bytes]] = ()
    problem: schemas.Problem | None = None

    @property
    def status(self) -> int:
        """The status that a single request would have had."""
        return 200 if self.problem is None else self.problem.status

    @property
    def num_bytes(self) -> int:
        """The size of its images."""
        shapes = self.answer.faces if self.answer else ()
        images = [each.image for face in shapes for each in (face, *(face.guesses or ()))]
        return sum(map(len, [*images, *chain(*self.faces)]))


def batch_json(results: Sequence[BatchResult], request_id: str) -> bytes:
    """A `BatchAnswer` as JSON."""
    return schemas.BatchAnswer(results=results, request_id=request_id).model_dump_json().encode()


def batch_zip(results: Sequence[BatchResult], request_id: str, *, format: FaceFormat) -> bytes:
    """A ZIP of the faces, named by their photo's index (`003.png`, or `003-1.png`), and `results.json`.

    Further guesses are `003.guess-1.png` and so on.
    """
    shapes: list[schemas.ZippedResult] = []
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:  # images are compressed
        for result in results:
            names = _names(result.index, [*map(len, result.faces)], format)
            for name, file in zip(names, chain(*result.faces), strict=True):
                archive.writestr(zipfile.ZipInfo(name, _EPOCH), file)
            shape = schemas.ZippedResult(
                index=result.index,
                file=result.file,
                status=result.status,
                faces=names,
                problem=result.problem,
            )
            shapes.append(shape)
        document = schemas.ZippedAnswer(results=shapes, request_id=request_id).model_dump_json(indent=1)
        archive.writestr(zipfile.ZipInfo("results.json", _EPOCH), document)
    return buffer.getvalue()


def _names(index: int, num_files: Sequence[int], format: FaceFormat) -> list[str]:
    """The names of the files of each face, of which there are so many."""
    ending = "jpg" if format == "jpeg" else format
    names = [f"{index:03d}"] if len(num_files) == 1 else [f"{index:03d}-{n}" for n in range(len(num_files))]
    return [
        f"{name}{f'.guess-{guess}' if guess else ''}.{ending}"
        for name, num_guesses in zip(names, num_files, strict=True)
        for guess in range(num_guesses)
    ]
