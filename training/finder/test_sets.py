"""Held-out pictures with known eyes, which eye finders are evaluated and calibrated on.

Kinds: frontal (faces of 48 px or wider), masked, profile, several people as they are; tilted, dark, small,
close-up, masked by drawing and crowds, all made from frontal ones; no people; and a cat.
Everything random is seeded by the picture's number.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np

from service.vision.images import Image
from training.data.augmentation import Rng, adjust_tone
from training.data.splits import FinderSplit
from training.finder.labels import LabeledPhoto, Person
from training.finder.negatives import MEASURED, background, from_folder, packaged, parts_without_people
from training.finder.occlusions import cover_with_mask, paint_over_eyes
from training.finder.scenes import Crowd, EyeLabel, eye_labels

FRONTAL_PX = 48
SMALL_PX = (20, 48)
SMALLEST_DISTANCE_PX = 10.0
"""Of several people, eyes nearer together than this are neither hits nor misses."""

CROWDS = ((640, 200, (8, 12, 16, 24, 48, 96)), (1280, 200, (8, 12, 16, 24, 48, 96)), (4000, 20, (6.4, 8)))
"""Width of the pictures, their number, and bounds of the eye distances, in pixels where the width is 640."""

NUM_IN_CROWD = 10

NUM_CROPS_EACH = 200
"""So many random squares of each packaged picture are negatives."""

NO_PEOPLE = "no people: "
"""How the names of the kinds of negatives begin; their false positives set the threshold."""

PACKAGED = f"{NO_PEOPLE}packaged"
"""Hundreds of parts of a few pictures that ship with scikit-image."""

EYES_PAINTED_OVER = "eyes painted over"
"""The kind of photos whose people had their eyes covered by skin: a brow, a lid or a rim may be left of them,
so they are counted apart from pictures without people."""


@dataclass(frozen=True, slots=True)
class Example:
    """One picture of a kind and its eyes; those that are not sure count neither way."""

    kind: str
    picture: Image
    eyes: tuple[EyeLabel, ...]


def people_examples(photos: Sequence[LabeledPhoto]) -> Iterator[Example]:
    """Each photo as it is, and each frontal one also turned, darkened, shrunk, and cut to one eye."""
    for number, photo in enumerate(photos):
        rng = np.random.default_rng((1, number))
        if len(photo.people) > 1 or photo.kind == "several-faces":
            eyes = _eyes_of(photo.people)
            large = tuple(
                replace(eye, sure=eye.sure and eye.distance >= SMALLEST_DISTANCE_PX) for eye in eyes
            )
            yield Example("several", photo.pixels, large)
            continue
        (person,) = photo.people
        kind = {"other": "frontal", "face": "frontal", "dark": "frontal"}.get(photo.kind, photo.kind)
        if kind != "frontal":
            name = "masked" if kind == "masked" else f"{kind} as it is"
            yield Example(name, photo.pixels, _eyes_of(photo.people))
        elif person.face_px >= FRONTAL_PX:
            yield Example("frontal", photo.pixels, _eyes_of(photo.people))
            yield from _degraded_examples(photo.pixels, person, rng)


def composed_crowds(photos: Sequence[LabeledPhoto], empty: Sequence[Image]) -> Iterator[Example]:
    """Frontal people cut out and pasted onto pictures without people, the nearer over the farther ones.

    Each picture is an example of every range of eye distances, in which the other eyes are not sure.
    """
    alone = [photo for photo in photos if photo.kind in ("other", "face") and len(photo.people) == 1]
    frontal = [photo for photo in alone if photo.people[0].face_px >= FRONTAL_PX]
    rng = np.random.default_rng(4)
    for side, num_pictures, bounds in CROWDS:
        for _ in range(min(num_pictures, len(frontal))):
            crowd = Crowd(background(empty, side, rng)[: side * 3 // 4])
            logs = rng.uniform(math.log(bounds[0]), math.log(bounds[-1]), NUM_IN_CROWD)
            eyes: set[EyeLabel] = set()
            for distance in side / 640 * np.exp(np.sort(logs)):
                photo = frontal[int(rng.integers(len(frontal)))]
                at = rng.uniform(0.04, 0.96, 2) * crowd.picture.shape[1::-1]
                place = at, distance / photo.people[0].distance, math.radians(rng.normal(0, 8))
                crowd.paste(photo, photo.people[0], place, rng, 0.0)
                eyes.update(crowd.eyes)
            for low, high in pairwise(bounds):
                there = {eye for eye in crowd.eyes if eye.sure and low <= eye.distance * 640 / side < high}
                labels = tuple(replace(eye, sure=eye in there) for eye in eyes)
                yield Example(f"crowd, {side} px, eyes {low}–{high} px apart", crowd.picture, labels)


def cat_examples() -> list[Example]:
    """Parts of a picture of a cat: its eyes are eyes, but not of a person."""
    rng = np.random.default_rng(3)
    (cat,) = packaged(["chelsea"])
    return [Example("a cat", _random_square(cat, rng), ()) for _ in range(NUM_CROPS_EACH)]


def _degraded_examples(photo: Image, person: Person, rng: Rng) -> Iterator[Example]:
    degrees = float(rng.choice([-1, 1]) * rng.choice([15, 30, 45]))
    yield _rotated_and_scaled("tilted", photo, person, scale=1.0, degrees=degrees)
    eyes = _eyes_of((person,))
    yield Example("dark", adjust_tone(photo, gain=rng.uniform(0.1, 0.2)), eyes)
    scale = rng.uniform(*SMALL_PX) / person.face_px
    yield _rotated_and_scaled("small", photo, person, scale=scale, degrees=0.0)
    masked = photo.copy()
    cover_with_mask(masked, person.landmarks, rng)
    yield Example("masked, drawn", masked, eyes)
    side = int(rng.integers(2))
    if person.sure[side]:
        yield _close_up(photo, person, side, rng.uniform(0.62, 1.1))


def negative_examples(
    photos: Sequence[LabeledPhoto], *, names: Sequence[str] = MEASURED, num_crops_each: int = NUM_CROPS_EACH
) -> Iterator[Example]:
    """Parts of packaged pictures, parts of photos beside their people, and photos without their eyes."""
    rng = np.random.default_rng(2)
    for picture in packaged(names):
        yield from (Example(PACKAGED, _random_square(picture, rng), ()) for _ in range(num_crops_each))
    for part in parts_without_people(photos):
        yield Example(f"{NO_PEOPLE}beside people", part, ())
    for photo in photos:
        if len(photo.people) == 1 and photo.kind != "several-faces":
            painted = photo.pixels.copy()
            paint_over_eyes(painted, photo.people[0].landmarks, rng)
            yield Example(EYES_PAINTED_OVER, painted, ())


def folder_negatives(folder: Path, split: FinderSplit) -> list[Example]:
    """One split of a folder's pictures of no people: each whole, and a square of it."""
    rng = np.random.default_rng(5)
    pairs = ((picture, _random_square(picture, rng)) for picture in from_folder(folder, split))
    return [Example(f"{NO_PEOPLE}a folder", each, ()) for pair in pairs for each in pair]


