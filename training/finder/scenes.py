"""Training scenes of the eye finder, composed from labeled people and negatives (copy-paste augmentation).

Everything random is a function of (seed, index). Right and left are the subject's.
Source: Ghiasi et al. 2021, "Simple copy-paste is a strong data augmentation method".
"""

import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from service.vision.images import Image
from training.data.augmentation import Rng, degrade_photo
from training.errors import DataError
from training.finder.labels import LabeledPhoto, Person
from training.finder.negatives import background, draw_round_object, random_crop
from training.finder.occlusions import OCCLUSION_PROBABILITY, Landmarks, cover_face, paint_over_eyes

Matrix = NDArray[np.float64]

Place = tuple[NDArray[np.float64], float, float]
"""Where the middle between the eyes goes, the scale, and the roll in radians."""

SIDE = 256
MIN_DISTANCE_PX, MAX_DISTANCE_PX = 6.0, 260.0
"""Eye distances that are learned, in pixels of the scene; larger ones are searched at a smaller scale."""

MODE_PROBABILITIES = {"person": 0.30, "close-up": 0.12, "crowd": 0.24, "whole": 0.04, "negative": 0.30}

NO_EYES_PROBABILITY = 0.5
"""Of the negatives: a body without its face, or a face whose eyes are painted over (hard negatives)."""

ROUND_OBJECTS_PROBABILITY = 0.5
"""Of the other negatives: balls, cups and wheels are drawn into the background."""

SAMPLING_WEIGHTS = {"masked": 5.0, "several-faces": 4.0, "tilted": 5.0, "profile": 2.0, "dark": 3.0,
                "face": 0.8}  # fmt: skip


@dataclass(frozen=True, slots=True)
class EyeLabel:
    """The label of one eye in a picture; one that is not sure is ignored in training and evaluation.

    `roll` is the angle of the head in radians, clockwise; `left` says which eye it is.
    """

    x: float
    y: float
    distance: float
    roll: float
    left: bool
    sure: bool


def eye_labels(points: NDArray[np.floating], sure: Sequence[bool]) -> tuple[EyeLabel, EyeLabel]:
    """The labels of a person's right and left eye, the first two of these points."""
    dx, dy = (float(value) for value in points[1] - points[0])
    distance, roll = math.hypot(dx, dy), math.atan2(dy, dx)
    (x, y), (x2, y2) = points[:2].tolist()
    return (
        EyeLabel(x, y, distance, roll, left=False, sure=sure[0]),
        EyeLabel(x2, y2, distance, roll, left=True, sure=sure[1]),
    )


@dataclass(slots=True)
class Crowd:
    """A picture that people are pasted into, and the labels of those of their eyes that are still seen."""

    picture: Image
    eyes: list[EyeLabel] = field(default_factory=list)

    def paste(self, photo: LabeledPhoto, person: Person, place: Place, rng: Rng, occlusion: float) -> None:
        """Pastes the person, mirrored or not, over the others; a part of the people is occluded."""
        move = _similarity_transform(person.landmarks[:2].mean(0), *place, flip=bool(rng.random() < 0.5))
        alpha = _cutout_mask(person.landmarks, move, self.picture.shape[:2], rng)
        x, y, width, height = cv2.boundingRect(alpha)
        here = slice(y, y + height), slice(x, x + width)
        pasted = self.picture.copy()
        if width and height:
            _paste(pasted[here], photo.pixels, move - [[0, 0, x], [0, 0, y]], rng)
        new = _label(pasted, photo, move, rng, occlusion)
        shown = alpha[here][..., None].astype(np.int16)
        below = self.picture[here]
        self.picture[here] = below + (pasted[here].astype(np.int16) - below) * shown // 255
        masked = [_masked(eye, alpha, inside=False) for eye in self.eyes]
        self.eyes = [eye for eye in masked + [_masked(eye, alpha, inside=True) for eye in new] if eye]


