"""The workload that every server runs, by the service's own code: photo bytes to the PNG of a face.

Letters of shapes: B batch, H height, W width, C = 3 colors.
"""

import threading
import time
from types import SimpleNamespace
from typing import Final, Literal, Self

import numpy as np

from service.inference.eye_finder import open_eye_finder
from service.inference.model_files import model_path
from service.inference.synthesizer import Floats, ModelInfo, ModelRun, Synthesizer
from service.pipeline import Face, as_face
from service.provenance.marking import Marker
from service.selection import EyeCrop, SynthesisOptions, select_crops
from service.settings import Settings
from service.vision.eyes import Photo
from service.vision.images import Image

Model = Literal["cpu", "standin"]

CALL_S: Final = 0.002
ITEM_S: Final = 0.0001
"""What a call of the stand-in takes, and each eye in it: about what a GPU needs for a small network."""


class StandIn(Synthesizer):
    """A simulated accelerator: sleeps as long as one would take, one call at a time, and enlarges the eye."""

    def __init__(self, info: ModelInfo) -> None:
        self._turn = threading.Lock()
        super().__init__(SimpleNamespace(device="cuda"), info)  # type: ignore[arg-type]

    @classmethod
    def load(cls, *arguments: object, **options: object) -> Self:
        """The stand-in for the shipped model, of the same sizes."""
        return cls(Synthesizer.load(model_path(Settings().model), device="cpu").info)

    def draw(self, eyes_BHWC: Image, noise_BD: Floats) -> tuple[Image, Floats]:
        """Faces B x F x F x 3 from eyes B x S x S x 3, after 2 + 0.1 B ms of sleep; certainties of 0."""
        begin = time.monotonic()
        with self._turn:
            time.sleep(CALL_S + ITEM_S * len(eyes_BHWC))
        factor = self.info.face_size // self.info.eye_size
        faces_BHWC: Image = eyes_BHWC.repeat(factor, axis=1).repeat(factor, axis=2)
        self.last_run = ModelRun(time.monotonic(), (time.monotonic() - begin) * 1000, None)
        return faces_BHWC, np.zeros(len(eyes_BHWC), np.float32)


def default_face(crop: EyeCrop, pixels: Image) -> Face:
    """What the model drew of a crop, F x F x 3, as a face."""
    return as_face(crop, pixels[np.newaxis], certainty=0.0)


class Workload:
    """Model and finder of one process, and the three parts of the workload."""

    def __init__(self, model: Model, *, num_threads: int = 1) -> None:
        settings = Settings()
        self._finder = open_eye_finder(settings.eye_finder)
        self._max_pixels = settings.max_pixels
        self._draw = (
            StandIn.load()
            if model == "standin"
            else Synthesizer.load(model_path(settings.model), device="cpu", num_threads=num_threads)
        )
        self._marker = Marker(self._draw.info)

    def crop(self, photo: bytes) -> EyeCrop:
        """The best eye of the largest person."""
        opened = Photo(photo, max_pixels=self._max_pixels)
        return select_crops(opened, SynthesisOptions(), self._finder, self._draw.info.eye_size).crops[0]

    def draw(self, crops: list[EyeCrop]) -> list[Face]:
        """A face for each eye, in one call of the model."""
        faces_BHWC = self.run(np.stack([crop.pixels for crop in crops]))
        return [*map(default_face, crops, faces_BHWC)]

    def run(self, eyes_BHWC: Image) -> Image:
        """What the model draws, B x F x F x 3, from eyes B x S x S x 3."""
        return self._draw(eyes_BHWC)

    def encode(self, face: Face) -> bytes:
        """The face as PNG."""
        return self._marker.encode(face, "png")

    def __call__(self, photo: bytes) -> bytes:
        """A face as PNG from one photo, in the calling thread."""
        return self.encode(self.draw([self.crop(photo)])[0])

    def run_batch(self, photos: list[bytes]) -> list[bytes]:
        """The same for several photos, in one call of the model."""
        return [self.encode(face) for face in self.draw([self.crop(photo) for photo in photos])]
