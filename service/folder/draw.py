"""Faces for many photos into one folder: on all cores, resumable after a kill, without half-written files.

Workers read and draw, here or on a Ray cluster (`service.folder.ray`); one process writes. Each photo's
result is recorded in the manifest, after its faces.
"""

import hashlib
import itertools
import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

import cv2

from service import __version__
from service.decoding.reader import InProcessReader
from service.errors import Eye2FaceError
from service.folder.manifest import Manifest, Row
from service.inference.model_files import model_path
from service.inference.synthesizer import Synthesizer, read_model_info
from service.pipeline import Face, Pipeline, quality_thresholds
from service.provenance import encode_synthetic
from service.selection import SynthesisOptions
from service.settings import Settings
from service.vision.eyes import Eye, Quality
from service.vision.images import FaceFormat


class ClusterError(Eye2FaceError):
    """The Ray cluster is not there or cannot do what was asked."""


class UnreadableFile(Eye2FaceError):
    """The operating system does not let the photo's file be read."""

    code = "unreadable"


@dataclass(frozen=True, slots=True)
class DrawOptions:
    """Which eyes of each photo become faces, and the format of the faces."""

    synthesis: SynthesisOptions
    format: FaceFormat


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
        return any(row["output"] for row in self.rows)

    @property
    def errors(self) -> list[str]:
        """Why eyes, or the whole photo, have no face."""
        return [f"{self.photo}: {row['error']['detail']}" for row in self.rows if row["error"]]


class OutputFolder:
    """The folder of faces and their manifest: plans what is to be drawn, and writes results."""

    def __init__(self, folder: Path, manifest: Manifest, run: str) -> None:
        """`manifest` is that of `folder`; `run` is the `run_fingerprint` of this run."""
        self._folder = folder
        self._manifest = manifest
        self.run: Final = run

    def plan(self, photos: list[Path]) -> list[PhotoJob]:
        """A job for each of the photos."""
        stems = _plan_stems(photos, self._folder, self._manifest)
        done = [self._manifest.done_sha256(str(photo.absolute()), self.run) for photo in photos]
        return [PhotoJob(*each) for each in zip(photos, stems, done, strict=True)]

    def write_faces(self, result: PhotoResult) -> None:
        """Writes the faces; may be called by several threads."""
        for name, face in result.faces.items():
            _write_atomically(self._folder / name, face)

    def record(self, result: PhotoResult) -> PhotoResult:
        """The result without its faces, which are written, once its rows are in the manifest."""
        if result.is_done_before:
            rows = self._manifest.rows[str(result.photo.absolute())]
            return PhotoResult(result.photo, rows, is_done_before=True)
        self._manifest.add(result.rows)
        return PhotoResult(result.photo, result.rows)


def draw_locally(
    worker: "PhotoWorker", output: OutputFolder, photos: list[Path], num_threads: int
) -> Iterator[PhotoResult]:
    """The result of each photo, in the order of completion, on this machine's cores."""

    def draw(job: PhotoJob) -> PhotoResult:
        result = worker(job)
        output.write_faces(result)
        return result

    cv2.setNumThreads(1)
    with ThreadPoolExecutor(num_threads, "eye2face") as threads:
        try:
            for done in as_completed([threads.submit(draw, job) for job in output.plan(photos)]):
                yield output.record(done.result())
        finally:  # ended early, by the caller or by Ctrl+C: jobs that have not begun are dropped
            threads.shutdown(cancel_futures=True)


