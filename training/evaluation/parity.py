"""Parity of training and serving: how the eye finder and a decode at a reduced scale change crops and faces.

On the same pixels and the same `Eye` both crop the same bytes (a test holds that). In serving the
eye comes from a finder, not from a label, and a large JPEG is decoded at a part of its size; here
both are measured, on labeled photos, as far as the drawn face.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from service.inference.synthesizer import Synthesizer
from service.vision import images
from service.vision.eyes import CROP_PER_EYE_DISTANCE, Eye, EyeFinder, crop_eye, eyes_from_points
from service.vision.images import Image, decode, read_header
from service.vision.photo import Photo
from training.data.photos import SourcePhoto
from training.data.prepare import MAX_PIXELS, read_pixels
from training.errors import DataError

FOUND_WITHIN = 0.25
"""A found eye belongs to a label of its side within this part of the eye distance."""

ENLARGED = 8
"""Photos are enlarged so many times to make their decode at a reduced scale worthwhile."""


@dataclass(frozen=True, slots=True)
class Parity:
    """Medians over labeled eyes; distances in eye distances, differences in levels of 255.

    eyes_found: part of the labeled eyes that the finder finds.
    center, roll_deg, size: how far the found eye is from its label; size as a part of the label's.
    crop_by_finder, face_by_finder: mean absolute difference of crop and drawn face to those of the label.
    crop_by_decode, face_by_decode: the same for one and the same eye at the reduced scale.
    """

    num_photos: int
    eyes_found: float
    center: float
    roll_deg: float
    size: float
    crop_by_finder: float
    face_by_finder: float
    crop_by_decode: float
    face_by_decode: float


def measure_parity(photos: Sequence[SourcePhoto], finder: EyeFinder, model: Path) -> Parity:
    """The parity of serving with training on labeled photos, faces drawn by the model's file.

    Raises:
        ModelError: the file is no model of the service's contract.
        DataError: a photo is of `train`, none is labeled, or the finder finds none of the eyes.
    """
    if any(photo.split == "train" for photo in photos):
        raise DataError("photos of `train` say nothing: the eye finder may have learned from them")
    draw = Synthesizer.load(model, device="cpu")
    eye_size = draw.info.eye_size
    labeled = [photo for photo in photos if photo.eyes is not None]
    by_finder: list[tuple[float, ...]] = []
    by_decode: list[tuple[float, float]] = []
    for photo in tqdm(labeled, desc="parity"):
        assert photo.eyes is not None
        pixels = read_pixels(photo)
        found, enlarged = finder.detect(pixels).eyes, _enlarge(pixels)
        for label in eyes_from_points(*photo.eyes):
            match = _match(label, found)
            if match is not None:
                by_finder.append(_by_finder(pixels, label, match, draw, eye_size))
            by_decode.append(_by_decode(enlarged, label, draw, eye_size))
    if not by_finder:
        raise DataError(f"the finder finds none of the labeled eyes in {len(labeled)} photos")
    center, roll, size, crop, face = np.median(by_finder, axis=0).tolist()
    part_found = len(by_finder) / len(by_decode)
    decoded_crop, decoded_face = np.median(by_decode, axis=0).tolist()
    return Parity(len(labeled), part_found, center, roll, size, crop, face, decoded_crop, decoded_face)


def _match(label: Eye, found: Sequence[Eye]) -> Eye | None:
    distance_px = label.size_px / CROP_PER_EYE_DISTANCE
    near = [eye for eye in found if eye.side == label.side]
    near = [eye for eye in near if math.dist((eye.x, eye.y), (label.x, label.y)) < FOUND_WITHIN * distance_px]
    return min(near, key=lambda eye: math.dist((eye.x, eye.y), (label.x, label.y)), default=None)


def _by_finder(pixels: Image, label: Eye, found: Eye, draw: Synthesizer, eye_size: int) -> tuple[float, ...]:
    crops = np.stack([crop_eye(pixels, eye, eye_size) for eye in (label, found)])
    return (
        math.dist((found.x, found.y), (label.x, label.y)) / (label.size_px / CROP_PER_EYE_DISTANCE),
        abs(found.roll_deg - label.roll_deg),
        abs(found.size_px / label.size_px - 1),
        *_differences(crops, draw),
    )


def _enlarge(pixels: Image) -> bytes:
    large = cv2.resize(pixels, None, fx=ENLARGED, fy=ENLARGED, interpolation=cv2.INTER_CUBIC)
    return images.encode(np.asarray(large, dtype=np.uint8), "jpeg")


def _by_decode(enlarged: bytes, label: Eye, draw: Synthesizer, eye_size: int) -> tuple[float, float]:
    eye = label.scaled(ENLARGED)
    whole = crop_eye(decode(enlarged, read_header(enlarged, max_pixels=MAX_PIXELS)), eye, eye_size)
    served = Photo(enlarged, max_pixels=MAX_PIXELS).crop(eye, eye_size)
    return _differences(np.stack([whole, served]), draw)


def _differences(crops_BHWC: Image, draw: Synthesizer) -> tuple[float, float]:
    crops = crops_BHWC.astype(np.int16)
    faces = draw(crops_BHWC).astype(np.int16)
    return float(np.abs(crops[0] - crops[1]).mean()), float(np.abs(faces[0] - faces[1]).mean())
