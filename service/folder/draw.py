"""Faces for many photos into one folder: on all cores, resumable after a kill, without half-written files.

Workers read and draw, here or on a Ray cluster (`service.folder.ray`); one process writes. Each photo's
result is recorded in the manifest, after its faces. Whatever fails with a photo is its result; only a full
disk ends the run.
"""

import hashlib
import itertools
import json
import logging
import os
import re
import time
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

import cv2
import msgspec

from service import __version__
from service.decoding.process_pool import open_reader
from service.engine.worker_pool import attempt
from service.errors import DeadlineExceeded, Eye2FaceError, ModelError
from service.folder.manifest import FACE_NAME, GuessFile, Manifest, Row, RowError
from service.inference.model_files import model_path
from service.inference.synthesizer import Synthesizer, read_model_info
from service.observability.logs import printable
from service.observability.stage_timer import StageTimer
from service.pipeline import Face, Pipeline, quality_thresholds
from service.provenance.marking import Marker
from service.selection import SynthesisOptions
from service.settings import Settings
from service.system.files import DISK_FULL, read_regular_file, remove_parts, replace_file
from service.vision.images import MAX_BYTES_PER_PIXEL, FaceFormat

_MAX_PHOTO_S: Final = 60.0
"""The largest photos take seconds; a decoder process that is still busy with one is ended."""

_MAX_STEM_BYTES: Final = 200
"""Of the 255 that file systems allow to a name; the rest is for numbers and the ending."""

_log = logging.getLogger(__name__)


class ClusterError(Eye2FaceError):
    """The Ray cluster is not there or cannot do what was asked."""


@dataclass(frozen=True, slots=True)
class DrawOptions:
    """Which eyes of each photo become faces, the format of the faces, and whether "AI" is drawn on them.

    `grid`: all guesses of an eye are in one file.
    """

    synthesis: SynthesisOptions
    format: FaceFormat
    label: bool = False
    grid: bool = False


@dataclass(frozen=True, slots=True)
class PhotoJob:
    """One photo to draw.

    `stem` begins the names of its faces. `done_sha256` is that of the photo's bytes if all its faces are
    there.
    """

    photo: Path
    stem: str
    done_sha256: str | None


@dataclass(frozen=True, slots=True)
class PhotoResult:
    """The rows of one photo, and its faces by file name until they are written.

    `is_done_before`: an earlier run drew it; a worker leaves the rows of such a photo empty.
    """

    photo: Path
    rows: list[Row]
    faces: dict[str, bytes] = field(default_factory=dict)
    is_done_before: bool = False

    @property
    def has_face(self) -> bool:
        """Whether a face was drawn."""
        return any(row.output for row in self.rows)

    @property
    def errors(self) -> list[str]:
        """Why eyes, or the whole photo, have no face."""
        return [printable(f"{self.photo}: {row.error.detail}") for row in self.rows if row.error]


class OutputFolder:
    """The folder of faces and their manifest: plans what is to be drawn, and writes results."""

    def __init__(self, folder: Path, manifest: Manifest, run: str) -> None:
        """`manifest` is that of `folder`; `run` is the `run_fingerprint` of this run."""
        self._folder = folder
        self._manifest = manifest
        self.run: Final = run
        remove_parts(folder)

    def plan(self, photos: list[Path]) -> list[PhotoJob]:
        """A job for each of the photos."""
        stems = _plan_stems(photos, self._folder, self._manifest)
        done = [self._manifest.done_sha256(_input(photo), self.run) for photo in photos]
        return [PhotoJob(*each) for each in zip(photos, stems, done, strict=True)]

    def write(self, result: PhotoResult) -> PhotoResult:
        """The result without its faces, which are written; may be called by several threads.

        Raises:
            OSError: the disk is full. Of other errors the rows tell.
        """
        rows = [self._write_faces(row, result.faces) for row in result.rows]
        return PhotoResult(result.photo, rows, is_done_before=result.is_done_before)

    def record(self, result: PhotoResult) -> PhotoResult:
        """The result, once its rows are in the manifest; with the earlier rows if it was done before."""
        if result.is_done_before:
            rows = self._manifest.rows[_input(result.photo)]
            return PhotoResult(result.photo, rows, is_done_before=True)
        self._manifest.add(result.rows)
        return result

    def _write_faces(self, row: Row, faces: dict[str, bytes]) -> Row:
        for name in row.outputs:
            try:
                with replace_file(self._folder / name) as file:
                    file.write(faces[name])
            except OSError as error:
                if error.errno in DISK_FULL:
                    raise
                problem = RowError("unwritable", f"{name} cannot be written: {error.strerror}")
                return msgspec.structs.replace(row, sha256=None, output=None, guesses=[], error=problem)
        return row


