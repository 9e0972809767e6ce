"""READ FIRST: photo bytes to face bytes, one photo at a time, in the thread that calls.

bytes -> Header           images.read_header   nothing decoded; what cannot be used is refused here
      -> Image            images.decode        upright; a JPEG at the smallest scale that serves
      -> list[Eye]        EyeFinder.find       in pixels of the upright photo at full size
      -> EyeCrop          crop_eye             S x S, a left eye mirrored, from the sharpest pixels
      -> Face             Synthesizer          F x F, mirrored back for a left eye
      -> bytes            marking.finish       outside of this file: the seam every face leaves through
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Literal

import cv2
import numpy as np

from service.errors import NoEyeFound, NoSuchEye, NoSuchPerson
from service.eyes import Eye, EyeFinder, crop_eye
from service.images import Image, Reduce, decode, overhang, read_header
from service.overlay import draw_eyes
from service.synthesizer import Synthesizer

LOOK_SIDE_PX = 1000
"""The finder gets a JPEG with at least this long a side: a quarter of 12 MP takes a third of the time."""

_CLEARLY = 1.25
"""So much better must the left eye be seen to be taken; the two eyes of a frontal face differ by less."""

_REDUCES: tuple[Reduce, ...] = (8, 4, 2, 1)


@dataclass(frozen=True, slots=True)
class Choice:
    """Which eyes of a photo become faces.

    `person` counts from 0, the largest first. `eye="auto"` takes the eye that is seen better. With
    `input="eye"` the picture's central square is the eye; `auto` looks for eyes, as `photo` does.
    """

    eye: Literal["auto", "left", "right"] = "auto"
    person: Literal["largest", "all"] | int = "largest"
    input: Literal["auto", "photo", "eye"] = "auto"


@dataclass(frozen=True, slots=True)
class Quality:
    """How well an eye is seen.

    `size_px`: side of the crop in pixels of the photo. `sharpness`: variance of the Laplacian of the grey
    crop; below about 100 it looks blurred. `brightness`: mean of the grey crop, 0 to 1.

    Source: sharpness after Pech-Pacheco et al., 2000, "Diatom autofocusing in brightfield microscopy".
    """

    size_px: float
    sharpness: float
    brightness: float


@dataclass(frozen=True, slots=True)
class EyeCrop:
    """What the model sees, S x S x 3, and where it was in the upright photo."""

    pixels: Image
    eye: Eye
    quality: Quality


@dataclass(frozen=True, slots=True)
class Face:
    """What the model drew, F x F x 3, and the eye it was drawn from."""

    pixels: Image
    eye: Eye
    quality: Quality


@dataclass(frozen=True, slots=True)
class Found:
    """Size of the upright photo, and every eye in it."""

    width: int
    height: int
    eyes: list[Eye]


@dataclass(frozen=True, slots=True)
class Synthesis:
    """The faces of one photo, and the milliseconds spent in decode, find, crop and infer."""

    faces: list[Face]
    timings_ms: dict[str, float]


class Pipeline:
    """Photo in, faces out; may be shared by threads."""

    def __init__(self, finder: EyeFinder, synthesizer: Synthesizer, *, max_pixels: int) -> None:
        self._finder = finder
        self._synthesizer = synthesizer
        self._max_pixels = max_pixels

    def find(self, data: bytes) -> Found:
        """Every eye in the photo, people largest first; none is no error.

        Raises:
            ImageError: the bytes are not a picture that can be used.
        """
        photo = Photo(data, max_pixels=self._max_pixels)
        return Found(photo.width, photo.height, photo.find(self._finder))

    def synthesize(self, data: bytes, choice: Choice) -> Synthesis:
        """One face for each eye that was chosen.

        Raises:
            ImageError: the bytes are not a picture that can be used.
            NoEyeFound, NoSuchPerson, NoSuchEye: the photo does not show what was chosen.
        """
        photo = Photo(data, max_pixels=self._max_pixels)
        crops = choose_crops(photo, choice, self._finder, self._synthesizer.info.eye_size)
        with photo.clock.span("infer"):
            faces_BHWC = self._synthesizer(np.stack([crop.pixels for crop in crops]))
        faces = [
            Face(
                np.ascontiguousarray(face[:, ::-1]) if crop.eye.side == "left" else face,
                crop.eye,
                crop.quality,
            )
            for crop, face in zip(crops, faces_BHWC, strict=True)
        ]
        return Synthesis(faces, photo.clock.spent_ms)

    def overlay(self, data: bytes) -> Image:
        """The upright photo, its long side at most 1280 px, with every eye drawn into it."""
        photo = Photo(data, max_pixels=self._max_pixels)
        eyes = photo.find(self._finder)
        return draw_eyes(
            photo.pixels(photo.look_reduce), [photo.shrunk(eye, photo.look_reduce) for eye in eyes]
        )


class Photo:
    """One photo, decoded as little as possible; where it is, eyes are in pixels of its full size."""

    def __init__(self, data: bytes, *, max_pixels: int) -> None:
        self._data = data
        self._header = read_header(data, max_pixels=max_pixels)
        self._decoded: dict[Reduce, Image] = {}
        self.width = self._header.upright_width
        self.height = self._header.upright_height
        self.look_reduce = self._smallest(max(self.width, self.height), LOOK_SIDE_PX)
        self.clock = Clock()

    def find(self, finder: EyeFinder) -> list[Eye]:
        """Every eye that the finder sees at the scale at which it looks."""
        pixels = self.pixels(self.look_reduce)
        with self.clock.span("find"):
            return [self._grown(eye, self.look_reduce) for eye in finder.find(pixels)]

    def crop(self, eye: Eye, size: int) -> EyeCrop:
        """The eye from pixels at least as fine as the crop, where the photo has them."""
        reduce = self._smallest(eye.size_px, size)
        finer = [each for each in self._decoded if each <= reduce]
        pixels = self.pixels(reduce := max(finer, default=reduce))
        with self.clock.span("crop"):
            crop = crop_eye(pixels, self.shrunk(eye, reduce), size)
            return EyeCrop(crop, eye, measure_quality(crop, eye))

    def pixels(self, reduce: Reduce) -> Image:
        """The photo decoded at 1/`reduce`, once."""
        if reduce not in self._decoded:
            with self.clock.span("decode"):
                self._decoded[reduce] = decode(self._data, self._header, reduce=reduce)
        return self._decoded[reduce]

    def shrunk(self, eye: Eye, reduce: Reduce) -> Eye:
        """An eye of the full size in pixels of 1/`reduce`."""
        beyond_x, beyond_y = overhang(self._header, reduce)
        x, y = (eye.x + 0.5 + beyond_x) / reduce - 0.5, (eye.y + 0.5 + beyond_y) / reduce - 0.5
        return replace(eye, x=x, y=y, size_px=eye.size_px / reduce)

    def _grown(self, eye: Eye, reduce: Reduce) -> Eye:
        beyond_x, beyond_y = overhang(self._header, reduce)
        x, y = (eye.x + 0.5) * reduce - 0.5 - beyond_x, (eye.y + 0.5) * reduce - 0.5 - beyond_y
        return replace(eye, x=x, y=y, size_px=eye.size_px * reduce)

    def _smallest(self, length_px: float, needed_px: float) -> Reduce:
        """The smallest scale at which a length of the full size keeps `needed_px`."""
        if self._header.format != "jpeg":
            return 1
        return next((reduce for reduce in _REDUCES if length_px / reduce >= needed_px), 1)


@dataclass(slots=True)
class Clock:
    """Adds up the milliseconds spent under each name."""

    spent_ms: dict[str, float] = field(
        default_factory=lambda: dict.fromkeys(("decode", "find", "crop", "infer"), 0.0)
    )

    @contextmanager
    def span(self, name: str) -> Iterator[None]:
        """Counts what runs inside."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.spent_ms[name] += (time.perf_counter() - begin) * 1000


