"""`eye2face synthesize`: one face into a file, or those of many photos into a folder, here or on Ray."""

import os
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TimeRemainingColumn
from rich.text import Text

from service.cli.streams import STANDARD, UsageError, read_input, write_picture
from service.errors import Eye2FaceError
from service.folder.draw import (
    DrawOptions,
    OutputFolder,
    PhotoJob,
    PhotoResult,
    PhotoWorker,
    draw_locally,
    max_photo_bytes,
    run_fingerprint,
)
from service.folder.listing import Listing, NoPhotos, list_photos
from service.folder.manifest import NAME, Row, open_manifest, write_parquet
from service.observability.logs import printable
from service.settings import Settings
from service.system.host import count_cores
from service.vision.images import FaceFormat

FACE_SUFFIXES: Final[dict[str, FaceFormat]] = {
    ".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp",
}  # fmt: skip

_OTHER_SUFFIXES: Final = {".avif", ".bmp", ".gif", ".heic", ".jfif", ".jpe", ".tif", ".tiff"}
"""Endings of pictures that faces are not written as."""

PARQUET_NAME = "manifest.parquet"

_INTERRUPTED: Final = 130
"""128 and the number of SIGINT: the exit status of shells."""


class NoFace(Eye2FaceError):
    """No face was drawn from the photo."""


def is_one_face(output: str) -> bool:
    """Whether the output is `-` or a file with the ending of a picture, and not a folder.

    Raises:
        UsageError: the file would be a picture of another format.
    """
    suffix = Path(output).suffix.lower()
    is_folder = output.endswith("/") or os.path.isdir(output)
    if suffix in _OTHER_SUFFIXES and not is_folder:
        raise UsageError(f"-o {output}: faces are written as .png, .jpg or .webp; a folder's name ends in /")
    return output == STANDARD or (suffix in FACE_SUFFIXES and not is_folder)


def face_format(output: str, asked: FaceFormat | None) -> FaceFormat:
    """The format of the faces: the one that was asked for, else that of the file's ending, else PNG.

    Raises:
        UsageError: the two contradict each other, or the ending is that of another format.
    """
    named = FACE_SUFFIXES.get(Path(output).suffix.lower()) if is_one_face(output) else None
    if asked and named and asked != named:
        raise UsageError(f"-o {output} is a file of {named}, but --format is {asked}")
    return asked or named or "png"


def draw_one(settings: Settings, options: DrawOptions, photos: list[Path], output: str) -> list[Row]:
    """Draws the face of one photo, or a grid of its guesses, into a file, or for `-` to standard output.

    Returns its rows of the manifest.

    Raises:
        UsageError: it is not one photo and one face.
        NoFace, ModelError, OSError: it cannot be drawn.
    """
    if len(photos) > 1 or os.path.isdir(photos[0]) or options.synthesis.person == "all":
        raise UsageError(f"-o {output} is one face of one photo: name a folder for more, as in -o faces")
    (photo,) = photos
    data = read_input(photo, max_photo_bytes(settings))
    options = replace(options, grid=options.synthesis.guesses > 1)
    with closing(PhotoWorker(settings, options, num_threads=count_cores())) as worker:
        result = worker.draw(PhotoJob(photo, "one", None), data)
    if not result.has_face:
        raise NoFace(" ".join(result.errors))
    (face,) = result.faces.values()
    write_picture(output, face)
    return [msgspec.structs.replace(row, output=row.output and output) for row in result.rows]


def list_inputs(paths: list[Path]) -> Listing:
    """The photos to draw into a folder.

    Raises:
        NoPhotos: a folder has none.
        UsageError: one is standard input, which would have no name in the folder of faces.
        OSError: no path exists.
    """
    if Path(STANDARD) in paths:
        raise UsageError("- is one photo, from standard input: write its face with -o face.png or -o -")
    if not any(map(os.path.lexists, paths)):
        paths[0].lstat()
    return list_photos(paths)


