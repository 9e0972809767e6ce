"""Preparation of training data: photos in, a folder of pairs of eye and face out (`training.data.store`).

Photos are taken in a fixed order, a chunk at a time; a second run goes on after the last chunk of the first.
The places of the eyes come from labels or, without labels, from an eye finder. The service's `crop_eye` makes
the crops in both cases.
"""

import hashlib
import math
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, cast

import numpy as np
from tqdm import tqdm

from service.errors import ImageError
from service.vision.eyes import CROP_VERSION, Eye, EyeFinder, crop_eye, eyes_from_points
from service.vision.images import Image, decode, read_header
from training.data import face_alignment, filters, store
from training.data.face_parts import locate_part
from training.data.photos import Layout, SourcePhoto, find_layout, list_photos, read_photo
from training.data.store import Manifest, Pair, PairsSettings, PairsWriter, Part
from training.errors import DataError

Rejection = Literal[
    "photo_missing",
    "unreadable",
    "no_eye",
    "one_eye_only",
    "inconsistent_label",
    "too_small",
    "outside_photo",
    "blurred",
    "eyes_occluded",
]
"""Why a photo is rejected, in the order of the checks."""

MAX_PIXELS = 200_000_000
"""More is taken for a mistake; a photo of this size decodes to 600 MB."""


@dataclass(frozen=True, slots=True)
class PrepareSettings:
    """What to prepare and how; `limit` takes a sample, `dev_part` of the training persons become `dev`.

    `licences` takes only the photos under them, all if it is empty: a model may be used as freely as what
    it learned from.

    `chunk` is the number of photos between two notes of progress: 128 are about 24 MB of rows, and at
    most that much work is done twice. It does not change what comes out.
    """

    source: Path
    out: Path
    layout: Layout = "auto"
    limit: int | None = None
    licences: tuple[str, ...] = ()
    dev_part: float = 0.05
    seed: int = 0
    eye_size: int = face_alignment.EYE_SIZE
    wide_size: int = face_alignment.WIDE_SIZE
    face_size: int = face_alignment.FACE_SIZE
    part: Part = "eye"
    chunk: int = 128


def prepare(settings: PrepareSettings, *, finder: EyeFinder | None = None) -> Manifest:
    """Makes or completes the folder `settings.out`, and returns its manifest.

    `finder` gives the points of photos without labels. A complete folder is left as it is.
    """
    layout = find_layout(settings.source) if settings.layout == "auto" else settings.layout
    photos = list_photos(
        settings.source, layout, dev_part=settings.dev_part, seed=settings.seed, limit=settings.limit,
        licences=settings.licences,
    )  # fmt: skip
    if not any(photo.path.is_file() for photo in photos):
        raise DataError(f"none of the {len(photos)} photos is there; the first were {photos[0].path}")
    wanted = _settings_of(settings, layout, photos, finder)
    manifest = store.read_manifest(settings.out)
    if manifest is not None:
        store.refuse_change(manifest["settings"], wanted, settings.out)
        (settings.out / store.PROGRESS).unlink(missing_ok=True)
        print(f"{settings.out} is complete with {manifest['num_rows']} rows: nothing to do", file=sys.stderr)
        return manifest
    folder = PairsWriter(settings.out, wanted)
    if folder.num_photos:
        done = f"{folder.num_photos} of {len(photos)} photos"
        print(f"{settings.out}: going on after {done}", file=sys.stderr)
    _fill(folder, photos, settings, finder)
    return folder.finish()


def _fill(
    folder: PairsWriter, photos: list[SourcePhoto], settings: PrepareSettings, finder: EyeFinder | None
) -> None:
    """Adds what the photos give that are not done yet."""
    with tqdm(total=len(photos), initial=folder.num_photos, unit="photo", desc="prepare") as bar:
        while folder.num_photos < len(photos):
            chunk = photos[folder.num_photos : folder.num_photos + settings.chunk]
            made = [make_pair(photo, settings, finder) for photo in chunk]
            rejected: list[tuple[str, ...]] = [
                (photo.file, photo.split, photo.source, reason)
                for photo, reason in zip(chunk, made, strict=True)
                if not isinstance(reason, Pair)
            ]
            folder.add([pair for pair in made if isinstance(pair, Pair)], rejected)
            bar.update(len(chunk))


