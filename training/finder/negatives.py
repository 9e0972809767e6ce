"""Negatives: pictures that show no human eye, real, cut from photos beside their people, and drawn.

Those of scikit-image that show a face (astronaut, camera, coins, and the cat) are left out; the
others are split by hand, a folder of more pictures by their names.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import skimage.data
from numpy.typing import NDArray

from service.vision.images import Image
from training.data.augmentation import Rng
from training.data.splits import FinderSplit, split_with_calibration
from training.errors import DataError
from training.finder.labels import LabeledPhoto, read_picture

Plane = NDArray[np.float32]

TRAINED = (
    *("brick", "cell", "checkerboard", "colorwheel", "grass", "horse", "immunohistochemistry", "logo"),
    *("microaneurysms", "page", "retina", "rocket", "shepp_logan_phantom", "stereo_motorcycle"),
)
FITTED = ("clock", "gravel", "text")
MEASURED = ("coffee", "hubble_deep_field", "moon")

SMALLEST_PART_PX = 56

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}
LONG_SIDE_PX = 640

_SMALLEST_RADIUS, _LARGEST_RADIUS = 0.05, 0.9
"""Of round objects, as parts of the picture's side."""

_DEV_PART, _CALIBRATION_PART = 0.2, 0.1
"""How much of a folder's pictures false eyes are measured and the threshold is fitted on."""


def packaged(names: Iterable[str]) -> list[Image]:
    """Pictures that ship with scikit-image, as H x W x 3 uint8, at most 640 px long."""
    return [_as_picture(getattr(skimage.data, name)()) for name in names]


def from_folder(folder: Path, split: FinderSplit) -> Iterator[Image]:
    """One split of the pictures in a folder and below it, at most LONG_SIDE_PX long.

    Raises:
        DataError: the folder holds no pictures, or one of them cannot be read.
    """
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise DataError(f"{folder} holds no pictures ({', '.join(sorted(SUFFIXES))})")
    by_name = {path.relative_to(folder).as_posix(): path for path in paths}
    splits = split_with_calibration(
        ((name, "train") for name in by_name), dev_part=_DEV_PART, calibration_part=_CALIBRATION_PART
    )
    for name, path in by_name.items():
        if splits[name] == split:
            yield _at_most(read_picture(path))


def parts_without_people(photos: Iterable[LabeledPhoto]) -> Iterator[Image]:
    """The pixels left, right and below of the only person of a photo, as far as they are large enough."""
    for photo in photos:
        if len(photo.people) != 1 or photo.kind == "several-faces":
            continue
        (person,) = photo.people
        # In profile the eyes are near each other, and the face's box tells more.
        reach = max(2.3 * person.distance, person.face_px)
        left, right = person.landmarks[:, 0].min() - reach, person.landmarks[:, 0].max() + reach
        below = person.landmarks[:, 1].max() + reach
        whole = photo.pixels
        for part in (whole[:, : max(0, int(left))], whole[:, int(right) :], whole[int(below) :]):
            if min(part.shape[:2]) >= SMALLEST_PART_PX:
                yield np.ascontiguousarray(part)


def background(empty: Sequence[Image], size: int, rng: Rng) -> Image:
    """A size x size x 3 picture of no people: a part of a real one, or plain, noise or drawn shapes."""
    kind = rng.random()
    if kind < 0.7:
        return random_crop(empty[int(rng.integers(len(empty)))], size, rng)
    if kind < 0.76:
        return np.full((size, size, 3), rng.integers(0, 256, 3), np.uint8)
    cells = int(rng.integers(2, 64))
    coarse = rng.integers(0, 256, (cells, cells, 3 if rng.random() < 0.6 else 1), np.uint8)
    grown = cv2.resize(coarse, (size, size), interpolation=int(rng.choice([0, 1, 2]))).reshape(size, size, -1)
    picture: Image = np.broadcast_to(grown, (size, size, 3)).astype(np.uint8)
    if kind > 0.86:
        _draw_shapes(picture, rng)
    return picture


