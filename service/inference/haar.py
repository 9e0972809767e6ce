"""The eye finder by OpenCV's Haar cascades: faces first, then the right and the left eye in each face."""

import math
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from service.vision.eyes import CROP_PER_EYE_DISTANCE, Eye, EyeDetections, Side, eyes_from_points
from service.vision.images import Image

_FIRST_SIDE_PX, _MIN_FACE_PX = 640, 30
_SECOND_SIDE_PX, _SECOND_MIN_FACE_PX = 1280, 45
_ROTATIONS_DEG = (20.0, -20.0)


class HaarEyeFinder:
    """OpenCV's Haar cascades as an eye finder, for uncovered, near frontal faces; may be shared by threads.

    It searches the photo at 640 px and, until a pair of eyes is found, with its histogram equalized, rotated
    by 20 degrees to either side, and at 1280 px.

    An eye's score is the cascade's weight over MAX_WEIGHT, at most 1: it ranks eyes and is no probability.
    """

    input_side_px = _SECOND_SIDE_PX

    def __init__(self) -> None:
        self._cascades = _Cascades()

    def detect(self, photo: Image) -> EyeDetections:
        """Eyes in pixels of `photo` (H x W x 3 uint8 RGB), people largest first; empty if none."""
        gray = np.asarray(cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY), dtype=np.uint8)
        best: list[list[Eye]] = []
        for views in _views(gray):
            best = max([best, *(self._people(view) for view in views)], key=_total_score)
            if any(len(eyes) == 2 for eyes in best):  # one eye alone may be of a head that is tilted
                break
        best.sort(key=lambda eyes: -max(eye.size_px for eye in eyes))
        return EyeDetections([replace(eye, person=n) for n, eyes in enumerate(best) for eye in eyes])

    def _people(self, view: "_View") -> list[list[Eye]]:
        faces = self._cascades.face.detectMultiScale(view.gray, 1.1, 3, minSize=(view.min_face_px,) * 2)
        people = (_eyes_in_face(view.gray, tuple(map(int, face)), self._cascades) for face in faces)
        return [[view.in_photo(eye) for eye in eyes] for eyes in people if eyes]


_FACE_WIDTH_PX = 220
"""Faces are brought to this width before their eyes are looked for: at 120 px 4 % fewer are found."""

_EYE_DISTANCE_PER_BOX = 1.66
_BOX_MINUS_EYE = {"right": (0.049, -0.114), "left": (0.027, -0.115)}
"""How the boxes of the eye cascades lie around an eye, in widths of the box.

Fitted on 589 labeled training faces that the face cascade found (up to 60 of each of ten sources; labels
that agree within 0.08 eye distances): medians over boxes within 0.2 of the label. The spread left is 0.04 eye
distances along each axis and 9 % of the size; where both are found their distance gives the size.
"""

_EYE_REGIONS = {"right": (0.08, 0.18, 0.52, 0.62), "left": (0.48, 0.18, 0.92, 0.62)}
"""Left, top, right and bottom of where an eye may be, in parts of the face's box."""

_PLAUSIBLE_DISTANCE = (0.25, 0.55)  # of two eyes, over the face's box; 0.39 at the median of these faces

MAX_WEIGHT = 6.0  # about the largest that the eye cascades give; the median of true eyes is 3.8


@dataclass(frozen=True, slots=True)
class _View:
    """The photo in gray, resized and rotated by `rotated_deg` anticlockwise, and the affine map back."""

    gray: Image
    to_photo: NDArray[np.float64]  # 2 x 3
    min_face_px: int
    rotated_deg: float = 0.0

    def in_photo(self, eye: Eye) -> Eye:
        x, y = self.to_photo @ (eye.x, eye.y, 1.0)
        size_px = eye.size_px * math.hypot(*self.to_photo[:, 0])
        return replace(eye, x=float(x), y=float(y), size_px=size_px, roll_deg=eye.roll_deg + self.rotated_deg)


class _Cascades(threading.local):  # loaded once a thread: OpenCV's cascades may not be shared
    def __init__(self) -> None:
        self.face = _load_cascade("haarcascade_frontalface_alt2.xml")
        self.right = _load_cascade("haarcascade_righteye_2splits.xml")
        self.left = _load_cascade("haarcascade_lefteye_2splits.xml")


def _load_cascade(name: str) -> cv2.CascadeClassifier:
    cascade = cv2.CascadeClassifier(str(Path(cv2.__file__).parent / "data" / name))
    assert not cascade.empty(), f"OpenCV {cv2.__version__} does not ship {name}"
    return cascade


