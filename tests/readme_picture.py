"""The picture at the head of README: NASA's astronaut, the eye that is found, the face that is drawn.

    python -m tests.readme_picture

writes `docs/astronaut.png` with the shipped model. Eileen Collins, photo by NASA, public domain.
"""

from pathlib import Path

import cv2
import numpy as np

from service.decoding.reader import InProcessReader
from service.inference.haar import HaarEyeFinder
from service.inference.model_files import model_path
from service.inference.synthesizer import Synthesizer
from service.pipeline import Pipeline
from service.selection import SynthesisOptions
from service.vision.eyes import crop_eye
from service.vision.images import Image
from tests import fakes

PICTURE = Path(__file__).parents[1] / "docs" / "astronaut.png"

SIDE = 288
GAP = 28


def draw_picture() -> tuple[Image, Image]:
    """The whole picture, and the drawn face alone, F x F x 3."""
    photo = fakes.astronaut()
    synthesizer = Synthesizer.load(model_path("synthesizer"), device="cpu")
    pipeline = Pipeline(InProcessReader(HaarEyeFinder(), max_pixels=photo.size), synthesizer)
    face = pipeline.synthesize(fakes.encoded(photo), SynthesisOptions()).faces[0]
    crop = crop_eye(photo, face.eye, synthesizer.info.eye_size)
    shown = photo.copy()
    corners = cv2.boxPoints(((face.eye.x, face.eye.y), (face.eye.size_px,) * 2, face.eye.roll_deg))
    cv2.polylines(shown, [np.round(corners).astype(np.int32)], True, (255, 255, 0), 2, cv2.LINE_AA)
    head = shown[20:300, 90:370]
    gap = np.full((SIDE, GAP, 3), 255, np.uint8)
    parts = [
        cv2.resize(part, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC) for part in (head, crop, face.pixels)
    ]
    return np.asarray(np.hstack([parts[0], gap, parts[1], gap, parts[2]]), dtype=np.uint8), face.pixels


if __name__ == "__main__":
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_bytes(fakes.encoded(draw_picture()[0], "png"))
