"""Self-test of a synthesizer with two drawn eyes, before callers meet it.

A file can follow the contract and still hold damaged weights: faces of NaN become black here.
"""

from typing import Final

import numpy as np

from service.errors import InferenceFailed, ModelSelfTestFailed
from service.inference.synthesizer import Synthesizer
from service.vision.images import Image

_MAX_DIFFERENCE: Final = 2
"""Gray levels of 255 by which a face may depend on its batch: kernels sum in another order."""

Colour = tuple[int, int, int]


def check_model(synthesizer: Synthesizer) -> None:
    """Checks that the model draws faces that differ from eye to eye and do not depend on their batch.

    Raises:
        ModelSelfTestFailed: it does not, or it cannot be run.
    """
    size, face_size = synthesizer.info.eye_size, synthesizer.info.face_size
    eyes_BHWC = np.stack(
        [
            draw_eye(size, skin=(224, 178, 150), iris=(90, 60, 30)),
            draw_eye(size, skin=(96, 64, 48), iris=(70, 110, 150)),
        ]
    )
    faces_BHWC = _draw(synthesizer, eyes_BHWC)
    expected = (2, face_size, face_size, 3)
    if faces_BHWC.shape != expected:
        raise _failure(synthesizer, f"draws an array of shape {faces_BHWC.shape} instead of {expected}")
    if any(face.min() == face.max() for face in faces_BHWC):
        raise _failure(synthesizer, "draws a face of one single colour")
    if np.array_equal(faces_BHWC[0], faces_BHWC[1]):
        raise _failure(synthesizer, "draws the same face from different eyes")
    alone = np.concatenate([_draw(synthesizer, eye[np.newaxis]) for eye in eyes_BHWC])
    if (abs(alone.astype(np.int16) - faces_BHWC) > _MAX_DIFFERENCE).any():
        raise _failure(synthesizer, "draws another face when it draws two at once")


def draw_eye(size: int, *, skin: Colour, iris: Colour) -> Image:
    """A drawing of an open eye, size x size x 3 uint8 RGB: skin, sclera, iris and pupil."""
    y, x = (np.mgrid[:size, :size] - (size - 1) / 2) / size
    from_centre = np.hypot(x, y)
    eye_HWC = np.broadcast_to(np.array(skin, np.float64), (size, size, 3)) * (1 - 0.3 * abs(y))[..., None]
    eye_HWC[(x / 0.42) ** 2 + (y / 0.2) ** 2 < 1] = (235, 232, 228)
    inside = (x / 0.42) ** 2 + (y / 0.22) ** 2 < 1
    eye_HWC[(from_centre < 0.17) & inside] = iris
    eye_HWC[from_centre < 0.07] = (12, 10, 10)
    return np.asarray(np.rint(eye_HWC), np.uint8)


def _draw(synthesizer: Synthesizer, eyes_BHWC: Image) -> Image:
    try:
        return synthesizer(eyes_BHWC)
    except InferenceFailed as error:
        raise _failure(synthesizer, f"cannot be run ({synthesizer.last_run.error})") from error


def _failure(synthesizer: Synthesizer, found: str) -> ModelSelfTestFailed:
    info = synthesizer.info
    return ModelSelfTestFailed(
        f"The model {info.name} {info.version} {found}. Expected faces that differ from eye to eye: "
        "export it again, and check how it was trained."
    )
