"""Which eyes of a photo become faces: person, side, close-up or photo, and quality.

Photo -> EyeDetections -> MeasuredEyes -> SelectedCrops. Knows neither files, models nor HTTP.
"""

from dataclasses import dataclass
from typing import Literal

from service.errors import (
    EyeRefused,
    EyeTooBlurred,
    EyeTooDark,
    EyeTooSmall,
    NoEyeFound,
    NoSuchEye,
    NoSuchPerson,
)
from service.vision.eyes import Eye, EyeFinder, Photo, Quality
from service.vision.images import Image

CLOSE_UP = 0.45
"""From this part of the picture's shorter side on, one person's crop makes the picture a close-up of an eye.

A face that fills its picture has 0.3, a strip of both eyes 0.6 and more, an eye with as much again around
it 0.5.
"""

_RIGHT_EYE_BONUS = 1.25
"""The left eye is taken if its quality is this much better; the eyes of a frontal face differ by less."""


@dataclass(frozen=True, slots=True)
class SynthesisOptions:
    """Which eyes of a photo become faces, and how many of each.

    `person` counts from 0, the largest first. `eye="auto"` takes the eye of better quality. With
    `input="eye"` the picture's central square is the eye; `photo` and `auto` look for eyes, and `auto`
    distinguishes a photo of people from a close-up of an eye. `max_people` limits `all` to the largest.
    Of each eye `guesses` faces are drawn; the first is the default face, `seed` decides the others.
    """

    eye: Literal["auto", "left", "right"] = "auto"
    person: Literal["largest", "all"] | int = "largest"
    input: Literal["auto", "photo", "eye"] = "auto"
    max_people: int = 1000
    guesses: int = 1
    seed: int = 0


@dataclass(frozen=True, slots=True)
class QualityThresholds:
    """The minimum size, light and sharpness of an eye that becomes a face; 0 switches a test off."""

    min_px: float = 0.0
    min_light: float = 0.0
    min_sharpness: float = 0.0

    def refusal(self, quality: Quality) -> EyeRefused | None:
        """Why no face is drawn from an eye of this quality; None if one is."""
        if quality.size_px < self.min_px:
            return EyeTooSmall(
                f"The square around the eye is {quality.size_px:.1f} pixels wide; at least {self.min_px:g} "
                "are wanted. Send a photo with more pixels, or taken from nearer. "
                "EYE2FACE_MIN_EYE_PX=0 lets any size through."
            )
        if quality.light < self.min_light:
            return EyeTooDark(
                f"The brightest part of the eye has {quality.light:.3f} of full light; at least "
                f"{self.min_light:g} is wanted. Send a photo with more light on the face. "
                "EYE2FACE_MIN_EYE_LIGHT=0 lets any light through."
            )
        if quality.sharpness < self.min_sharpness:
            return EyeTooBlurred(
                f"The eye has a sharpness of {quality.sharpness:.2f}; at least {self.min_sharpness:g} is "
                "wanted. Send a photo in focus and without motion. "
                "EYE2FACE_MIN_EYE_SHARPNESS=0 lets any blur through."
            )
        return None


@dataclass(frozen=True, slots=True)
class MeasuredEye:
    """An eye in the upright photo, and its quality."""

    eye: Eye
    quality: Quality


@dataclass(frozen=True, slots=True)
class EyeCrop:
    """The model's input, S x S x 3, and its eye in the upright photo."""

    pixels: Image
    eye: Eye
    quality: Quality


@dataclass(frozen=True, slots=True)
class RefusedEye:
    """An eye that was chosen, and why no face is drawn from it."""

    eye: Eye
    error: EyeRefused


@dataclass(frozen=True, slots=True)
class SelectedCrops:
    """The crops that become faces, the eyes that were refused, and what the picture was taken for.

    `num_left_out` people are more than may be drawn from one photo.
    """

    crops: list[EyeCrop]
    refused: list[RefusedEye]
    input: Literal["photo", "eye"]
    num_left_out: int