class Scenes:
    """Scenes by their index, from labeled photos and from pictures without people."""

    def __init__(self, photos: Sequence[LabeledPhoto], empty: Sequence[Image], *, seed: int = 0) -> None:
        if not photos or not empty:
            raise DataError("there is no labeled photo, or no picture without people, to draw from")
        self.photos, self.empty, self.seed = photos, empty, seed
        weights = np.array([SAMPLING_WEIGHTS.get(photo.kind, 1.0) for photo in photos])
        self._bounds = np.cumsum(weights / weights.sum())
        self._crowded = [photo for photo in photos if len(photo.people) > 1] or photos

    def describe(self) -> dict[str, object]:
        """What `run.json` says of the pictures: how many there are of each license, and which photos."""
        licences = Counter(photo.licence for photo in self.photos)
        files = "\n".join(sorted(photo.file for photo in self.photos))
        return {
            "photos_by_licence": dict(sorted(licences.items())),
            "files_sha256": hashlib.sha256(files.encode()).hexdigest(),
            "pictures_without_people": len(self.empty),
        }

    def draw(self, index: int) -> tuple[Image, list[EyeLabel]]:
        """A scene SIDE x SIDE x 3 and the labels of its eyes."""
        rng = np.random.default_rng((self.seed, index))
        mode = str(rng.choice(list(MODE_PROBABILITIES), p=list(MODE_PROBABILITIES.values())))
        picture = background(self.empty, SIDE, rng)
        eyes: list[EyeLabel] = []
        if mode == "negative" and rng.random() < NO_EYES_PROBABILITY:
            picture = self._draw_without_eyes(rng, picture)
        elif mode == "negative" and rng.random() < ROUND_OBJECTS_PROBABILITY:
            for _ in range(int(rng.integers(1, 4))):
                draw_round_object(picture, rng, self.empty)
        elif mode == "crowd":
            picture, eyes = self._draw_crowd(rng, picture)
        elif mode != "negative":
            picture, eyes = self._draw_photo(rng, picture, mode)
        small = any(eye.distance < 16 for eye in eyes if eye.sure)
        return degrade_photo(picture, rng, mild=small), eyes

    def _sample_photo(self, rng: Rng) -> LabeledPhoto:
        return self.photos[min(int(np.searchsorted(self._bounds, rng.random())), len(self.photos) - 1)]

    def _draw_photo(self, rng: Rng, canvas: Image, mode: str) -> tuple[Image, list[EyeLabel]]:
        """One photo, transformed so that one of its people is where and as large as the mode asks."""
        whole = mode == "whole"
        several = whole and rng.random() < 0.7
        photo = self._crowded[int(rng.integers(len(self._crowded)))] if several else self._sample_photo(rng)
        person = photo.people[rng.integers(len(photo.people))]
        if whole:
            scale = SIDE / max(photo.pixels.shape[:2]) * rng.uniform(0.8, 1.6)
            center, at = np.array(photo.pixels.shape[1::-1]) / 2, rng.uniform(0.35, 0.65, 2) * SIDE
        else:
            low, high = (7.0, 90.0) if mode == "person" else (80.0, MAX_DISTANCE_PX)
            scale = math.exp(rng.uniform(math.log(low), math.log(high))) / max(person.distance, 1.0)
            center = person.landmarks[int(rng.integers(2))]
            at = rng.uniform(0.06, 0.94, 2) * SIDE if mode == "person" else rng.uniform(0.15, 0.85, 2) * SIDE
        move = _similarity_transform(center, at, scale, _random_roll(rng), flip=bool(rng.random() < 0.5))
        picture = _paste(canvas, photo.pixels, move, rng)
        return picture, _label(picture, photo, move, rng, OCCLUSION_PROBABILITY)

    def _draw_crowd(self, rng: Rng, canvas: Image) -> tuple[Image, list[EyeLabel]]:
        """Several people cut out and pasted side by side, the nearer ones over the farther ones."""
        typical = math.exp(rng.uniform(math.log(MIN_DISTANCE_PX + 1), math.log(40)))
        crowd = Crowd(canvas)
        for _ in range(int(rng.integers(2, int(6 + min(12, 200 / typical))))):
            photo = self._sample_photo(rng)
            person = photo.people[rng.integers(len(photo.people))]
            scale = typical * math.exp(rng.normal(0, 0.25)) / max(person.distance, 1.0)
            at = rng.uniform(0.04, 0.96, 2) * SIDE
            turn = _random_roll(rng) if rng.random() < 0.3 else math.radians(rng.normal(0, 8))
            crowd.paste(photo, person, (at, scale, turn), rng, OCCLUSION_PROBABILITY)
        return crowd.picture, crowd.eyes

    def _draw_without_eyes(self, rng: Rng, canvas: Image) -> Image:
        """A photo of somebody, of whom only the body is shown, or whose eyes are painted over."""
        photo = self._sample_photo(rng)
        person = photo.people[rng.integers(len(photo.people))]
        distance = max(person.distance, 1.0)
        if rng.random() < 0.35 and len(photo.people) == 1:
            body = photo.pixels[int(person.landmarks[:2, 1].max() + 2.1 * person.distance) :]
            if min(body.shape[:2]) >= 24:
                return random_crop(body, SIDE, rng)
        painted = photo.pixels.copy()
        for each in photo.people:
            paint_over_eyes(painted, each.landmarks, rng)
        scale = math.exp(rng.uniform(math.log(8), math.log(220))) / distance
        at = rng.uniform(0.1, 0.9, 2) * SIDE
        center = person.landmarks[2] + rng.normal(0, 0.4, 2) * distance
        move = _similarity_transform(center, at, scale, _random_roll(rng), flip=False)
        return _paste(canvas, painted, move, rng)


def _random_roll(rng: Rng) -> float:
    """Rotation of a head in radians: little, or anything to 60 degrees."""
    return math.radians(rng.normal(0, 7) if rng.random() < 0.45 else rng.uniform(-60, 60))