def draw_locally(
    worker: "PhotoWorker", output: OutputFolder, photos: list[Path], num_threads: int
) -> Generator[PhotoResult, None, None]:
    """The result of each photo, in the order of completion, on this machine's cores; closes the worker."""
    cv2.setNumThreads(1)
    with closing(worker), ThreadPoolExecutor(num_threads, "eye2face") as threads:
        try:
            jobs = [threads.submit(lambda job: output.write(worker(job)), job) for job in output.plan(photos)]
            for done in as_completed(jobs):
                yield output.record(done.result())
        finally:  # ended early, by the caller or by Ctrl+C: jobs that have not begun are dropped
            threads.shutdown(cancel_futures=True)


class PhotoWorker:
    """Draws the faces of a photo and describes them in rows; writes nothing. May be shared by threads."""

    def __init__(
        self, settings: Settings, options: DrawOptions, *, num_photos: int = 1, num_threads: int = 1
    ) -> None:
        """Loads the model, for `num_photos` at once and with `num_threads` for each of them.

        Raises:
            ModelError: the model or the eye finder cannot be used, or there is no sandbox and must be one.
        """
        path = model_path(settings.model, settings.models_dir)
        synthesizer = Synthesizer.load(path, device=settings.device, num_threads=num_threads)
        self._reader = open_reader(settings, num_photos)
        self._pipeline = Pipeline(self._reader, synthesizer, thresholds=quality_thresholds(settings))
        self._marker = Marker.open(settings, synthesizer.info)
        self._options = options
        self._max_bytes = max_photo_bytes(settings)
        self.run: Final = run_fingerprint(settings, options, synthesizer.info.sha256)

    def close(self) -> None:
        """Ends its processes."""
        self._reader.close()

    def __call__(self, job: PhotoJob) -> PhotoResult:
        """The result of one photo; whatever fails is told in its rows."""
        result, error = attempt(lambda: self.draw(job, read_regular_file(job.photo, self._max_bytes)))
        if result is not None:
            return result
        return PhotoResult(
            job.photo, [Row(_input(job.photo), None, self.run, error=_row_error(job.photo, error))]
        )

    def draw(self, job: PhotoJob, data: bytes) -> PhotoResult:
        """The result of one photo of these bytes.

        Raises:
            ModelError, DeadlineExceeded: another time it may be drawn.
        """
        sha256 = hashlib.sha256(data).hexdigest()
        if sha256 == job.done_sha256:
            return PhotoResult(job.photo, [], is_done_before=True)
        row = partial(Row, _input(job.photo), sha256, self.run)
        try:
            timer = StageTimer(time.monotonic() + _MAX_PHOTO_S)
            synthesis = self._pipeline.synthesize(data, self._options.synthesis, timer)
        except (ModelError, DeadlineExceeded):
            raise
        except Eye2FaceError as error:
            return PhotoResult(job.photo, [row(error=_row_error(job.photo, error))])
        row = partial(row, len(synthesis.faces) + len(synthesis.refused))
        rows, files = list[Row](), dict[str, bytes]()
        for face in synthesis.faces:
            drawn = self._encode(job, face)
            rows.append(self._describe(row, face, [*drawn]))
            files |= drawn
        rows += [row(each.eye, error=_row_error(job.photo, each.error)) for each in synthesis.refused]
        return PhotoResult(job.photo, rows, files)

    def _encode(self, job: PhotoJob, face: Face) -> dict[str, bytes]:
        """The files of a face by their names: one of each guess, or one of all."""
        format, label = self._options.format, self._options.label
        guesses = [None] if self._options.grid else range(self._options.synthesis.guesses)
        return {
            self._file_name(job, face, guess): self._marker.encode(face, format, label=label, guess=guess)
            for guess in guesses
        }

    def _describe(self, row: partial[Row], face: Face, names: list[str]) -> Row:
        """The row of a face, with the names of its files."""
        asked = self._options.synthesis
        guesses = [GuessFile(guess, asked.seed, name) for guess, name in enumerate(names[1:], 1)]
        spread = face.spread if asked.guesses > 1 else None
        return row(face.eye, face.quality, names[0], face.certainty, guesses, spread)

    def _file_name(self, job: PhotoJob, face: Face, guess: int | None) -> str:
        number = face.eye.person if self._options.synthesis.person == "all" else 0
        ending = "jpg" if self._options.format == "jpeg" else self._options.format
        suffix = (f"-{number}" if number else "") + (f".guess-{guess}" if guess else "")
        return f"{job.stem}.face{suffix}.{ending}"