def _views(gray: Image) -> Iterator[list[_View]]:
    """Views of the photo in the order of search; of several at once the best counts."""
    small = _resized(gray, _FIRST_SIDE_PX, _MIN_FACE_PX)
    yield [small]
    yield [replace(small, gray=np.asarray(cv2.equalizeHist(small.gray), dtype=np.uint8))]
    yield [_rotated(small, degrees) for degrees in _ROTATIONS_DEG]
    if max(gray.shape) > _FIRST_SIDE_PX:
        yield [_resized(gray, _SECOND_SIDE_PX, _SECOND_MIN_FACE_PX)]


def _resized(gray: Image, long_side_px: int, min_face_px: int) -> _View:
    height, width = gray.shape
    shrink = min(1.0, long_side_px / max(height, width))
    size = (max(1, round(width * shrink)), max(1, round(height * shrink)))
    small = gray if shrink == 1.0 else cv2.resize(gray, size, interpolation=cv2.INTER_AREA)
    x, y = width / size[0], height / size[1]
    to_photo = np.array([[x, 0.0, (x - 1) / 2], [0.0, y, (y - 1) / 2]])
    return _View(np.asarray(small, dtype=np.uint8), to_photo, min_face_px)


def _rotated(view: _View, degrees: float) -> _View:
    height, width = view.gray.shape
    rotation = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1.0)
    cos, sin = abs(rotation[0, 0]), abs(rotation[0, 1])
    size = (math.ceil(width * cos + height * sin), math.ceil(width * sin + height * cos))
    rotation[:, 2] += (size[0] - width) / 2, (size[1] - height) / 2
    rotated = cv2.warpAffine(
        view.gray, rotation, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    back = np.vstack([cv2.invertAffineTransform(rotation), (0.0, 0.0, 1.0)])
    return _View(np.asarray(rotated, dtype=np.uint8), view.to_photo @ back, view.min_face_px, degrees)


def _eyes_in_face(gray: Image, face: tuple[int, ...], cascades: _Cascades) -> list[Eye]:
    """The right and the left eye in pixels of `gray`, or one of them, or none."""
    right = _eye_in_face(gray, face, cascades.right, "right")
    left = _eye_in_face(gray, face, cascades.left, "left")
    if right is None or left is None:
        return [eye for eye in (right, left) if eye is not None]
    pair = eyes_from_points((right.x, right.y), (left.x, left.y))
    low, high = _PLAUSIBLE_DISTANCE
    if low * face[2] <= math.hypot(left.x - right.x, left.y - right.y) <= high * face[2]:
        return [replace(pair[0], score=right.score), replace(pair[1], score=left.score)]
    return [max(right, left, key=lambda eye: eye.score)]


def _eye_in_face(
    gray: Image, face: tuple[int, ...], cascade: cv2.CascadeClassifier, side: Side
) -> Eye | None:
    x, y, width, _ = face
    left, top, right, bottom = (round(part * width) for part in _EYE_REGIONS[side])
    region = gray[max(0, y + top) : y + bottom, max(0, x + left) : x + right]
    scale = _FACE_WIDTH_PX / width
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    region = np.asarray(cv2.resize(region, None, fx=scale, fy=scale, interpolation=interpolation), np.uint8)
    smallest, largest = round(0.14 * _FACE_WIDTH_PX), round(0.4 * _FACE_WIDTH_PX)
    boxes, _, weights = cascade.detectMultiScale3(
        region, 1.1, 2, minSize=(smallest, smallest), maxSize=(largest, largest), outputRejectLevels=True
    )
    if len(boxes) == 0:
        return None
    best = int(np.argmax(weights))
    box_x, box_y, box, _ = (float(value) / scale for value in boxes[best])
    dx, dy = _BOX_MINUS_EYE[side]
    return Eye(
        x=max(0, x + left) + box_x + box * (0.5 - dx) - 0.5,
        y=max(0, y + top) + box_y + box * (0.5 - dy) - 0.5,
        size_px=CROP_PER_EYE_DISTANCE * _EYE_DISTANCE_PER_BOX * box,
        roll_deg=0.0,
        side=side,
        score=min(1.0, max(0.0, float(np.ravel(weights)[best]) / MAX_WEIGHT)),
    )


def _total_score(people: list[list[Eye]]) -> float:
    return sum(eye.score for eyes in people for eye in eyes)