def draw_photos(
    settings: Settings, options: DrawOptions, listing: Listing, output: Path, *, ray: str | None, quiet: bool
) -> list[PhotoResult]:
    """Draws the photos into `output`, on a Ray cluster if one is named; results in their order.

    Faces that were drawn earlier are counted among what the listing leaves out.

    Raises:
        NoPhotos: all are faces drawn earlier.
        ForeignManifest, FolderInUse, ModelError, ClusterError, OSError: they cannot be drawn.
        typer.Exit: the run was interrupted.
    """
    run = run_fingerprint(settings, options)
    output.mkdir(parents=True, exist_ok=True)
    with open_manifest(output) as manifest:
        faces = {os.path.realpath(output / name) for name in manifest.outputs}
        photos = [photo for photo in listing.photos if os.path.realpath(photo) not in faces]
        if not photos:
            raise NoPhotos(f"All files there are faces drawn earlier, according to {output / NAME}.")
        if num_faces := len(listing.photos) - len(photos):
            listing.left_out["drawn earlier"] += num_faces
        folder = OutputFolder(output, manifest, run)
        results: dict[Path, PhotoResult] = {}
        try:
            with closing(_draw(settings, options, folder, photos, ray)) as drawing:
                for result in _show(drawing, len(photos), quiet=quiet):
                    results[result.photo] = result
        except KeyboardInterrupt:
            typer.echo(f"{len(results)} of {len(photos)} done; the same command goes on", err=True)
            raise typer.Exit(_INTERRUPTED) from None
        if find_spec("pyarrow"):
            write_parquet([row for rows in manifest.rows.values() for row in rows], output / PARQUET_NAME)
    return [results[photo] for photo in photos]


def report(results: list[PhotoResult], listing: Listing, output: Path, *, quiet: bool) -> None:
    """Prints to stderr all errors and, unless `quiet`, a summary and what was left out.

    Raises:
        typer.Exit: with status 1, if a photo has no face.
    """
    failed = [each for each in results if not each.has_face]
    errors = [error for each in failed for error in each.errors]
    if not quiet:
        typer.echo("\n".join(_summarize(results, listing, output)), err=True)
        errors = [f"{len(failed)} failed:", *errors]
    if failed:
        typer.echo("\n".join(errors), err=True)
        raise typer.Exit(1)


def _summarize(results: list[PhotoResult], listing: Listing, output: Path) -> Iterator[str]:
    num_before = sum(each.is_done_before for each in results)
    before = f" ({num_before} were done before)" if num_before else ""
    num_drawn = sum(each.has_face for each in results)
    yield f"{num_drawn} of {len(results)} photos have a face in {output}{before}"
    if listing.left_out:
        yield printable(str(listing))
    refused = [error for each in results if each.has_face for error in each.errors]
    if refused:
        yield f"{len(refused)} eyes were refused beside them:"
        yield from refused


class _Rate(ProgressColumn):
    """Photos a second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.finished_speed or task.speed or 0:.1f}/s")


def _show(drawing: Iterator[PhotoResult], total: int, *, quiet: bool) -> Iterator[PhotoResult]:
    """The results, with their number, rate and remaining time on a terminal."""
    console = Console(stderr=True)
    columns = ("Drawing faces", BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=quiet or not console.is_terminal) as progress:
        yield from progress.track(drawing, total)


def _draw(
    settings: Settings, options: DrawOptions, folder: OutputFolder, photos: list[Path], ray: str | None
) -> Generator[PhotoResult, None, None]:
    if ray is not None:
        from service.folder.ray import connect, draw_on_ray

        connect(ray)
        return draw_on_ray(settings, options, folder, photos)
    num_cores = count_cores()
    num_at_once = min(settings.num_threads or num_cores, len(photos))
    # Several photos: one thread of the model for each. A single photo: all cores for it.
    num_threads = num_cores if len(photos) == 1 else 1
    worker = PhotoWorker(settings, options, num_photos=num_at_once, num_threads=num_threads)
    return draw_locally(worker, folder, photos, num_at_once)
