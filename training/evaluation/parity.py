"""Parity of training and serving: how the eye finder and a decode at a reduced scale change crops and faces.

On the same pixels and the same `Eye` both crop the same bytes (a test holds that). In serving the
eye comes from a finder, not from a label, and a large JPEG is decoded at a part of its size; here
both are measured, on labeled photos, as far as the drawn face.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from service.inference.synthesizer import Synthesizer
from service.vision import images
from service.vision.eyes import CROP_PER_EYE_DISTANCE, Eye, EyeFinder, Photo, crop_eye, eyes_from_points
from service.vision.images import Image, decode, read_header
from training.data.photos import SourcePhoto
from training.data.prepare import MAX_PIXELS, read_pixels
from training.errors import DataError

FOUND_WITHIN = 0.25
"""A found eye belongs to a label of its side within this part of the eye distance."""

ENLARGED = 8
"""Photos are enlarged so many times to make their decode at a reduced scale worthwhile."""


Numbers = dict[str, float]


def measure_parity(photos: Sequence[SourcePhoto], finder: EyeFinder, model: Path) -> Numbers:
    """How far serving is from training on labeled photos, faces drawn by the model's file: medians over eyes.

    eyes_found: part of the labeled eyes that the finder finds.
    center, roll_deg, size: how far the found eye is from its label, in eye distances, degrees and parts.
    crop_by_finder, face_by_finder: mean difference of crop and drawn face to those of the label, of 255.
    crop_by_decode, face_by_decode: the same for one and the same eye at the reduced scale.

    Raises:
        ModelError: the file is no model of the service's contract.
        DataError: a photo is of `train`, none is labeled, or the finder finds none of the eyes.
    """
    if any(photo.split == "train" for photo in photos):
        raise DataError("photos of `train` say nothing: the eye finder may have learned from them")
    draw = Synthesizer.load(model, device="cpu")
    labeled = [photo for photo in photos if photo.eyes is not None]
    by_finder: list[Numbers] = []
    by_decode: list[Numbers] = []
    for photo in tqdm(labeled, desc="parity"):
        assert photo.eyes is not None
        pixels = read_pixels(photo)
        found = finder.detect(pixels).eyes
        large = cv2.resize(pixels, None, fx=ENLARGED, fy=ENLARGED, interpolation=cv2.INTER_CUBIC)
        enlarged = images.encode(np.asarray(large, dtype=np.uint8), "jpeg")
        for label in eyes_from_points(*photo.eyes):
            match = _match(label, found)
            if match is not None:
                by_finder.append(_by_finder(pixels, label, match, draw))
            by_decode.append(_by_decode(enlarged, label, draw))
    if not by_finder:
        raise DataError(f"the finder finds none of the labeled eyes in {len(labeled)} photos")
    counts = {"num_photos": len(labeled), "eyes_found": len(by_finder) / len(by_decode)}
    return counts | _medians(by_finder) | _medians(by_decode)


def _match(label: Eye, found: Sequence[Eye]) -> Eye | None:
    near = [eye for eye in found if eye.side == label.side and _apart(eye, label) < FOUND_WITHIN]
    return min(near, key=lambda eye: _apart(eye, label), default=None)


def _apart(eye: Eye, label: Eye) -> float:
    """From center to center, in eye distances."""
    return math.dist((eye.x, eye.y), (label.x, label.y)) / (label.size_px / CROP_PER_EYE_DISTANCE)


def _by_finder(pixels: Image, label: Eye, found: Eye, draw: Synthesizer) -> Numbers:
    crop, face = _differences([crop_eye(pixels, eye, draw.info.eye_size) for eye in (label, found)], draw)
    return {
        "center": _apart(found, label),
        "roll_deg": abs(found.roll_deg - label.roll_deg),
        "size": abs(found.size_px / label.size_px - 1),
        "crop_by_finder": crop,
        "face_by_finder": face,
    }


def _by_decode(enlarged: bytes, label: Eye, draw: Synthesizer) -> Numbers:
    eye, size = label.scaled(ENLARGED), draw.info.eye_size
    whole = crop_eye(decode(enlarged, read_header(enlarged, max_pixels=MAX_PIXELS)), eye, size)
    served = Photo(enlarged, max_pixels=MAX_PIXELS).crop(eye, size)
    crop, face = _differences([whole, served], draw)
    return {"crop_by_decode": crop, "face_by_decode": face}


def _differences(two_crops: Sequence[Image], draw: Synthesizer) -> tuple[float, float]:
    crops = np.stack(two_crops)
    differences = (np.abs(np.diff(each.astype(np.int16), axis=0)).mean() for each in (crops, draw(crops)))
    crop, face = (float(each) for each in differences)
    return crop, face


def _medians(measured: Sequence[Numbers]) -> Numbers:
    return {name: float(np.median([each[name] for each in measured])) for name in measured[0]}