def _similarity_transform(
    center: NDArray[np.floating], at: NDArray[np.floating], scale: float, turn: float, *, flip: bool
) -> Matrix:
    """The 2 x 3 matrix that brings `center` to `at`, rotated clockwise, mirrored first if `flip`."""
    cos, sin = math.cos(turn) * scale, math.sin(turn) * scale
    matrix = np.array([[-cos if flip else cos, -sin], [-sin if flip else sin, cos]])
    return np.hstack([matrix, (np.asarray(at) - matrix @ np.asarray(center))[:, None]])


def _paste(canvas: Image, photo: Image, move: Matrix, rng: Rng) -> Image:
    """The canvas with the transformed photo drawn in, whose border is repeated now and then."""
    scale = float(np.hypot(move[0, 0], move[1, 0]))
    if scale < 0.7:
        shrink = min(1.0, scale * rng.uniform(1.0, 1.4))
        whole = photo.shape[1::-1]
        size = max(2, round(whole[0] * shrink)), max(2, round(whole[1] * shrink))
        while shrink < 0.4 and min(photo.shape[:2]) > 32:  # by two goes ten times faster than by 2.01
            half = (photo.shape[1] // 2, photo.shape[0] // 2)
            even = photo[: 2 * half[1], : 2 * half[0]]
            photo = np.asarray(cv2.resize(even, half, interpolation=cv2.INTER_AREA), np.uint8)
            shrink *= 2
        photo = np.asarray(cv2.resize(photo, size, interpolation=cv2.INTER_AREA), np.uint8)
        ratio = np.array([whole[0] / size[0], whole[1] / size[1]])
        shift = move[:, :2] @ (ratio / 2 - 0.5)
        move = np.hstack([move[:, :2] * ratio, (move[:, 2] + shift)[:, None]])
    border = cv2.BORDER_REPLICATE if rng.random() < 0.25 else cv2.BORDER_TRANSPARENT
    size = (canvas.shape[1], canvas.shape[0])
    cv2.warpAffine(photo, move, size, dst=canvas, flags=cv2.INTER_LINEAR, borderMode=border)
    return canvas


def _label(picture: Image, photo: LabeledPhoto, move: Matrix, rng: Rng, occlusion: float) -> list[EyeLabel]:
    """The labels of a transformed photo's people, some of whom are occluded on the way."""
    mirrored = bool(np.linalg.det(move[:, :2]) < 0)
    eyes = []
    for person in photo.people:
        points = (person.landmarks @ move[:, :2].T + move[:, 2]).astype(np.float32)
        sure = list(person.sure)
        if mirrored:
            points, sure = points[[1, 0, 2]], sure[::-1]
        gone = cover_face(picture, points, rng) if rng.random() < occlusion else [False, False]
        eyes += [_at_border(eye, picture) for eye in eye_labels(points, sure) if not gone[eye.left]]
    return [eye for eye in eyes if _is_within(eye, picture, -eye.distance)]


def _at_border(eye: EyeLabel, picture: Image) -> EyeLabel:
    """The label, not sure if the eye is too small, too large, or cut by the scene's border."""
    is_learned = MIN_DISTANCE_PX <= eye.distance <= MAX_DISTANCE_PX
    return replace(eye, sure=eye.sure and is_learned and _is_within(eye, picture, 0.1 * eye.distance))


def _is_within(eye: EyeLabel, picture: Image, margin: float) -> bool:
    height, width = picture.shape[:2]
    return bool(margin <= eye.x <= width - 1 - margin and margin <= eye.y <= height - 1 - margin)


def _cutout_mask(points: Landmarks, move: Matrix, shape: tuple[int, ...], rng: Rng) -> NDArray[np.uint8]:
    """Alpha mask of a pasted person, 255 is opaque: an ellipse of head, neck and shoulders."""
    moved = points @ move[:, :2].T + move[:, 2]
    across = moved[1] - moved[0]
    distance = float(np.hypot(*across))
    center = moved[:2].mean(0) * 0.5 + moved[2] * 0.5
    axes = (round(distance * rng.uniform(1.1, 1.9)), round(distance * rng.uniform(1.7, 2.6)))
    turn = math.degrees(math.atan2(across[1], across[0]))
    alpha = np.zeros(shape, np.uint8)
    at = (round(float(center[0])), round(float(center[1])))
    cv2.ellipse(alpha, at, axes, turn, 0, 360, 255, -1, cv2.LINE_AA)
    return alpha


def _masked(eye: EyeLabel, alpha: NDArray[np.uint8], *, inside: bool) -> EyeLabel | None:
    """The label of an eye that is seen inside of a mask alone, or outside of it alone.

    None where it is not seen, not sure at the edge.
    """
    reach = 0.25 * eye.distance
    left, top = max(0, int(eye.x - reach)), max(0, int(eye.y - reach))
    part = alpha[top : int(eye.y + reach) + 1, left : int(eye.x + reach) + 1]
    near = min(eye.x, eye.y) > -reach and part.size > 0 and part.max() >= 77
    if near and part.min() <= 178:
        return replace(eye, sure=False)
    return eye if near == inside else None
