"""Pictures that show no human eye: scikit-image's, and the parts of photos beside and below the only person.

Those of scikit-image that show a face (astronaut, camera, coins) are left out; the others are divided into
pictures to learn from and pictures to measure false eyes on.
"""

from collections.abc import Iterable, Iterator

import cv2
import numpy as np
import skimage.data

from service.eyes import Image
from training.finder_labels import LabelledPhoto

TRAINED = (
    *("brick", "cell", "checkerboard", "colorwheel", "grass", "horse", "immunohistochemistry", "logo"),
    *("microaneurysms", "page", "retina", "rocket", "shepp_logan_phantom", "stereo_motorcycle"),
)
MEASURED = ("chelsea", "clock", "coffee", "gravel", "hubble_deep_field", "moon", "text")

SMALLEST_PART_PX = 56


def packaged(names: Iterable[str]) -> list[Image]:
    """Pictures that ship with scikit-image, as H x W x 3 uint8, at most 640 px long."""
    return [_as_picture(getattr(skimage.data, name)()) for name in names]


def parts_without_people(photos: Iterable[LabelledPhoto]) -> Iterator[Image]:
    """The pixels left, right and below of the only person of a photo, as far as they are large enough."""
    for photo in photos:
        if len(photo.people) != 1 or photo.kind == "several-faces":
            continue
        (person,) = photo.people
        reach = 2.3 * person.distance
        left, right = person.points[:, 0].min() - reach, person.points[:, 0].max() + reach
        below = person.points[:, 1].max() + reach
        whole = photo.pixels
        for part in (whole[:, : max(0, int(left))], whole[:, int(right) :], whole[int(below) :]):
            if min(part.shape[:2]) >= SMALLEST_PART_PX:
                yield np.ascontiguousarray(part)


def _as_picture(stored: object) -> Image:
    pixels = np.asarray(stored[0] if isinstance(stored, tuple) else stored)
    if pixels.dtype != np.uint8:
        pixels = (pixels.astype(np.float64) / max(1e-9, float(pixels.max())) * 255).astype(np.uint8)
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, axis=2)
    pixels = np.ascontiguousarray(pixels[..., :3])
    shrink = min(1.0, 640 / max(pixels.shape[:2]))
    if shrink < 1:
        pixels = cv2.resize(pixels, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
    return np.asarray(pixels, dtype=np.uint8)