class PhotoWorker:
    """Draws the faces of a photo and describes them in rows; writes nothing. May be shared by threads."""

    def __init__(self, settings: Settings, options: DrawOptions, *, num_threads: int = 1) -> None:
        """Loads the model; `num_threads` are for one photo.

        Raises:
            ModelError: the model or the eye finder cannot be used.
        """
        path = model_path(settings.model, settings.models_folder)
        synthesizer = Synthesizer.load(path, device=settings.device, num_threads=num_threads)
        reader = InProcessReader.open(settings)
        self._pipeline = Pipeline(reader, synthesizer, thresholds=quality_thresholds(settings))
        self._options = options
        self.run: Final = run_fingerprint(settings, options, synthesizer.info.sha256)

    def __call__(self, job: PhotoJob) -> PhotoResult:
        """The result of one photo; errors about the photo are in its rows."""
        try:
            data = job.photo.read_bytes()
        except OSError as error:
            unreadable = UnreadableFile(error.strerror or str(error))
            return PhotoResult(job.photo, [self._row(job, None, error=unreadable)])
        sha256 = hashlib.sha256(data).hexdigest()
        if sha256 == job.done_sha256:
            return PhotoResult(job.photo, [], is_done_before=True)
        try:
            synthesis = self._pipeline.synthesize(data, self._options.synthesis)
        except Eye2FaceError as error:
            return PhotoResult(job.photo, [self._row(job, sha256, error=error)])
        faces = {self._file_name(job, face): face for face in synthesis.faces}
        rows = [
            self._row(job, sha256, eye=face.eye, quality=face.quality, output=name)
            for name, face in faces.items()
        ]
        rows += [self._row(job, sha256, eye=each.eye, error=each.error) for each in synthesis.rejected]
        for row in rows:
            row["num_rows"] = len(rows)
        files = {name: encode_synthetic(face, self._options.format) for name, face in faces.items()}
        return PhotoResult(job.photo, rows, files)

    def _file_name(self, job: PhotoJob, face: Face) -> str:
        number = face.eye.person if self._options.synthesis.person == "all" else 0
        ending = "jpg" if self._options.format == "jpeg" else self._options.format
        return f"{job.stem}.face{f'-{number}' if number else ''}.{ending}"

    def _row(
        self,
        job: PhotoJob,
        sha256: str | None,
        *,
        eye: Eye | None = None,
        quality: Quality | None = None,
        output: str | None = None,
        error: Eye2FaceError | None = None,
    ) -> Row:
        return Row(
            input=str(job.photo.absolute()),
            sha256=sha256,
            run=self.run,
            num_rows=1,
            eye=asdict(eye) if eye else None,
            quality=asdict(quality) if quality else None,
            output=output,
            error={"code": error.code, "detail": str(error)} if error else None,
        )


def run_fingerprint(settings: Settings, options: DrawOptions, model_sha256: str | None = None) -> str:
    """A short hash of everything that decides which face a photo gets.

    `model_sha256` is that of the settings' model if it is not given.
    """
    if model_sha256 is None:
        model_sha256 = read_model_info(model_path(settings.model, settings.models_folder)).sha256
    thresholds = settings.min_eye_px, settings.min_eye_light, settings.min_eye_sharpness
    limits = settings.eye_finder, settings.max_pixels, *thresholds
    decisive = [__version__, model_sha256, options.format, asdict(options.synthesis), limits]
    return hashlib.sha256(json.dumps(decisive).encode()).hexdigest()[:12]


def _plan_stems(photos: list[Path], folder: Path, manifest: Manifest) -> list[str]:
    """Unique beginnings of each photo's file names: those of earlier runs stay, and no input is overwritten.

    `a.jpg` gives `a`, for `a.face.png` and the second person's `a.face-1.png`; `a-2` if `a` is taken.
    """
    inputs = {photo.name for photo in photos if photo.resolve().parent == folder.resolve()}
    earlier = {photo: _stem_of_rows(rows) for photo, rows in manifest.rows.items()}
    taken = {*earlier.values(), *map(_stem_of_face, inputs)}
    stems = []
    for photo in photos:
        stem = earlier.get(str(photo.absolute())) or next(
            each for each in _numbered(photo.stem) if each not in taken
        )
        taken.add(stem)
        stems.append(stem)
    return stems


def _numbered(stem: str) -> Iterator[str]:
    yield stem
    for number in itertools.count(2):
        yield f"{stem}-{number}"


def _stem_of_rows(rows: list[Row]) -> str | None:
    return next((_stem_of_face(row["output"]) for row in rows if row["output"]), None)


def _stem_of_face(name: str) -> str | None:
    """`a` of `a.face.png` and `a.face-1.jpg`; None for other names."""
    match = re.fullmatch(r"(.+)\.face(-\d+)?\.\w+", name)
    return match and match[1]


def _write_atomically(path: Path, data: bytes) -> None:
    """Writes the whole file or nothing, even if the process is killed."""
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(data)
    part.replace(path)