def _random_square(picture: Image, rng: Rng) -> Image:
    height, width = picture.shape[:2]
    side = int(rng.uniform(0.3, 1.0) * min(height, width))
    left, top = int(rng.integers(width - side + 1)), int(rng.integers(height - side + 1))
    return np.ascontiguousarray(picture[top : top + side, left : left + side])


def _eyes_of(people: Iterable[Person]) -> tuple[EyeLabel, ...]:
    return tuple(eye for person in people for eye in eye_labels(person.landmarks, person.sure))


def _rotated_and_scaled(kind: str, photo: Image, person: Person, *, scale: float, degrees: float) -> Example:
    """The photo turned clockwise around the face and shrunk, as large as it needs to be to hold it all."""
    height, width = photo.shape[:2]
    turn = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), -degrees, 1.0)
    cos, sin = abs(turn[0, 0]), abs(turn[0, 1])
    size = math.ceil(width * cos + height * sin), math.ceil(width * sin + height * cos)
    turn[:, 2] += (size[0] - width) / 2, (size[1] - height) / 2
    turned = cv2.warpAffine(photo, turn, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    small = max(8, round(size[0] * scale)), max(8, round(size[1] * scale))
    shrunk = cv2.resize(turned, small, interpolation=cv2.INTER_AREA) if scale != 1.0 else turned
    ratio = np.array(small) / size
    points = (person.landmarks @ turn[:, :2].T + turn[:, 2] + 0.5) * ratio - 0.5
    return Example(kind, np.asarray(shrunk, dtype=np.uint8), eye_labels(points, person.sure))


def _close_up(photo: Image, person: Person, side: int, per_distance: float) -> Example:
    """A square around one eye, 128 px or larger; the other eye is not in it or counts neither way."""
    half = max(4, round(per_distance * person.distance / 2))
    x, y = (round(float(value)) for value in person.landmarks[side])
    padded = cv2.copyMakeBorder(photo, half, half, half, half, cv2.BORDER_REPLICATE)
    square = padded[y : y + 2 * half, x : x + 2 * half]
    grow = max(1.0, 128 / square.shape[0])
    enlarged = cv2.resize(square, None, fx=grow, fy=grow, interpolation=cv2.INTER_CUBIC)
    points = (person.landmarks - (x - half, y - half) + 0.5) * (enlarged.shape[0] / square.shape[0]) - 0.5
    sure = side == 0 and person.sure[0], side == 1 and person.sure[1]
    return Example("close-up", np.asarray(enlarged, dtype=np.uint8), eye_labels(points, sure))
