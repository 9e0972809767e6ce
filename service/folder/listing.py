"""The photos of paths and of the folders below them, and the number of everything else that lies there."""

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from service.errors import Eye2FaceError
from service.vision.images import PHOTO_SUFFIXES

_THUMBNAILS: Final = "@eaDir"
"""Where Synology's file servers keep thumbnails, beside the photos."""


class NoPhotos(Eye2FaceError):
    """The paths hold nothing to draw."""


@dataclass(slots=True)
class Listing:
    """Photos in order, each once, and what else the folders hold: the number of each kind."""

    photos: list[Path] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        """What was left out, the most frequent kind first; empty if nothing was."""
        counts = sorted(self.left_out.items(), key=lambda each: (-each[1], each[0]))
        kinds = ", ".join(f"{number} {kind}" for kind, number in counts)
        return kinds and f"left out: {kinds}"


def list_photos(paths: list[Path]) -> Listing:
    """What lies at the paths; the photos of a folder are sorted.

    Raises:
        NoPhotos: a folder has none.
    """
    listing, photos = Listing(), dict[Path, Path]()
    for path in paths:
        found = _list_folder(path, listing.left_out) if os.path.isdir(path) else [path]
        if not found:
            wanted = f"looked for {', '.join(sorted(PHOTO_SUFFIXES))}"
            raise NoPhotos("; ".join(filter(None, [f"There are no photos in {path}", wanted, str(listing)])))
        photos |= {photo.absolute(): photo for photo in found}
    listing.photos += photos.values()
    return listing


def _list_folder(folder: Path, left_out: Counter[str]) -> list[Path]:
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
        for entry in inside:
            path = current / entry.name
            kind = _kind_left_out(entry, path)
            if kind is not None:
                left_out[kind] += 1
            else:
                (folders if entry.is_dir(follow_symlinks=False) else found).append(path)
    return sorted(found)


def _kind_left_out(entry: os.DirEntry[str], path: Path) -> str | None:
    """What an entry of a folder is; None of photos and folders."""
    if entry.name.startswith("."):
        return "hidden"
    if entry.name == _THUMBNAILS:
        return _THUMBNAILS
    if entry.is_dir(follow_symlinks=False):
        return None
    if os.path.isdir(path):
        return f"link to a folder ({path})"
    suffix = path.suffix.lower()
    return None if suffix in PHOTO_SUFFIXES else suffix or "without ending"
