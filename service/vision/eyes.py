"""A photo and the eyes in it: detected by a finder, measured, and cut out as aligned squares.

Coordinates are OpenCV's: the center of the top left pixel is (0, 0), y points down. `left` and `right` are
the subject's: in the picture the right eye is at the left.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from service.observability.stage_timer import StageTimer
from service.vision.images import Image, Reduce, decode, estimate_decode_bytes, read_header

Side = Literal["left", "right"]

CROP_VERSION = 1
"""Raised whenever the same photo and eye give another crop; models of another version are refused."""

CROP_PER_EYE_DISTANCE = 0.62
"""Side of the crop over the distance between the eyes."""

MEASURED_PX = 12
"""Side of the crop that is measured, the same for eyes of any size; a pupil is an eighth of it.

Of 12, 16 and 20 px this side separates sharp from blurred eyes best where the eye has 8 to 20 px.
"""

_REBLUR_PX = 5
"""Width of the second blur: wider than the details of a sharp eye, narrower than those of a blurred one."""

_ROUNDING = 0.5
"""Differences below half a gray level are rounding; they would make a dark blurred eye look sharp."""


_REDUCES: tuple[Reduce, ...] = (8, 4, 2, 1)

_FLIPPED_X, _FLIPPED_Y = (2, 3, 6, 7), (3, 4, 7, 8)
"""EXIF orientations whose first stored column or row becomes the upright last column or row."""


@dataclass(frozen=True, slots=True)
class Eye:
    """One eye in an upright photo: center and side of its crop in pixels, head roll in degrees clockwise."""

    x: float
    y: float
    size_px: float
    roll_deg: float
    side: Side
    score: float = 1.0
    person: int = 0

    def scaled(self, scale: float, *, left: float = 0.0, top: float = 0.0) -> "Eye":
        """The eye in the same picture with `scale` times as many pixels along each side.

        That picture begins `left` and `top` pixels of this one further out.
        """
        x, y = (self.x + left + 0.5) * scale - 0.5, (self.y + top + 0.5) * scale - 0.5
        # `replace` takes twice as long, and eyes are scaled several times a photo.
        return Eye(x, y, self.size_px * scale, self.roll_deg, self.side, self.score, self.person)


@dataclass(frozen=True, slots=True)
class Quality:
    """Measures of how well an eye can be seen.

    `size_px`: side of the crop in pixels of the photo. `sharpness`: the share of gray-level differences that
    a second blur removes, 0 (blurred) to 1; open eyes in portraits have 0.5 to 0.7. `brightness`: mean of the
    gray crop. `contrast`: its 95th less its 5th percentile. `light`: its 95th percentile, which depends less
    on skin color than the mean does. All three from 0 to 1. `tilt_deg`: head roll, clockwise.

    Source: sharpness after Crété-Roffet et al., 2007, "The blur effect: perception and estimation with a
    new no-reference perceptual blur metric", both directions taken together.
    """

    size_px: float
    sharpness: float
    brightness: float
    contrast: float
    light: float
    tilt_deg: float


@dataclass(frozen=True, slots=True)
class EyeDetections:
    """The eyes of all people in a photo, and candidates below the threshold (None: the finder has none)."""

    eyes: list[Eye]
    below_threshold: list[Eye] | None = None


class EyeFinder(Protocol):
    """An eye detector; may be shared by threads."""

    @property
    def input_side_px(self) -> int:
        """Longest side of a photo that the finder uses; it scales larger ones down."""

    def detect(self, photo: Image) -> EyeDetections:
        """Eyes in pixels of `photo` (H x W x 3 uint8 RGB), people largest first; empty if none."""


class Photo:
    """One photo of untrusted bytes, decoded at the coarsest sufficient scale, and finer only for small eyes.

    Callers see eyes in pixels of the upright photo at full size; scales stay inside. Each is decoded at most
    once. Source of the scales: libjpeg decodes at 1/2, 1/4 and 1/8 in the DCT domain.
    """

    def __init__(self, data: bytes, *, max_pixels: int, timer: StageTimer | None = None) -> None:
        """Reads the header alone.

        Raises:
            ImageError: the bytes are not a picture that can be used.
        """
        self._data = data
        self._header = read_header(data, max_pixels=max_pixels)
        self.decoded: dict[Reduce, Image] = {}
        self.width = self._header.upright_width
        self.height = self._header.upright_height
        self.num_bytes = estimate_decode_bytes(self._header)
        """Upper bound of the memory that its pixels take."""
        self.timer = timer or StageTimer()

    def detect(self, finder: EyeFinder) -> EyeDetections:
        """What the finder sees at the coarsest scale that has all the pixels it can use."""
        reduce = self.detection_reduce(finder)
        left, top = self._overhang(reduce)

        def at_full_size(eye: Eye) -> Eye:
            return eye.scaled(reduce, left=-left / reduce, top=-top / reduce)

        found = finder.detect(self.pixels(reduce))
        below = found.below_threshold
        eyes = [at_full_size(eye) for eye in found.eyes]
        self.timer.end("find")
        return EyeDetections(eyes, below and [at_full_size(eye) for eye in below])

    def detection_reduce(self, finder: EyeFinder) -> Reduce:
        """The scale at which `detect` shows the photo to the finder."""
        return self.coarsest_reduce(finder.input_side_px)

    def crop(self, eye: Eye, size: int) -> Image:
        """The eye, size x size x 3, from pixels at least as fine as the crop, where the photo has them."""
        pixels, eye = self._fine_enough(eye, size)
        crop = crop_eye(pixels, eye, size)
        self.timer.end("crop")
        return crop

    def measure(self, eyes: Sequence[Eye], size: int = MEASURED_PX) -> list[Quality]:
        """Quality of each eye, from pixels as fine as a crop of `size` needs, if one is to follow."""
        return [measure_quality(*self._fine_enough(eye, size), size_px=eye.size_px) for eye in eyes]

    def pixels(self, reduce: Reduce) -> Image:
        """The photo decoded at 1/`reduce`."""
        if reduce not in self.decoded:
            self.decoded[reduce] = decode(self._data, self._header, reduce=reduce)
            self.timer.end("decode")
        return self.decoded[reduce]

    def at_scale(self, eye: Eye, reduce: Reduce) -> Eye:
        """An eye of the full-size photo in pixels of 1/`reduce`."""
        left, top = self._overhang(reduce)
        return eye.scaled(1 / reduce, left=left, top=top)

    def _overhang(self, reduce: Reduce) -> tuple[int, int]:
        """Full-size pixels by which the picture at 1/`reduce` begins left of and above the upright photo.

        JPEG scaling averages blocks from the stored top left; where a side does not divide, the last block
        reaches beyond the picture. Orientations that flip an axis put that block first.
        """
        left = -self.width % reduce * (self._header.orientation in _FLIPPED_X)
        return left, -self.height % reduce * (self._header.orientation in _FLIPPED_Y)

    def _fine_enough(self, eye: Eye, size: float) -> tuple[Image, Eye]:
        """The coarsest pixels that give the eye `size` of them, or finer ones at hand; the eye in them."""
        reduce = self._coarsest(eye.size_px, size)
        reduce = max([each for each in self.decoded if each <= reduce], default=reduce)
        return self.pixels(reduce), self.at_scale(eye, reduce)

    def coarsest_reduce(self, long_side_px: float) -> Reduce:
        """The coarsest scale at which the long side keeps so many pixels."""
        return self._coarsest(max(self.width, self.height), long_side_px)

    def _coarsest(self, length_px: float, needed_px: float) -> Reduce:
        """The coarsest scale at which a full-size length keeps `needed_px`; only JPEG has more than one."""
        if self._header.format != "jpeg":
            return 1
        for reduce in _REDUCES:
            if length_px / reduce >= needed_px:
                return reduce
        return 1


def eyes_from_points(
    right: tuple[float, float], left: tuple[float, float], *, score: float = 1.0, person: int = 0
) -> tuple[Eye, Eye]:
    """The right and the left eye of one person from their centers, in pixels."""
    dx, dy = left[0] - right[0], left[1] - right[1]
    size_px = CROP_PER_EYE_DISTANCE * math.hypot(dx, dy)
    roll_deg = math.degrees(math.atan2(dy, dx))
    return (
        Eye(*right, size_px, roll_deg, "right", score, person),
        Eye(*left, size_px, roll_deg, "left", score, person),
    )


def crop_eye(photo: Image, eye: Eye, size: int, *, context: float = 1.0) -> Image:
    """The eye as an upright size x size x 3 uint8 square, a left eye mirrored to look like a right one.

    `context` widens the square around the same center: training cuts its jittered crops from a wider one.
    Beyond the photo its border is replicated.

    Raises:
        ValueError: the eye's size is not positive.
    """
    if not eye.size_px > 0 or not context > 0:
        raise ValueError(f"an eye of {eye.size_px} px (context {context}) cannot be cropped")
    side_px = eye.size_px * context
    # Anti-aliasing: linear interpolation reads 2 x 2 pixels, so it may shrink by 2 at most. Larger squares
    # are shrunk by area first, sampled at twice the size, and averaged.
    shrink = min(1.0, 2 * size / side_px)
    region, center = _region_around(photo, eye, side_px, shrink)
    if side_px <= size:
        return _warp(region, center, eye, side_px, size)
    twice = _warp(region, center, eye, side_px * shrink, 2 * size)
    return np.asarray(cv2.resize(twice, (size, size), interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _warp(photo: Image, center: tuple[float, float], eye: Eye, side_px: float, size: int) -> Image:
    """The square of `side_px` around the center, as the eye is turned, sampled at size x size points."""
    step = side_px / size
    cos, sin = math.cos(math.radians(eye.roll_deg)) * step, math.sin(math.radians(eye.roll_deg)) * step
    flip = -1.0 if eye.side == "left" else 1.0
    middle = (size - 1) / 2
    # From pixel (u, v) of the crop to the photo: rotation by the roll, mirrored along u for a left eye.
    crop_to_photo = np.array(
        [
            [flip * cos, -sin, center[0] - flip * cos * middle + sin * middle],
            [flip * sin, cos, center[1] - flip * sin * middle - cos * middle],
        ]
    )
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    warped = cv2.warpAffine(photo, crop_to_photo, (size, size), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(warped, dtype=np.uint8)


def _region_around(
    photo: Image, eye: Eye, side_px: float, shrink: float
) -> tuple[Image, tuple[float, float]]:
    """The region of the photo that the square touches, shrunk by area, and the eye's center in its pixels."""
    height, width = photo.shape[:2]
    reach = side_px * math.sqrt(0.5) + 2 / shrink
    left = max(0, min(width - 1, math.floor(eye.x - reach)))
    top = max(0, min(height - 1, math.floor(eye.y - reach)))
    right = max(left + 1, min(width, math.ceil(eye.x + reach) + 1))
    bottom = max(top + 1, min(height, math.ceil(eye.y + reach) + 1))
    region = photo[top:bottom, left:right]
    if shrink == 1.0:
        return region, (eye.x - left, eye.y - top)
    new_width = max(1, round(region.shape[1] * shrink))
    new_height = max(1, round(region.shape[0] * shrink))
    small = cv2.resize(region, (new_width, new_height), interpolation=cv2.INTER_AREA)
    x = (eye.x - left + 0.5) * new_width / region.shape[1] - 0.5
    y = (eye.y - top + 0.5) * new_height / region.shape[0] - 0.5
    return np.asarray(small, dtype=np.uint8), (x, y)


