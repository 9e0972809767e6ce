"""Labels that a trained finder doubts: it is sure of an eye near one, but not where the label says."""

import csv
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import cv2
import numpy as np

from service.vision.eyes import Eye, EyeFinder
from service.vision.images import Image, encode
from training.data.photos import read_table
from training.finder.evaluate import FOUND_WITHIN, SURE_SCORE
from training.finder.labels import LabelledPhoto

SAME_PERSON = 0.6
"""An eye of the finder so near a label, in eye distances, was meant by it."""

_TILE_PX = 160


@dataclass(frozen=True, slots=True)
class Doubt:
    """A label's eye and the finder's, in pixels of the photo, and how far they are apart in eye distances."""

    file: str
    x: float
    y: float
    found_x: float
    found_y: float
    apart: float


def doubts(photos: Iterable[LabelledPhoto], finder: EyeFinder) -> Iterator[Doubt]:
    """The labels that count as sure and are further than FOUND_WITHIN from an eye that scores SURE_SCORE."""
    for photo in photos:
        sure = [eye for eye in finder.detect(photo.pixels).eyes if eye.score >= SURE_SCORE]
        for person in photo.people:
            for point, is_sure in zip(person.points[:2], person.sure, strict=True):
                x, y = float(point[0]), float(point[1])
                near = _nearest(sure, x, y)
                if not is_sure or near is None:
                    continue
                apart = math.hypot(near.x - x, near.y - y) / max(person.distance, 1e-6)
                if FOUND_WITHIN < apart < SAME_PERSON:
                    yield Doubt(photo.file, x, y, near.x, near.y, apart)


def write_doubts(path: Path, doubted: Sequence[Doubt]) -> None:
    """Writes them as CSV, one row a label, with a header."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as lines:
        writer = csv.DictWriter(lines, [field.name for field in fields(Doubt)])
        writer.writeheader()
        writer.writerows(asdict(each) for each in doubted)


def read_files(path: Path) -> frozenset[str]:
    """The files that a CSV of doubts names.

    Raises:
        DataError: there is no such file, or it has no column `file`.
    """
    return frozenset(row["file"] for row in read_table(path, ["file"]))


def sheet(photos: Iterable[LabelledPhoto], doubted: Sequence[Doubt], path: Path, *, limit: int = 96) -> None:
    """Draws the photos of the first doubts into a PNG, the label red and the finder's eye green."""
    pictures = {photo.file: photo.pixels for photo in photos}
    tiles = [_tile(pictures[each.file], each) for each in doubted[:limit]]
    tiles += [np.zeros((_TILE_PX, _TILE_PX, 3), np.uint8)] * (-len(tiles) % 12)
    if tiles:
        rows = [np.hstack(tiles[start : start + 12]) for start in range(0, len(tiles), 12)]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(np.vstack(rows), "png"))


def _nearest(eyes: Sequence[Eye], x: float, y: float) -> Eye | None:
    return min(eyes, key=lambda eye: math.hypot(eye.x - x, eye.y - y), default=None)


def _tile(picture: Image, doubt: Doubt) -> Image:
    """The part of the picture around the two, six times as wide as they are apart."""
    reach = max(16.0, 3 * math.hypot(doubt.x - doubt.found_x, doubt.y - doubt.found_y))
    scale = _TILE_PX / (2 * reach)
    shift = np.array([[scale, 0, _TILE_PX / 2 - doubt.x * scale], [0, scale, _TILE_PX / 2 - doubt.y * scale]])
    tile = np.asarray(cv2.warpAffine(picture, shift, (_TILE_PX, _TILE_PX)), dtype=np.uint8)
    for x, y, colour in ((doubt.x, doubt.y, (255, 0, 0)), (doubt.found_x, doubt.found_y, (0, 255, 0))):
        at = round(float(shift[0] @ (x, y, 1))), round(float(shift[1] @ (x, y, 1)))
        cv2.drawMarker(tile, at, colour, cv2.MARKER_CROSS, 12, 1)
    return tile
