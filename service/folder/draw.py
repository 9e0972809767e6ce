"""Faces for many photos at once: on all cores, and where a run was killed the next one goes on.

Workers read and draw, here or on other machines (`service.folder.ray`); one process writes. A
face is written beside its place and then moved there, so that there are no half files. What became of each
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
from typing import Final

import cv2

from service import __version__
from service.errors import Eye2FaceError
from service.folder.manifest import Manifest, Row
from service.inference.model_files import model_path
from service.inference.synthesizer import Synthesizer, read_model_info
from service.pipeline import Pipeline, Synthesis, SynthesisOptions
from service.provenance import encode_synthetic
from service.settings import Settings
from service.vision.eyes import Eye
from service.vision.images import FaceFormat


class ClusterError(Exception):
    """The cluster is not there or cannot do what was asked; the message says why."""


@dataclass(frozen=True, slots=True)
class PhotoOutcome:
    """What became of one photo, and whether an earlier run had done it."""

    photo: Path
    rows: list[Row]
    from_before: bool

    @property
    def has_face(self) -> bool:
        """Whether a face was drawn."""
        return any(row["output"] for row in self.rows)


@dataclass(frozen=True, slots=True)
class FolderOptions:
    """What is asked of every photo, and how a face is answered."""

    options: SynthesisOptions
    format: FaceFormat


@dataclass(frozen=True, slots=True)
class PhotoTask:
    """One photo, how the names of its faces begin, and the bytes (SHA-256) of which all faces are there."""

    photo: Path
    stem: str
    done_sha256: str | None


@dataclass(frozen=True, slots=True)
class DrawnPhoto:
    """What a worker made of one photo: rows and faces by name; no rows where its bytes were done before."""

    photo: Path
    rows: list[Row]
    faces: dict[str, bytes]


class OutputFolder:
    """Draws faces of many photos into one folder, all of them with the same options."""

    def __init__(self, folder: Path, manifest: Manifest, run: str) -> None:
        """Goes on from what `manifest` says of `folder`; `run` is `run_fingerprint`'s."""
        self._folder = folder
        self._manifest = manifest
        self.run: Final = run

    def plan(self, photos: list[Path]) -> list[PhotoTask]:
        """What there is to do for each of the photos."""
        stems = _plan_names(photos, self._folder, self._manifest)
        done = [self._manifest.done(str(photo.absolute()), self.run) for photo in photos]
        return [PhotoTask(*each) for each in zip(photos, stems, done, strict=True)]

    def keep(self, drawn: DrawnPhoto) -> None:
        """Writes the faces; may be called by several threads."""
        for name, face in drawn.faces.items():
            _write_whole(self._folder / name, face)

    def note(self, drawn: DrawnPhoto) -> PhotoOutcome:
        """Writes the rows, once the faces are kept."""
        if not drawn.rows:
            return PhotoOutcome(
                drawn.photo, self._manifest.rows[str(drawn.photo.absolute())], from_before=True
            )
        self._manifest.add(drawn.rows)
        return PhotoOutcome(drawn.photo, drawn.rows, from_before=False)


def draw_locally(
    worker: "PhotoWorker", bulk: OutputFolder, photos: list[Path], num_threads: int
) -> Iterator[PhotoOutcome]:
    """The outcome of each photo, in the order in which they are finished, on this machine's cores."""

    def draw(task: PhotoTask) -> DrawnPhoto:
        drawn = worker(task)
        bulk.keep(drawn)
        return drawn

    cv2.setNumThreads(1)
    with ThreadPoolExecutor(num_threads, "eye2face") as threads:
        try:
            for done in as_completed([threads.submit(draw, task) for task in bulk.plan(photos)]):
                yield bulk.note(done.result())
        finally:  # stopped by the caller or by Ctrl+C: what has not begun is left
            threads.shutdown(cancel_futures=True)


class PhotoWorker:
    """Reads a photo, draws its faces and says what became of it; writes nothing. May be shared by threads."""

    def __init__(self, settings: Settings, options: FolderOptions, *, num_threads: int = 1) -> None:
        """Loads the model, which is given `num_threads` for each photo.

        Raises:
            ModelError: it cannot be used.
        """
        synthesizer = Synthesizer.load(
            model_path(settings.model, settings.models_folder),
            device=settings.device,
            num_threads=num_threads,
        )
        self._pipeline = Pipeline.open(settings, synthesizer)
        self._question = options
        self.run: Final = run_fingerprint(settings, options, synthesizer.info.sha256)

    def __call__(self, task: PhotoTask) -> DrawnPhoto:
        """What becomes of one photo, its problems included."""
        name = str(task.photo.absolute())
        try:
            data = task.photo.read_bytes()
        except OSError as error:
            detail = error.strerror or str(error)
            return DrawnPhoto(task.photo, [self._row(name, None, error=("unreadable", detail))], {})
        sha256 = hashlib.sha256(data).hexdigest()
        if sha256 == task.done_sha256:
            return DrawnPhoto(task.photo, [], {})
        faces: dict[str, bytes] = {}
        try:
            synthesis = self._pipeline.synthesize(data, self._question.options)
            rows = self._finish(synthesis, task.stem, name, sha256, faces)
        except Eye2FaceError as error:
            rows = [self._row(name, sha256, error=(error.code, str(error)))]
        for row in rows:
            row["num_rows"] = len(rows)
        return DrawnPhoto(task.photo, rows, faces)

    def _finish(
        self, synthesis: Synthesis, stem: str, name: str, sha256: str, faces: dict[str, bytes]
    ) -> list[Row]:
        """The rows; puts the faces into `faces`."""
        options, format = self._question.options, self._question.format
        rows = []
        for face in synthesis.faces:
            person = face.eye.person if options.person == "all" else 0
            output = _name_face(stem, person, format)
            faces[output] = encode_synthetic(face, format)
            rows.append(self._row(name, sha256, eye=face.eye, quality=asdict(face.quality), output=output))
        for refused in synthesis.rejected:
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
            run=self.run,
            num_rows=1,
            eye=None if eye is None else asdict(eye),
            quality=quality,
            output=output,
            error=None if error is None else {"code": error[0], "detail": error[1]},
        )


def run_fingerprint(settings: Settings, options: FolderOptions, model_sha256: str | None = None) -> str:
    """A short name for all that decides which face a photo gets, the settings' model unless another is named.

    Raises:
        ModelError: there is no such model.
    """
    if model_sha256 is None:
        model_sha256 = read_model_info(model_path(settings.model, settings.models_folder)).sha256
    thresholds = settings.min_eye_px, settings.min_eye_light, settings.min_eye_sharpness
    limits = settings.eye_finder, settings.max_pixels, *thresholds
    decided = [__version__, model_sha256, options.format, asdict(options.options), limits]
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


def _name_face(stem: str, person: int, format: FaceFormat) -> str:
    ending = "jpg" if format == "jpeg" else format
    return f"{stem}.face{f'-{person}' if person else ''}.{ending}"


def _write_whole(path: Path, data: bytes) -> None:
    """Writes the file so that it is there as a whole or not at all, whenever the process is killed."""
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(data)
    part.replace(path)
