"""READ FIRST: one photo's bytes to its faces, in three steps: read, draw, finish; and then their files.

S is the side of an eye's crop and F that of a face, in pixels; images are H x W x 3, uint8, RGB. Of each of
C crops, G guesses are drawn, the first of which is the default face.

read    bytes -> Photo                vision.eyes            header parsed; decoded as finely as needed
        Photo -> SelectedCrops        selection.select_crops, which calls
            -> EyeDetections          Photo.detect           in pixels of the upright photo; not for input=eye
            -> Quality of each eye    Photo.measure          eyes below the QualityThresholds are refused
            -> S x S crops            Photo.crop             a left eye mirrored
        SelectedCrops -> PhotoCrops   guess_noise            the noise of each guess
draw    PhotoCrops -> DrawnFaces      Synthesizer.draw       F x F; one call for the photos that wait together
finish  DrawnFaces -> Synthesis       Pipeline.finish        mirrored back for a left eye
        Face -> bytes                 Marker.encode          a marked file, for whoever got the Synthesis

Bytes come from `http.request_body`, a folder or a file. `provenance.marking.Marker` is the only place where
faces become files.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, Literal

import cv2
import numpy as np

from service.decoding.reader import PhotoReader, PhotoTask
from service.errors import Eye2FaceError, InvalidParameter, ReadingFailed
from service.inference.synthesizer import Floats, Synthesizer, guess_noise
from service.observability.stage_timer import StageTimer
from service.selection import (
    EyeCrop,
    MeasuredEye,
    QualityThresholds,
    RefusedEye,
    SelectedCrops,
    SynthesisOptions,
    select_crops,
)
from service.vision.eyes import Eye, EyeFinder, Photo, Quality
from service.vision.images import Image
from service.vision.overlay import MAX_SIDE_PX, draw_eyes

if TYPE_CHECKING:  # pydantic takes 11 MB of each decoder process, which has no settings
    from service.settings import Settings


MAX_GUESSES: Final = 64
"""Faces of one photo, where several are drawn of each eye: their files are held until the answer has left."""

_SHRUNK_PX: Final = 512
"""What the verification of a picture looks at: four times the size of a face."""


@dataclass(frozen=True, slots=True)
class PhotoRequest:
    """A photo as it was sent, and which of its eyes become faces."""

    data: bytes
    options: SynthesisOptions


@dataclass(frozen=True, slots=True)
class PhotoCrops:
    """The crops of a photo, and the noise of the guesses that are drawn of each, G x D numbers."""

    selected: SelectedCrops
    noise: Floats


@dataclass(frozen=True, slots=True)
class DrawnFaces:
    """What the model drew of a photo's crops, C x G x F x F x 3, and how long the shared call took.

    `certainty` has one number for each crop.
    """

    selected: SelectedCrops
    faces: Image
    certainty: Floats
    took_ms: float


@dataclass(frozen=True, slots=True)
class Face:
    """What the model drew, G x F x F x 3, and the eye it was drawn from.

    `certainty` is 0 to 1: how much of what differs between people the eye tells.
    """

    guesses: Image
    eye: Eye
    quality: Quality
    certainty: float

    @property
    def pixels(self) -> Image:
        """The default face, F x F x 3."""
        default: Image = self.guesses[0]
        return default

    @property
    def spread(self) -> float:
        """Root mean square over the pixels of the guesses' standard deviation, in levels of 255."""
        return math.sqrt(self.guesses.var(axis=0, dtype=np.float32).mean())


@dataclass(frozen=True, slots=True)
class PhotoEyes:
    """Size of the upright photo, its eyes, and the candidates that scored below the finder's threshold.

    `below_threshold` is None if the finder does not report them.
    """

    width: int
    height: int
    eyes: list[MeasuredEye]
    below_threshold: list[Eye] | None


@dataclass(frozen=True, slots=True)
class Synthesis:
    """The faces of one photo, the eyes without one, and the milliseconds of decode, find, crop and infer.

    `num_left_out` people are more than may be drawn from one photo.
    """

    faces: list[Face]
    refused: list[RefusedEye]
    input: Literal["photo", "eye"]
    num_left_out: int
    timings_ms: dict[str, float]


