"""Photometric and geometric augmentation: eye crops and photos as worse cameras and other moments give them.

Everything random comes from the generator that is passed. Pictures are H x W x 3 uint8 RGB and never changed
in place. What is drawn over a face is in `training.finder.occlusions`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from service.vision.images import Image

Rng = np.random.Generator

EyeTransform = Callable[[Image, int, Rng], Image]
"""A size x size x 3 eye from the wider crop around it, changed at random."""

NOISE_TILE = (67, 71)


@dataclass(frozen=True, slots=True)
class Jitter:
    """How far an eye crop is moved and degraded; an `EyeTransform`.

    `turn_deg`, `shift` (parts of the side), `zoom` and `gamma` (log2) are uniform within ± the value;
    `blur`, `noise` and `small` are the probabilities that an eye is blurred, made noisy, and shown as if from
    fewer pixels (12 at least).
    """

    turn_deg: float = 8.0
    shift: float = 0.05
    zoom: float = 0.15
    gamma: float = 0.25
    blur: float = 0.15
    noise: float = 0.25
    small: float = 0.25

    def __call__(self, wide: Image, size: int, rng: Rng) -> Image:
        """A size x size x 3 crop from the middle of `wide`, moved and degraded at random."""
        turn_deg = rng.uniform(-self.turn_deg, self.turn_deg)
        step = 1 + rng.uniform(-self.zoom, self.zoom)
        shift_x, shift_y = rng.uniform(-self.shift, self.shift, 2) * size
        eye = crop_rotated(wide, size, turn_deg, step=step, shift=(shift_x, shift_y))
        if rng.random() < self.small:
            eye = lower_resolution(eye, int(rng.uniform(12, size)))
        if rng.random() < self.blur:
            eye = blur(eye, rng.uniform(0.4, 1.5))
        gamma, gain = (2 ** rng.uniform(-self.gamma, self.gamma) for _ in range(2))
        eye = adjust_tone(eye, gain=gain, gamma=gamma)
        if rng.random() < self.noise:
            eye = add_noise(eye, rng.uniform(1, 8), rng)
        return eye


def degrade_photo(photo: Image, rng: Rng, *, mild: bool = False) -> Image:
    """The photo in other light and from a poor camera; `mild` spares detail, for small eyes."""
    photo = _relight(photo, rng)
    strength = 0.5 if mild else 1.0
    if rng.random() < 0.15:
        photo = blur(photo, rng.uniform(0.4, 2.0 * strength))
    if rng.random() < 0.12:
        photo = motion_blur(photo, rng.uniform(2, 2 + 8 * strength), rng.uniform(0, math.pi))
    if rng.random() < 0.15:
        width = round(photo.shape[1] / rng.uniform(1.2, 1 + 2 * strength))
        photo = lower_resolution(photo, width, interpolation=int(rng.choice([0, 1, 2])))
    if rng.random() < 0.35:
        photo = add_noise(photo, rng.uniform(2, 14), rng, gray=bool(rng.random() < 0.3))
    if rng.random() < 0.4:
        photo = compress_jpeg(photo, int(rng.integers(20, 92)))
    return photo


def crop_rotated(
    wide: Image, size: int, turn_deg: float, *, step: float = 1.0, shift: tuple[float, float] = (0.0, 0.0)
) -> Image:
    """The middle of `wide`, turned, with `step` of its pixels to one of the crop, moved by pixels."""
    turn = math.radians(turn_deg)
    cos, sin = math.cos(turn) * step, math.sin(turn) * step
    middle, of_wide = (size - 1) / 2, (len(wide) - 1) / 2
    crop_to_wide = np.array(
        [
            [cos, -sin, of_wide + shift[0] - cos * middle + sin * middle],
            [sin, cos, of_wide + shift[1] - sin * middle - cos * middle],
        ]
    )
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    moved = cv2.warpAffine(wide, crop_to_wide, (size, size), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(moved, dtype=np.uint8)


def lower_resolution(picture: Image, width: int, *, interpolation: int = cv2.INTER_LINEAR) -> Image:
    """The picture shrunk to so many pixels across, and enlarged again."""
    height, full_width = picture.shape[:2]
    few = cv2.resize(
        picture, (width, max(1, round(height * width / full_width))), interpolation=cv2.INTER_AREA
    )
    return np.asarray(cv2.resize(few, (full_width, height), interpolation=interpolation), dtype=np.uint8)


def blur(picture: Image, sigma_px: float) -> Image:
    """Gaussian blur."""
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), sigma_px), dtype=np.uint8)


def motion_blur(picture: Image, length_px: float, angle: float) -> Image:
    """Blurred along a line of that length, at that angle in radians."""
    middle, part = math.ceil(length_px / 2) + 1, 16
    x, y = (round(part * length_px / 2 * way) for way in (math.cos(angle), math.sin(angle)))
    kernel = np.zeros((2 * middle + 1, 2 * middle + 1), np.float32)
    ends = (part * middle - x, part * middle - y), (part * middle + x, part * middle + y)
    cv2.line(kernel, *ends, 1, 1, shift=4)  # in parts of 16, which are four bits
    blurred = cv2.filter2D(picture, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REPLICATE)
    return np.asarray(blurred, dtype=np.uint8)


def adjust_tone(picture: Image, *, gain: ArrayLike = 1.0, gamma: float = 1.0, offset: float = 0.0) -> Image:
    """Levels in 0…1 raised to `gamma`, times `gain` (one, or one a color), plus `offset`."""
    levels = np.arange(256)[:, None] / 255
    curves = np.clip((levels**gamma * np.broadcast_to(gain, 3) + offset) * 255, 0, 255).astype(np.uint8)
    return np.asarray(cv2.LUT(picture, np.ascontiguousarray(curves[:, None])), dtype=np.uint8)


def add_noise(picture: Image, sigma: float, rng: Rng, *, gray: bool = False) -> Image:
    """Gaussian noise of so many levels of 255, the same in all colors if `gray`."""
    # 200,000 normal numbers take longer than all the rest of a training scene: a small field is repeated.
    height, width = picture.shape[:2]
    rows, columns = min(height, NOISE_TILE[0]), min(width, NOISE_TILE[1])
    field = rng.normal(0, sigma, (rows, columns, 1 if gray else 3)).astype(np.float32)
    noise = np.tile(field, (-(-height // rows), -(-width // columns), 1))[:height, :width]
    return np.asarray(np.clip(picture + noise, 0, 255), dtype=np.uint8)


def compress_jpeg(picture: Image, quality: int) -> Image:
    """What a JPEG of that quality keeps."""
    # OpenCV wants BGR, and JPEG keeps green better than blue.
    done, data = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    read = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert done and read is not None
    return np.ascontiguousarray(read[..., ::-1], dtype=np.uint8)


def _relight(photo: Image, rng: Rng) -> Image:
    """Gray or tinted, darker or brighter, with glare: some of these, or none."""
    if rng.random() < 0.2:
        photo = np.repeat(cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2).astype(np.uint8)
    if rng.random() < 0.1:
        photo = _add_glare(photo, rng)
    gain = rng.uniform(0.06, 0.35) if rng.random() < 0.25 else rng.uniform(0.6, 1.3)
    tint: NDArray[np.float64] = rng.uniform(0.85, 1.15, 3) if rng.random() < 0.4 else np.ones(3)
    gamma, offset = rng.uniform(0.65, 1.5), rng.uniform(-0.04, 0.06)
    photo = adjust_tone(photo, gain=gain * tint, gamma=gamma, offset=offset)
    if gain < 0.35 and rng.random() < 0.6:
        photo = add_noise(photo, rng.uniform(1, 4), rng, gray=bool(rng.random() < 0.3))
    return photo


def _add_glare(photo: Image, rng: Rng) -> Image:
    height, width = photo.shape[:2]
    x, y, reach = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(0.08, 0.5) * width
    v, u = np.ogrid[0:height, 0:width]
    light = np.exp(-((u - x) ** 2) / (2 * reach**2)) * np.exp(-((v - y) ** 2) / (2 * reach**2))
    light *= rng.uniform(60, 200)
    return np.asarray(np.clip(photo + light[..., None], 0, 255), dtype=np.uint8)