def select_crops(
    photo: Photo,
    options: SynthesisOptions,
    finder: EyeFinder,
    size: int,
    *,
    thresholds: QualityThresholds | None = None,
) -> SelectedCrops:
    """The crop of each eye that was chosen, one a person, where an eye passes the thresholds.

    Raises:
        NoEyeFound, NoSuchPerson, NoSuchEye: the photo does not show what was chosen.
        EyeRefused: it shows it too badly; the error is that of the first person's better eye.
    """
    kind, people = _select_eyes(photo, options, finder)
    crops: list[EyeCrop] = []
    refused: list[RefusedEye] = []
    for eyes in people[: options.max_people]:
        seen = map(MeasuredEye, eyes, photo.measure(eyes, size))
        for each in sorted(seen, key=lambda one: -_quality_score(one, size)):
            error = (thresholds or QualityThresholds()).refusal(each.quality)
            if error is None:
                crops.append(EyeCrop(photo.crop(each.eye, size), each.eye, each.quality))
                break
            refused.append(RefusedEye(each.eye, error))
    if not crops:
        raise refused[0].error
    num_left_out = len(people) - len(people[: options.max_people])
    return SelectedCrops(crops, refused, kind, num_left_out)


def _select_eyes(
    photo: Photo, options: SynthesisOptions, finder: EyeFinder
) -> tuple[Literal["photo", "eye"], list[list[Eye]]]:
    """What the picture is, and the eyes that may be taken of each person who was chosen."""
    if options.input == "eye":
        return "eye", [[_central_square(photo, options)]]
    people = _find_people(photo, finder)
    wanted = _select_people(people, options)
    eyes = [[eye for eye in eyes if options.eye in ("auto", eye.side)] for eyes in wanted]
    if not any(eyes):
        raise NoSuchEye(
            f"The {options.eye} eye was asked for, but only the other one was found. "
            f"Ask for eye={'right' if options.eye == 'left' else 'left'} or eye=auto."
        )
    close = options.input == "auto" and len(people) == 1 and _is_close_up(photo, people[0])
    return "eye" if close else "photo", [each for each in eyes if each]


def _find_people(photo: Photo, finder: EyeFinder) -> dict[int, list[Eye]]:
    """The eyes of each person, who are numbered from 0, the largest first."""
    detections = photo.detect(finder)
    people: dict[int, list[Eye]] = {}
    for eye in detections.eyes:
        people.setdefault(eye.person, []).append(eye)
    if people:
        return people
    number = None if detections.below_threshold is None else len(detections.below_threshold)
    doubts = f"; {number} candidates scored below the finder's threshold" if number else ""
    raise NoEyeFound(
        f"No eye was found in the photo of {photo.width} x {photo.height} pixels{doubts}. Take a photo with "
        "an uncovered eye that looks at the camera, or a picture of one eye alone (input: eye).",
        num_below_threshold=number,
    )


def _is_close_up(photo: Photo, eyes: list[Eye]) -> bool:
    return max(eye.size_px for eye in eyes) >= CLOSE_UP * min(photo.width, photo.height)


def _central_square(photo: Photo, options: SynthesisOptions) -> Eye:
    return Eye(
        x=(photo.width - 1) / 2,
        y=(photo.height - 1) / 2,
        size_px=min(photo.width, photo.height),
        roll_deg=0.0,
        side="left" if options.eye == "left" else "right",
    )


def _select_people(people: dict[int, list[Eye]], options: SynthesisOptions) -> list[list[Eye]]:
    if options.person == "all":
        return list(people.values())
    number = 0 if options.person == "largest" else options.person
    if number not in people:
        raise NoSuchPerson(
            f"person={number} was asked for, but the photo shows {len(people)}: "
            f"send a number from 0 (the largest) to {len(people) - 1}, 'largest' or 'all'."
        )
    return [people[number]]


def _quality_score(seen: MeasuredEye, size: int) -> float:
    """Of one person's eyes the larger and sharper is taken, the right one unless the left is clearly better.

    A finder's score tells how sure it is, not how well the eye is seen, and moves with a JPEG's blocks:
    it would make the same photo give the one face or the other.
    """
    bonus = _RIGHT_EYE_BONUS if seen.eye.side == "right" else 1.0
    return bonus * min(1.0, seen.quality.size_px / size) * seen.quality.sharpness