class Pipeline:
    """Photo in, faces out; may be shared by threads."""

    def __init__(
        self,
        reader: PhotoReader,
        synthesizer: Synthesizer,
        *,
        thresholds: QualityThresholds | None = None,
        draw: Callable[[Image, Floats], tuple[Image, Floats]] | None = None,
    ) -> None:
        """`draw` is called in place of the synthesizer's, for instance to run it in batches."""
        self.reader = reader
        self._draw = draw or synthesizer.draw
        self._eye_size = synthesizer.info.eye_size
        self._noise_size = synthesizer.info.noise_size
        self._thresholds = thresholds or QualityThresholds()

    def synthesize(
        self, data: bytes, options: SynthesisOptions, timer: StageTimer | None = None
    ) -> Synthesis:
        """One face for each eye that was chosen and can be seen well enough: `read`, `draw` and `finish`.

        Raises:
            ImageError: the bytes are not a picture that can be used.
            NoEyeFound, NoSuchPerson, NoSuchEye: the photo does not show what was chosen.
            EyeRefused: it shows it too badly.
            InvalidParameter: more than MAX_GUESSES are asked for.
        """
        timer = timer or StageTimer()
        (crops,) = self.read([(PhotoRequest(data, options), timer)])
        if isinstance(crops, Exception):
            raise crops
        (drawn,) = self.draw([crops])
        return self.finish(drawn, timer)

    def read(self, photos: Sequence[tuple[PhotoRequest, StageTimer]]) -> list[PhotoCrops | Exception]:
        """Of each photo the crops of the eyes that become faces, or the error that `synthesize` raises.

        The photos' pixels are gone with it: many may wait for the model.
        """
        tasks = [(photo.data, self._select_task(photo.options), timer) for photo, timer in photos]
        selected = self.reader.read_together(tasks)
        return [
            each if isinstance(each, Exception) else self._check(each, photo.options)
            for (photo, _), each in zip(photos, selected, strict=True)
        ]

    def draw(self, photos: Sequence[PhotoCrops]) -> list[DrawnFaces]:
        """The faces of each photo, drawn from the crops of all of them in one call of the model."""
        begun = time.monotonic()
        eyes = [crop.pixels for photo in photos for crop in photo.selected.crops for _ in photo.noise]
        noise = [photo.noise for photo in photos for _ in photo.selected.crops]
        faces_BHWC, certainty_B = self._draw(np.stack(eyes), np.concatenate(noise))
        took_ms, start, drawn = (time.monotonic() - begun) * 1000, 0, []
        for photo in photos:
            num_crops, num_guesses = len(photo.selected.crops), len(photo.noise)
            end = start + num_crops * num_guesses
            faces_CGHWC = faces_BHWC[start:end].reshape(num_crops, num_guesses, *faces_BHWC.shape[1:])
            drawn.append(DrawnFaces(photo.selected, faces_CGHWC, certainty_B[start:end:num_guesses], took_ms))
            start = end
        return drawn

    def finish(self, drawn: DrawnFaces, timer: StageTimer) -> Synthesis:
        """The faces of a photo, each turned to the side of its eye."""
        selected = drawn.selected
        faces = [*map(as_face, selected.crops, drawn.faces, drawn.certainty)]
        timer.add("infer", drawn.took_ms)
        return Synthesis(faces, selected.refused, selected.input, selected.num_left_out, timer.spent_ms)

    def _select_task(self, options: SynthesisOptions) -> PhotoTask[SelectedCrops]:
        select = partial(select_crops, options=options, size=self._eye_size, thresholds=self._thresholds)
        max_pixel_bytes = _max_crops(options) * self._eye_size**2 * 3
        return PhotoTask(select, returns=SelectedCrops, max_pixel_bytes=max_pixel_bytes)

    def _check(self, selected: SelectedCrops, options: SynthesisOptions) -> PhotoCrops | Eye2FaceError:
        """The crops; an error where another number or size of them would spoil the call that photos share."""
        num_crops, most, side = len(selected.crops), _max_crops(options), self._eye_size
        num_faces = num_crops * options.guesses
        if not 0 < num_crops <= most or {crop.pixels.shape for crop in selected.crops} != {(side, side, 3)}:
            return ReadingFailed(
                f"The photo's reader gave {num_crops} crops; expected 1 to {most} of {side} px."
            )
        if options.guesses > 1 and num_faces > MAX_GUESSES:
            return InvalidParameter(
                f"guesses={options.guesses} for each of {num_crops} people are {num_faces} faces; at most "
                f"{MAX_GUESSES} are drawn from one photo. Ask for fewer guesses, or for one person."
            )
        return PhotoCrops(selected, guess_noise(options.guesses, options.seed, self._noise_size))


def _max_crops(options: SynthesisOptions) -> int:
    return options.max_people if options.person == "all" else 1


def find_eyes(photo: Photo, finder: EyeFinder) -> PhotoEyes:
    """Every eye in the photo and how well it is seen, people largest first."""
    detections = photo.detect(finder)
    eyes = [*map(MeasuredEye, detections.eyes, photo.measure(detections.eyes))]
    photo.timer.end("crop")
    return PhotoEyes(photo.width, photo.height, eyes, detections.below_threshold)


def draw_overlay(photo: Photo, finder: EyeFinder) -> Image:
    """The photo as the finder saw it, with every eye and what it was not sure of drawn into it."""
    detections, reduce = photo.detect(finder), photo.detection_reduce(finder)
    eyes = [photo.at_scale(eye, reduce) for eye in detections.eyes]
    below_threshold = [photo.at_scale(eye, reduce) for eye in detections.below_threshold or ()]
    return draw_eyes(photo.pixels(reduce), eyes, below_threshold)


def shrink_picture(photo: Photo, finder: EyeFinder) -> Image:
    """The picture, its long side at most _SHRUNK_PX."""
    reduce = photo.coarsest_reduce(_SHRUNK_PX)
    picture = photo.pixels(reduce)
    scale = _SHRUNK_PX / max(picture.shape[:2])
    if scale >= 1:
        return picture
    size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


FIND_EYES: Final = PhotoTask(find_eyes, PhotoEyes)
SHRINK: Final = PhotoTask(shrink_picture, Image, max_pixel_bytes=3 * _SHRUNK_PX**2)
DRAW_OVERLAY: Final = PhotoTask(draw_overlay, Image, max_pixel_bytes=3 * MAX_SIDE_PX**2)


def quality_thresholds(settings: "Settings") -> QualityThresholds:
    """What the settings ask of an eye."""
    return QualityThresholds(settings.min_eye_px, settings.min_eye_light, settings.min_eye_sharpness)


def as_face(crop: EyeCrop, guesses_GHWC: Image, certainty: float) -> Face:
    """What the model drew of the crop, mirrored back for a left eye."""
    if crop.eye.side == "left":
        guesses_GHWC = np.ascontiguousarray(guesses_GHWC[:, :, ::-1])
    return Face(guesses_GHWC, crop.eye, crop.quality, float(certainty))