def measure_quality(photo: Image, eye: Eye, *, size_px: float | None = None) -> Quality:
    """The quality of the eye in `photo`; `size_px` is its full size, if the photo is decoded at less."""
    crop = crop_eye(photo, eye, MEASURED_PX)
    gray = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY).astype(np.float32)
    levels = np.sort(gray, axis=None)  # np.percentile takes ten times as long for so few
    ends = np.interp((0.05 * (levels.size - 1), 0.95 * (levels.size - 1)), np.arange(levels.size), levels)
    dark, bright = float(ends[0]) / 255, float(ends[1]) / 255
    return Quality(
        size_px=eye.size_px if size_px is None else size_px,
        sharpness=_sharpness(gray),
        brightness=float(gray.mean()) / 255,
        contrast=bright - dark,
        light=bright,
        tilt_deg=eye.roll_deg,
    )


def _sharpness(gray: NDArray[np.float32]) -> float:
    """The share of the differences between neighboring pixels that a second blur removes."""
    changes, lost = 0.0, 0.0
    for axis, kernel in ((1, (_REBLUR_PX, 1)), (0, (1, _REBLUR_PX))):
        blurred = cv2.blur(gray, kernel, borderType=cv2.BORDER_REPLICATE)
        before, after = _steps(gray, axis), _steps(blurred, axis)
        changes += float(before.sum())
        lost += float(np.maximum(0, before - after - _ROUNDING).sum())
    return lost / changes if changes else 0.0


def _steps(gray: NDArray[Any], axis: int) -> NDArray[Any]:
    """How much neighbors along an axis differ; with np.diff it takes almost twice as long for so few."""
    steps: NDArray[Any] = np.abs(gray[:, 1:] - gray[:, :-1] if axis else gray[1:] - gray[:-1])
    return steps