def make_pair(
    photo: SourcePhoto, settings: PrepareSettings, finder: EyeFinder | None = None
) -> Pair | Rejection:
    """The pair of one photo, or why there is none."""
    if photo.label_spread is not None and photo.label_spread > filters.MAX_LABEL_SPREAD:
        return "inconsistent_label"
    if photo.labeled and photo.eyes is None:
        return "no_eye"
    if not photo.path.is_file():
        return "photo_missing"
    try:
        pixels = read_pixels(photo)
    except (ImageError, OSError):
        return "unreadable"
    eyes = eyes_from_points(*photo.eyes) if photo.eyes else _detect_both_eyes(pixels, finder)
    return crop_pair(pixels, eyes, photo, settings) if isinstance(eyes, tuple) else eyes


def read_pixels(photo: SourcePhoto) -> Image:
    """The photo upright, H x W x 3 uint8 RGB."""
    data = read_photo(photo.path)
    return decode(data, read_header(data, max_pixels=MAX_PIXELS))


def crop_pair(
    pixels: Image, eyes: tuple[Eye, ...], photo: SourcePhoto, settings: PrepareSettings
) -> Pair | Rejection:
    """The pair of a decoded photo whose right and left eye are known, or why it is not good enough."""
    right, left = eyes
    height, width = pixels.shape[:2]
    if not all(0 <= eye.x < width and 0 <= eye.y < height for eye in eyes):
        return "outside_photo"
    distance_px = math.hypot(left.x - right.x, left.y - right.y)
    if distance_px < filters.MIN_EYE_DISTANCE_PX:
        return "too_small"
    centers = (right.x, right.y), (left.x, left.y)
    face, outside = face_alignment.align_face(pixels, *centers, settings.face_size)
    if outside > face_alignment.MAX_FRACTION_OUTSIDE:
        return "outside_photo"
    if filters.sharpness(face) < filters.MIN_SHARPNESS:
        return "blurred"
    size, wide = settings.eye_size, settings.wide_size
    eyes_EHWC = np.stack([crop_eye(pixels, eye, size) for eye in eyes])
    right_ok, left_ok = filters.usable_eyes(face, eyes_EHWC)
    if not (right_ok or left_ok):
        return "eyes_occluded"
    shown = eyes_EHWC
    if settings.part != "eye":  # one crop a face, not mirrored
        eyes, right_ok, left_ok = (locate_part(right, left, settings.part),), True, False
        shown = np.stack([crop_eye(pixels, eye, size) for eye in eyes])
    wide_EHWC = np.stack([crop_eye(pixels, eye, wide, context=wide / size) for eye in eyes])
    row = (
        *(photo.file, photo.split, photo.source, photo.licence, photo.person),
        *(f"{filters.colorfulness(face) < filters.MIN_COLORFULNESS:d}", f"{photo.ai_made:d}"),
        *(f"{distance_px:.2f}", f"{right_ok:d}", f"{left_ok:d}"),
    )
    return Pair(face, shown, wide_EHWC, row)


def _detect_both_eyes(pixels: Image, finder: EyeFinder | None) -> tuple[Eye, Eye] | Rejection:
    """The eyes of the largest person, their geometry taken from both centers as it is with labels."""
    assert finder is not None
    by_side = {eye.side: eye for eye in finder.detect(pixels).eyes if eye.person == 0}
    if len(by_side) < 2:
        return "one_eye_only" if by_side else "no_eye"
    right, left = by_side["right"], by_side["left"]
    return eyes_from_points((right.x, right.y), (left.x, left.y), score=min(right.score, left.score))


def _settings_of(
    settings: PrepareSettings, layout: str, photos: list[SourcePhoto], finder: EyeFinder | None
) -> PairsSettings:
    digest = hashlib.sha256()
    for photo in photos:
        size = photo.path.stat().st_size if photo.path.is_file() else None
        digest.update(repr((replace(photo, path=Path()), size)).encode())
    asked = {key: each for key, each in asdict(settings).items() if key not in ("out", "licences", "chunk")}
    found = {
        "layout": layout,
        "source": settings.source.resolve().name,
        "points": "labels" if all(photo.labeled for photo in photos) else type(finder).__name__,
        "face_frame_version": face_alignment.FACE_FRAME_VERSION,
        "crop_version": CROP_VERSION,
        "filter_version": filters.FILTER_VERSION,
        "fingerprint": digest.hexdigest(),
    }
    return cast(PairsSettings, asked | found)
