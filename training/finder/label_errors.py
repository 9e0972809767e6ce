"""Label errors: labels next to which a trained finder is confident of an eye somewhere else."""

import csv
import io
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import cv2
import numpy as np

from service.vision.eyes import EyeFinder
from service.vision.images import Image
from training.data.files import write_atomically
from training.data.photos import read_table
from training.finder.contact_sheet import write_contact_sheet
from training.finder.evaluate import CONFIDENT_SCORE, MATCH_DISTANCE
from training.finder.labels import LabelledPhoto

SAME_EYE_DISTANCE = 0.6
"""A detection so near a label, in eye distances, is of the same eye."""

TILE_PX, MAX_TILES = 160, 96


@dataclass(frozen=True, slots=True)
class LabelError:
    """A label's eye and the finder's, in pixels of the photo, and how far they are apart in eye distances."""

    file: str
    x: float
    y: float
    found_x: float
    found_y: float
    apart: float


def find_label_errors(photos: Iterable[LabelledPhoto], finder: EyeFinder) -> Iterator[LabelError]:
    """The sure labels without a confident detection within MATCH_DISTANCE, but with one a little further."""
    for photo in photos:
        confident = [eye for eye in finder.detect(photo.pixels).eyes if eye.score >= CONFIDENT_SCORE]
        for person in photo.people:
            for (x, y), is_sure in zip(person.landmarks[:2].tolist(), person.sure, strict=True):
                offs = {math.hypot(eye.x - x, eye.y - y): eye for eye in confident}
                if not is_sure or not offs:
                    continue
                off_px = min(offs)
                apart = off_px / max(person.distance, 1e-6)
                if MATCH_DISTANCE < apart < SAME_EYE_DISTANCE:
                    yield LabelError(photo.file, x, y, offs[off_px].x, offs[off_px].y, apart)


def write_label_errors(path: Path, errors: Sequence[LabelError]) -> None:
    """Writes them as CSV, one row a label, with a header."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(LabelError)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(each) for each in errors)
    write_atomically(path, text.getvalue())


def read_files(path: Path) -> frozenset[str]:
    """The photos that a CSV of label errors names.

    Raises:
        DataError: there is no such file, or it has no column `file`.
    """
    return frozenset(row["file"] for row in read_table(path, ["file"]))


def draw_label_errors(photos: Iterable[LabelledPhoto], errors: Sequence[LabelError], path: Path) -> None:
    """Draws the first MAX_TILES into a PNG, each label red and the finder's eye green."""
    pictures = {photo.file: photo.pixels for photo in photos}
    tiles = [_tile(pictures[each.file], each) for each in errors[:MAX_TILES]]
    write_contact_sheet(path, tiles, columns=12)


def _tile(picture: Image, error: LabelError) -> Image:
    """The part of the picture around the label, six times as wide as the two are apart."""
    reach = max(16.0, 3 * math.hypot(error.x - error.found_x, error.y - error.found_y))
    scale = TILE_PX / (2 * reach)
    shift = np.array([[scale, 0, TILE_PX / 2 - error.x * scale], [0, scale, TILE_PX / 2 - error.y * scale]])
    tile = np.asarray(cv2.warpAffine(picture, shift, (TILE_PX, TILE_PX)), dtype=np.uint8)
    for x, y, color in ((error.x, error.y, (255, 0, 0)), (error.found_x, error.found_y, (0, 255, 0))):
        at = round(float(shift[0] @ (x, y, 1))), round(float(shift[1] @ (x, y, 1)))
        cv2.drawMarker(tile, at, color, cv2.MARKER_CROSS, 12, 1)
    return tile
