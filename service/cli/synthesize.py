"""`eye2face synthesize`: the photos of the command line, drawn locally or on Ray, and the final report."""

import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import typer
from rich.console import Console
from rich.progress import track

from service.errors import Eye2FaceError
from service.folder.draw import (
    DrawOptions,
    OutputFolder,
    PhotoResult,
    PhotoWorker,
    draw_locally,
    run_fingerprint,
)
from service.folder.manifest import NAME, open_manifest, write_parquet
from service.settings import Settings
from service.system.host import count_cores

PHOTO_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}
"""Files of a folder that are taken for photos."""

PARQUET_NAME = "manifest.parquet"


class NoPhotos(Eye2FaceError):
    """The paths on the command line hold nothing to draw."""


def draw_photos(
    settings: Settings, options: DrawOptions, paths: list[Path], output: Path, ray: str | None
) -> list[PhotoResult]:
    """Draws the photos in `paths` into `output`, on a Ray cluster if one is named; results in their order.

    Raises:
        NoPhotos: there are none, or faces alone.
        ForeignManifest, FolderInUse, ModelError, ClusterError, OSError: they cannot be drawn.
    """
    output.mkdir(parents=True, exist_ok=True)
    with open_manifest(output) as manifest:
        faces = {os.path.realpath(output / name) for name in manifest.outputs}
        photos = [photo for photo in _list_photos(paths) if os.path.realpath(photo) not in faces]
        if not photos:
            raise NoPhotos(f"All files there are faces drawn earlier, according to {output / NAME}.")
        folder = OutputFolder(output, manifest, run_fingerprint(settings, options))
        drawing = _draw(settings, options, folder, photos, ray)
        progress = track(drawing, "Drawing faces", total=len(photos), console=Console(stderr=True))
        results = {result.photo: result for result in progress}
        if find_spec("pyarrow"):
            write_parquet([row for rows in manifest.rows.values() for row in rows], output / PARQUET_NAME)
    return [results[photo] for photo in photos]


def report(results: list[PhotoResult], output: Path) -> None:
    """Prints a summary and all errors to stderr.

    Raises:
        typer.Exit: with status 1, if a photo has no face.
    """
    failed = [each for each in results if not each.has_face]
    num_before = sum(each.is_done_before for each in results)
    before = f" ({num_before} were done before)" if num_before else ""
    num_drawn = len(results) - len(failed)
    typer.echo(f"{num_drawn} of {len(results)} photos have a face in {output}{before}", err=True)
    refused = [error for each in results if each.has_face for error in each.errors]
    if refused:
        typer.echo("\n".join([f"{len(refused)} eyes were refused beside them:", *refused]), err=True)
    if failed:
        errors = [error for each in failed for error in each.errors]
        typer.echo("\n".join([f"{len(failed)} failed:", *errors]), err=True)
        raise typer.Exit(1)


def _draw(
    settings: Settings, options: DrawOptions, folder: OutputFolder, photos: list[Path], ray: str | None
) -> Iterator[PhotoResult]:
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


def _list_photos(paths: list[Path]) -> list[Path]:
    """Every photo once, those of folders sorted."""
    photos: dict[Path, Path] = {}
    for path in paths:
        found = _list_folder(path) if os.path.isdir(path) else [path]
        if not found:
            raise NoPhotos(f"There are no photos in {path}; looked for {', '.join(sorted(PHOTO_SUFFIXES))}.")
        photos |= {photo.absolute(): photo for photo in found}
    return list(photos.values())


def _list_folder(folder: Path) -> list[Path]:
    """The photos in a folder and below, sorted; and folders that cannot be listed, so that they are told."""
    found, folders = list[Path](), [folder]
    while folders:
        current = folders.pop()
        try:
            with os.scandir(current) as entries:
                inside = list(entries)
        except OSError:
            found.append(current)
            continue
        folders += [current / each.name for each in inside if each.is_dir(follow_symlinks=False)]
        photos = [current / each.name for each in inside if Path(each).suffix.lower() in PHOTO_SUFFIXES]
        found += [photo for photo in photos if not os.path.isdir(photo)]
    return sorted(found)
