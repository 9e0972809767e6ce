"""End-to-end evaluation of a finder in the service: photos that get a face, refusals by code, latency.

Photos are sent as files; their labels only tell which of them show an open, uncovered eye.
"""

import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import skimage.data
from tqdm import tqdm

from service.errors import EyeRefused, ImageError, NoEyeFound
from service.pipeline import Pipeline
from service.selection import SynthesisOptions
from service.vision.eyes import (
    CROP_PER_EYE_DISTANCE,
    Eye,
    EyeDetections,
    EyeFinder,
    crop_eye,
    eyes_from_points,
)
from service.vision.image_header import read_header
from service.vision.images import Image, decode
from service.vision.photo import Photo as ServedPhoto
from training.data.augmentation import encode_jpeg
from training.data.face_alignment import EYE_SIZE, FACE_SIZE, align_face
from training.data.filters import MAX_LABEL_SPREAD, usable_eyes
from training.data.photos import Photo
from training.data.prepare import MAX_PIXELS
from training.errors import DataError
from training.finder.contact_sheet import write_contact_sheet
from training.finder.evaluate import wilson_interval

SAME_EYE_DISTANCE = 0.5
"""Two finders' eyes of one side this near each other, in eye distances, are compared."""

TIMED = {"320 px": (240, 320), "1080p": (1080, 1920), "12 MP": (3000, 4000)}
"""Height and width of the photos that are timed."""

TYPICAL_JPEG_QUALITY = 80
"""Cameras and NVRs write about so; half of the time to decode depends on the bytes."""

MAX_TILES = 64


@dataclass(frozen=True, slots=True)
class EndToEndResult:
    """The error code of each photo, "face" where one was drawn, and how far two finders' eyes are apart.

    `apart` is in eye distances, one number for each eye that both finders found.
    """

    codes: dict[str, str]
    apart: tuple[float, ...]

    def table(self, split: str) -> str:
        """Rates and counts as Markdown, under the name of the photos."""
        counts = Counter(self.codes.values())
        drawn, total = counts.pop("face", 0), len(self.codes)
        low, high = wilson_interval(drawn, total)
        rate = f"{drawn / max(1, total):.3f} ({low:.3f}–{high:.3f})"
        rows = [f"| photos with a face drawn, of {total} with an open, uncovered eye | {rate} |"]
        rows += [f"| refused: {code} | {count} |" for code, count in counts.most_common()]
        if self.apart:
            median = f"{np.median(self.apart):.3f}"
            rows.append(f"| apart from Haar in eye distances, median of {len(self.apart)} eyes | {median} |")
        return "\n".join([f"| {split} in the service | |", "|---|---|", *rows])


def run_service(
    photos: Sequence[Photo], pipeline: Pipeline, finder: EyeFinder, other: EyeFinder, *, progress: bool = True
) -> EndToEndResult:
    """The service's answers to the photos that show an open, uncovered eye by their labels.

    Raises:
        DataError: none of the photos does.
    """
    codes: dict[str, str] = {}
    apart: list[float] = []
    for photo in tqdm(photos, desc="serve", disable=not progress):
        data = photo.path.read_bytes() if photo.path.is_file() else b""
        pixels = decode(data, read_header(data, max_pixels=MAX_PIXELS)) if data else None
        if pixels is None or not _shows_an_eye(pixels, photo):
            continue
        codes[photo.file] = _answer(pipeline, data)
        apart += _apart(finder.detect(pixels).eyes, other.detect(pixels).eyes)
    if not codes:
        raise DataError(f"none of the {len(photos)} photos has a label with an open, uncovered eye")
    return EndToEndResult(codes, tuple(apart))