def max_photo_bytes(settings: Settings) -> int:
    """No file that is larger is read: it has more pixels than are allowed, or hardly any."""
    return settings.max_upload_bytes + MAX_BYTES_PER_PIXEL * settings.max_pixels


def run_fingerprint(settings: Settings, options: DrawOptions, model_sha256: str | None = None) -> str:
    """A short hash of everything that decides which face a photo gets.

    `model_sha256` is that of the settings' model if it is not given.
    """
    if model_sha256 is None:
        model_sha256 = read_model_info(model_path(settings.model, settings.models_dir)).sha256
    thresholds = settings.min_eye_px, settings.min_eye_light, settings.min_eye_sharpness
    limits = settings.eye_finder, settings.max_pixels, *thresholds, settings.marking
    decisive = [__version__, model_sha256, asdict(options), limits]
    return hashlib.sha256(json.dumps(decisive).encode()).hexdigest()[:12]


def _input(photo: Path) -> str:
    """The photo in the manifest."""
    return str(photo.absolute())


def _row_error(photo: Path, error: Exception | None) -> RowError:
    if isinstance(error, Eye2FaceError):
        return RowError(error.code, str(error))
    if isinstance(error, OSError):
        return RowError("unreadable", error.strerror or str(error))
    _log.error("%s failed", printable(str(photo)), exc_info=error)
    return RowError(Eye2FaceError.code, f"{type(error).__name__}: {error}")


def _plan_stems(photos: list[Path], folder: Path, manifest: Manifest) -> list[str]:
    """Unique beginnings of each photo's file names: those of earlier runs stay, and no input is overwritten.

    `a.jpg` gives `a`, for `a.face.png`, its guess `a.face.guess-1.png` and the second person's
    `a.face-1.png`; `a-2` if `a` is taken.
    """
    inputs = [os.path.split(os.path.realpath(photo)) for photo in [*map(str, photos), *manifest.rows]]
    names = ((photo, row.output) for photo, rows in manifest.rows.items() for row in rows if row.output)
    earlier = {photo: _stem_of_face(name) for photo, name in names}
    here = os.path.realpath(folder)
    taken = {*earlier.values(), *(_stem_of_face(name) for parent, name in inputs if parent == here)}
    stems, free = [], dict[str, Iterator[str]]()
    for photo in photos:
        numbered = free.setdefault(photo.stem, _numbered(photo.stem))  # goes on: a taken name stays taken
        stem = earlier.get(_input(photo)) or next(each for each in numbered if each not in taken)
        taken.add(stem)
        stems.append(stem)
    return stems


def _numbered(stem: str) -> Iterator[str]:
    while len(os.fsencode(stem)) > _MAX_STEM_BYTES:
        stem = stem[:-1]
    yield stem
    for number in itertools.count(2):
        yield f"{stem}-{number}"


def _stem_of_face(name: str) -> str | None:
    """`a` of `a.face.png` and `a.face-1.guess-2.jpg`; None for other names."""
    match = re.search(FACE_NAME, name)
    return match and match[1]
