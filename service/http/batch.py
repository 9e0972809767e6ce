"""Several photos in one request: one outcome each, in their order, as JSON or as a zip of faces.

A photo that fails has a problem for an outcome, of the shape that it would have alone.
"""

import io
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from pydantic import Field

from service.http.responses import Answer, Problem, Shape, SynthesisAnswer
from service.vision.images import FaceFormat

ZIP: Final = "application/zip"

_EPOCH: Final = (1980, 1, 1, 0, 0, 0)
"""The first date that a zip can hold: the same photos give the same faces."""


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