def random_crop(picture: Image, size: int, rng: Rng) -> Image:
    """A turned or mirrored part of a picture, between all of it and a few pixels."""
    height, width = picture.shape[:2]
    side = max(12, int(min(height, width) * rng.uniform(0.15, 1.0)))
    left, top = int(rng.integers(max(1, width - side))), int(rng.integers(max(1, height - side)))
    part = picture[top : top + side, left : left + side]
    part = np.rot90(part, int(rng.integers(4)))[:, :: int(rng.choice([-1, 1]))]
    interpolation = cv2.INTER_AREA if side > size else cv2.INTER_LINEAR
    resized = cv2.resize(np.ascontiguousarray(part), (size, size), interpolation=interpolation)
    if rng.random() < 0.3:
        resized = resized[..., rng.permutation(3)]
    return np.ascontiguousarray(resized, dtype=np.uint8)


def _as_picture(stored: object) -> Image:
    pixels = np.asarray(stored[0] if isinstance(stored, tuple) else stored)
    if pixels.dtype != np.uint8:
        pixels = (pixels.astype(np.float64) / max(1e-9, float(pixels.max())) * 255).astype(np.uint8)
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, axis=2)
    return _at_most(np.ascontiguousarray(pixels[..., :3], dtype=np.uint8))


def _at_most(pixels: Image) -> Image:
    """The picture, shrunk to LONG_SIDE_PX if it is longer."""
    shrink = LONG_SIDE_PX / max(pixels.shape[:2])
    if shrink >= 1:
        return pixels
    small = cv2.resize(pixels, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
    return np.asarray(small, dtype=np.uint8)


def _draw_shapes(picture: Image, rng: Rng) -> None:
    """Circles, rings, lines and letters: round and dark things that are no eyes."""
    side = picture.shape[0]
    for _ in range(int(rng.integers(1, 25))):
        at = tuple(int(value) for value in rng.integers(0, side, 2))
        size = int(rng.integers(2, 40))
        color = tuple(float(value) for value in rng.integers(0, 256, 3))
        thick = int(rng.choice([-1, 1, 3]))
        kind = int(rng.integers(4))
        if kind == 0:
            cv2.circle(picture, at, size, color, thick, cv2.LINE_AA)
        elif kind == 1:
            axes, turn = (size, max(1, size // 2)), rng.uniform(0, 180)
            cv2.ellipse(picture, at, axes, turn, 0, 360, color, thick, cv2.LINE_AA)
        elif kind == 2:
            end = tuple(int(value) for value in rng.integers(0, side, 2))
            cv2.line(picture, at, end, color, int(rng.integers(1, 9)), cv2.LINE_AA)
        else:
            letter, font = chr(int(rng.integers(48, 123))), int(rng.integers(4))
            cv2.putText(picture, letter, at, font, size / 12, color, 2)


def draw_round_object(picture: Image, rng: Rng, textures: Sequence[Image] = ()) -> None:
    """Draws one into the picture, H x W x 3: ring within ring, seen aslant, lit from one side, grained.

    Rings may show parts of `textures`; a cup's are not of one center, and something shines on it.
    """
    side = min(picture.shape[:2])
    radius = side * math.exp(rng.uniform(math.log(_SMALLEST_RADIUS), math.log(_LARGEST_RADIUS)))
    along_HW, across_HW = _axes(picture.shape[:2], radius, rng)
    reach_HW = np.hypot(along_HW, across_HW)
    edge = max(1.5 / radius, float(rng.choice([0.02, 0.1, 0.3])))  # of the radius; the last is out of focus
    drawn_HWC = _rings(along_HW, across_HW, edge, rng, textures)
    light = float(rng.uniform(0, 0.8))
    lit_HW = 1 + light * along_HW - float(rng.uniform(0, 0.5)) * reach_HW**2
    grain_HW = 1 + float(rng.choice([0, 0.1, 0.3, 0.6])) * _grain(picture.shape[:2], rng)
    drawn_HWC *= (lit_HW * grain_HW)[..., None]
    if rng.random() < 0.5:
        _shine(drawn_HWC, along_HW, across_HW, edge, rng)
    shown_HW = np.clip((1 - reach_HW) / edge + 0.5, 0, 1)[..., None]
    picture[:] = (picture + (np.clip(drawn_HWC, 0, 255) - picture) * shown_HW).astype(np.uint8)


def _axes(shape: tuple[int, ...], radius: float, rng: Rng) -> tuple[Plane, Plane]:
    """How far each pixel is from a random center along two turned axes, in radii; one axis is shortened."""
    y_HW, x_HW = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    y_HW -= float(rng.uniform(0, shape[0]))
    x_HW -= float(rng.uniform(0, shape[1]))
    turn, squash = rng.uniform(0, 2 * math.pi), rng.uniform(0.55, 1)
    cos, sin = math.cos(turn), math.sin(turn)
    return (x_HW * cos + y_HW * sin) / radius, (y_HW * cos - x_HW * sin) / (radius * float(squash))


def _rings(along_HW: Plane, across_HW: Plane, edge: float, rng: Rng, textures: Sequence[Image]) -> Plane:
    """One to five rings, each of one color or texture, softly bounded, each within the one before."""
    gray, aside = rng.random() < 0.4, rng.random() < 0.5
    bounds = np.sort(rng.uniform(0.1, 0.97, int(rng.integers(0, 5))))[::-1]
    rings_HWC = _filling(along_HW.shape, rng, gray, textures)
    along, across, before = 0.0, 0.0, 1.0
    for bound in bounds:
        if aside:
            far, where = rng.uniform(0, before - bound), rng.uniform(0, 2 * math.pi)
            along, across = along + far * math.cos(where), across + far * math.sin(where)
        inside_HW = np.clip((bound - np.hypot(along_HW - along, across_HW - across)) / edge + 0.5, 0, 1)
        rings_HWC += (_filling(along_HW.shape, rng, gray, textures) - rings_HWC) * inside_HW[..., None]
        before = bound
    return rings_HWC


def _filling(shape: tuple[int, ...], rng: Rng, gray: bool, textures: Sequence[Image]) -> Plane:
    """H x W x 3 of one color, or, three times in ten, a part of a texture."""
    if textures and rng.random() < 0.3:
        whole = textures[int(rng.integers(len(textures)))]
        side = max(2, int(min(whole.shape[:2]) * rng.uniform(0.1, 1)))
        top, left = (int(rng.integers(size - side + 1)) for size in whole.shape[:2])
        part = cv2.resize(whole[top : top + side, left : left + side], shape[::-1])
        return np.asarray(part, np.float32)
    color = rng.uniform(0, 255, 3)
    color = color.mean() + (color - color.mean()) * (0 if gray else rng.uniform(0, 1))
    return np.broadcast_to(color, (*shape, 3)).astype(np.float32)


def _shine(drawn_HWC: Plane, along_HW: Plane, across_HW: Plane, edge: float, rng: Rng) -> None:
    """One to three bright spots."""
    for _ in range(int(rng.integers(1, 4))):
        along, across = rng.uniform(-0.7, 0.7, 2)
        wide, high = rng.uniform(0.03, 0.25, 2)
        reach_HW = np.hypot((along_HW - along) / wide, (across_HW - across) / high)
        drawn_HWC += rng.uniform(60, 200) * np.clip((1 - reach_HW) * high / edge + 0.5, 0, 1)[..., None]


def _grain(shape: tuple[int, ...], rng: Rng) -> Plane:
    """Cloudy noise of some coarseness, mean 0, about -1 to 1."""
    cells = int(rng.integers(4, 80))
    coarse = rng.normal(0, 0.5, (cells, cells)).astype(np.float32)
    return np.asarray(cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_CUBIC), np.float32)
