"""Faces for many photos at once: on all cores, and where a run was killed the next one goes on.

A face is written beside its place and then moved there, so that there are no half files. What became of each
photo stands in the manifest.
"""

import hashlib
import itertools
import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2

from service import __version__
from service.cores import count_cores
from service.errors import Eye2FaceError
from service.eyes import Eye
from service.images import FaceFormat
from service.manifest import Manifest, Row
from service.marking import finish
from service.pipeline import Choice, Pipeline
from service.settings import Settings
from service.synthesizer import Synthesizer, model_path


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one photo, and whether an earlier run had done it."""

    photo: Path
    rows: list[Row]
    from_before: bool

    @property
    def has_face(self) -> bool:
        """Whether a face was drawn."""
        return any(row["output"] for row in self.rows)


class Bulk:
    """Draws faces of many photos into one folder, all of them with the same question."""

    def __init__(self, settings: Settings, choice: Choice, format: FaceFormat, *, num_photos: int) -> None:
        """Loads the model.

        Raises:
            ModelError: it cannot be used.
        """
        self._num_workers = min(settings.num_threads or count_cores(), num_photos)
        # Several photos: a core for each of them. One: all cores for it.
        num_threads = count_cores() if num_photos == 1 else 1
        synthesizer = Synthesizer.load(
            model_path(settings.model, settings.mounted), device=settings.device, num_threads=num_threads
        )
        self._pipeline = Pipeline.open(settings, synthesizer)
        self._choice = choice
        self._format = format
        self._run = _name_run(settings, choice, format, synthesizer.info.sha256)

    def draw(self, photos: list[Path], folder: Path, manifest: Manifest) -> Iterator[Outcome]:
        """The outcome of each photo, in the order in which they are finished."""
        cv2.setNumThreads(1)
        stems = _plan_names(photos, folder, manifest)
        with ThreadPoolExecutor(self._num_workers, "eye2face") as threads:
            try:
                working = [
                    threads.submit(self._draw_one, photo, folder / stem, manifest)
                    for photo, stem in zip(photos, stems, strict=True)
                ]
                for done in as_completed(working):
                    outcome = done.result()
                    if not outcome.from_before:
                        manifest.add(outcome.rows)
                    yield outcome
            finally:  # stopped by the caller or by Ctrl+C: what has not begun is left
                threads.shutdown(cancel_futures=True)

    def _draw_one(self, photo: Path, stem: Path, manifest: Manifest) -> Outcome:
        name = str(photo.absolute())
        try:
            data = photo.read_bytes()
        except OSError as error:
            detail = error.strerror or str(error)
            return Outcome(photo, [self._row(name, None, error=("unreadable", detail))], from_before=False)
        sha256 = hashlib.sha256(data).hexdigest()
        if rows := manifest.done(name, sha256, self._run):
            return Outcome(photo, rows, from_before=True)
        try:
            rows = self._draw_faces(data, stem, name, sha256)
        except Eye2FaceError as error:
            rows = [self._row(name, sha256, error=(error.code, str(error)))]
        for row in rows:
            row["num_rows"] = len(rows)
        return Outcome(photo, rows, from_before=False)

    def _draw_faces(self, data: bytes, stem: Path, name: str, sha256: str) -> list[Row]:
        synthesis = self._pipeline.synthesize(data, self._choice)
        rows = []
        for face in synthesis.faces:
            person = face.eye.person if self._choice.person == "all" else 0
            path = _face_path(stem, person, self._format)
            _write_whole(path, finish(face, self._format))
            rows.append(self._row(name, sha256, eye=face.eye, quality=asdict(face.quality), output=path.name))
        for refused in synthesis.refused:
            error = refused.error.code, str(refused.error)
            rows.append(self._row(name, sha256, eye=refused.eye, error=error))
        return rows

    def _row(
        self,
        photo: str,
        sha256: str | None,
        *,
        eye: Eye | None = None,
        quality: dict[str, float] | None = None,
        output: str | None = None,
        error: tuple[str, str] | None = None,
    ) -> Row:
        return Row(
            input=photo,
            sha256=sha256,
            run=self._run,
            num_rows=1,
            eye=None if eye is None else asdict(eye),
            quality=quality,
            output=output,
            error=None if error is None else {"code": error[0], "detail": error[1]},
        )


def _name_run(settings: Settings, choice: Choice, format: FaceFormat, model_sha256: str) -> str:
    """A short name for all that decides which face a photo gets."""
    gates = settings.min_eye_px, settings.min_eye_light, settings.min_eye_sharpness
    limits = settings.eye_finder, settings.max_pixels, *gates
    decided = [__version__, model_sha256, format, asdict(choice), limits]
    return hashlib.sha256(json.dumps(decided).encode()).hexdigest()[:12]


def _plan_names(photos: list[Path], folder: Path, manifest: Manifest) -> list[str]:
    """How the faces of each photo begin: as before where there are any, never as an input, never alike.

    `a.jpg` -> `a` for `a.face.png` and `a.face-1.png`, the second person's; `a-2` if that is taken.
    """
    inputs = {photo.name for photo in photos if photo.resolve().parent == folder.resolve()}
    before = {photo: _stem_of(rows) for photo, rows in manifest.rows.items()}
    taken = {*before.values(), *map(_stem_of_face, inputs)}
    stems = []
    for photo in photos:
        stem = before.get(str(photo.absolute())) or next(
            each for each in _numbered(photo.stem) if each not in taken
        )
        taken.add(stem)
        stems.append(stem)
    return stems


def _numbered(stem: str) -> Iterator[str]:
    yield stem
    for number in itertools.count(2):
        yield f"{stem}-{number}"


def _stem_of(rows: list[Row]) -> str | None:
    return next((_stem_of_face(row["output"]) for row in rows if row["output"]), None)


def _stem_of_face(name: str) -> str | None:
    """`a` for `a.face.png` and `a.face-1.jpg`; None for what is not named like a face."""
    named = re.fullmatch(r"(.+)\.face(-\d+)?\.\w+", name)
    return named and named[1]


def _face_path(stem: Path, person: int, format: FaceFormat) -> Path:
    ending = "jpg" if format == "jpeg" else format
    return stem.with_name(f"{stem.name}.face{f'-{person}' if person else ''}.{ending}")


def _write_whole(path: Path, data: bytes) -> None:
    """Writes the file so that it is there as a whole or not at all, whenever the process is killed."""
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(data)
    part.replace(path)