def measure_latency_ms(finder: EyeFinder, *, repeats: int = 25) -> dict[str, float]:
    """Median CPU time in ms to decode and search a JPEG, by its pixels and bytes.

    The photo is scikit-image's astronaut before a drawn wall. The first number is of the search alone, in a
    decoded picture of 320 px.
    """
    decoded = _astronaut_before_a_wall(*TIMED["320 px"])
    spent = {"search a picture of 320 px": _median_ms(lambda: finder.detect(decoded), repeats)}
    for name, (height, width) in TIMED.items():
        photo = _astronaut_before_a_wall(height, width)
        for quality in (TYPICAL_JPEG_QUALITY, 95):
            data = encode_jpeg(photo, quality)
            searched = partial(_decode_and_search, data, finder)
            spent[f"decode and search a {name} JPEG of {len(data) // 1000} kB"] = _median_ms(
                searched, repeats
            )
    return spent


def draw_refused_photos(result: EndToEndResult, photos: Sequence[Photo], path: Path) -> int:
    """Draws the first MAX_TILES refused photos into a PNG, and returns how many were refused."""
    refused = [photo for photo in photos if result.codes.get(photo.file, "face") != "face"]
    tiles = [_tile(photo.path, result.codes[photo.file]) for photo in refused[:MAX_TILES]]
    write_contact_sheet(path, tiles, columns=8)
    return len(refused)


def _shows_an_eye(pixels: Image, photo: Photo) -> bool:
    if photo.eyes is None or (photo.label_spread or 0.0) > MAX_LABEL_SPREAD:
        return False
    right, left = photo.eyes
    face, _ = align_face(pixels, right, left, FACE_SIZE)
    crops = np.stack([crop_eye(pixels, eye, EYE_SIZE) for eye in eyes_from_points(right, left)])
    return any(usable_eyes(face, crops))


def _answer(pipeline: Pipeline, data: bytes) -> str:
    try:
        pipeline.synthesize(data, SynthesisOptions())
    except (ImageError, NoEyeFound, EyeRefused) as error:
        return error.code
    return "face"


def _apart(eyes: Sequence[Eye], others: Sequence[Eye]) -> list[float]:
    found = []
    for eye in eyes:
        distance = eye.size_px / CROP_PER_EYE_DISTANCE
        offs = [math.dist((eye.x, eye.y), (each.x, each.y)) for each in others if each.side == eye.side]
        if offs and min(offs) < SAME_EYE_DISTANCE * distance:
            found.append(min(offs) / distance)
    return found


def _median_ms(work: Callable[[], object], repeats: int) -> float:
    work()
    times = []
    for _ in range(repeats):
        begin = time.thread_time()
        work()
        times.append((time.thread_time() - begin) * 1000)
    return float(np.median(times))


def _decode_and_search(data: bytes, finder: EyeFinder) -> EyeDetections:
    return ServedPhoto(data, max_pixels=MAX_PIXELS).detect(finder)


def _astronaut_before_a_wall(height: int, width: int) -> Image:
    rng = np.random.default_rng(0)
    coarse = rng.integers(60, 200, (9, 16, 3), np.uint8)
    wall = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    side = round(0.9 * height)
    astronaut: Image = skimage.data.astronaut()  # type: ignore[no-untyped-call]
    person = cv2.resize(astronaut, (side, side), interpolation=cv2.INTER_CUBIC)
    wall[height - side :, (width - side) // 2 : (width - side) // 2 + side] = person
    grain = np.tile(rng.normal(0, 3, (100, 100, 3)), (-(-height // 100), -(-width // 100), 1))
    return np.clip(wall + grain[:height, :width], 0, 255).astype(np.uint8)


def _tile(path: Path, text: str, side: int = 200) -> Image:
    stored = cv2.imread(str(path))
    assert stored is not None
    pixels = cv2.cvtColor(stored, cv2.COLOR_BGR2RGB)
    scale = side / max(pixels.shape[:2])
    small = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    tile = np.zeros((side, side, 3), np.uint8)
    tile[: small.shape[0], : small.shape[1]] = small[:side, :side]
    cv2.putText(tile, text, (4, side - 6), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (255, 255, 0), 1, cv2.LINE_AA)
    return tile