def choose_crops(photo: Photo, choice: Choice, finder: EyeFinder, size: int) -> list[EyeCrop]:
    """The crop of each eye that was chosen, one a person.

    Raises:
        NoEyeFound, NoSuchPerson, NoSuchEye: the photo does not show what was chosen.
    """
    if choice.input == "eye":
        return [photo.crop(_central_square(photo, choice), size)]
    people: dict[int, list[Eye]] = {}
    for eye in photo.find(finder):
        people.setdefault(eye.person, []).append(eye)
    if not people:
        raise NoEyeFound(
            f"No eye was found in the photo of {photo.width} x {photo.height} pixels. Send a photo with an "
            "uncovered face that looks at the camera, or with input=eye a picture of the eye alone."
        )
    wanted = _choose_people(people, choice)
    eyes = [[eye for eye in eyes if choice.eye in ("auto", eye.side)] for eyes in wanted]
    if not any(eyes):
        raise NoSuchEye(
            f"The {choice.eye} eye was asked for, but only the other one was found. "
            f"Ask for eye={'right' if choice.eye == 'left' else 'left'} or eye=auto."
        )
    return [_better([photo.crop(eye, size) for eye in each]) for each in eyes if each]


def measure_quality(crop: Image, eye: Eye) -> Quality:
    """How well the eye is seen in its crop."""
    grey = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)
    sharpness = float(cv2.Laplacian(grey, cv2.CV_64F).var())
    return Quality(size_px=eye.size_px, sharpness=sharpness, brightness=float(np.mean(grey)) / 255)


def _central_square(photo: Photo, choice: Choice) -> Eye:
    return Eye(
        x=(photo.width - 1) / 2,
        y=(photo.height - 1) / 2,
        size_px=min(photo.width, photo.height),
        roll_deg=0.0,
        side="left" if choice.eye == "left" else "right",
    )


def _choose_people(people: dict[int, list[Eye]], choice: Choice) -> list[list[Eye]]:
    if choice.person == "all":
        return list(people.values())
    number = 0 if choice.person == "largest" else choice.person
    if number not in people:
        raise NoSuchPerson(
            f"person={number} was asked for, but the photo shows {len(people)}: "
            f"send a number from 0 (the largest) to {len(people) - 1}, 'largest' or 'all'."
        )
    return [people[number]]


def _better(crops: list[EyeCrop]) -> EyeCrop:
    """Of one person's eyes the larger and sharper, the right one unless the left is clearly better.

    A finder's score tells how sure it is, not how well the eye is seen, and moves with a JPEG's blocks:
    it would make the same photo give the one face or the other.
    """
    return max(crops, key=lambda crop: _merit(crop) * (_CLEARLY if crop.eye.side == "right" else 1.0))


def _merit(crop: EyeCrop) -> float:
    large: float = min(1.0, crop.quality.size_px / crop.pixels.shape[0])
    return large * crop.quality.sharpness / (crop.quality.sharpness + 100)
