"""Self-test of a synthesizer with drawn eyes, before callers meet it.

A file can follow the contract and still hold damaged weights: faces of NaN become black here. It can also
need more time or memory than there is: `python -m service.inference.self_test` tests a candidate, which a
running service is to change to, in a process of its own.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

import numpy as np

from service.errors import Eye2FaceError, InferenceFailed, ModelSelfTestFailed
from service.inference.synthesizer import Floats, Synthesizer, guess_noise
from service.system.child_process import child_environment, describe_exit, end_with_parent, limit_memory
from service.system.memory import count_memory, prefer_oom_kill
from service.vision.images import Image

MAX_TEST_S: Final = 30
"""Seconds that a candidate may take to be loaded and to draw; the shipped model takes one second."""

MAX_CANDIDATE_BYTES: Final = 2 << 30
"""Memory that a candidate may take, if that is not more than a quarter of all: it is loaded beside the model
in use, and several photos are drawn at once."""

_NUM_GUESSES: Final = 2
"""Two drawings of each eye make a batch of as many as a worker draws at once."""

_MAX_DIFFERENCE: Final = 2
"""Gray levels of 255 by which a face may depend on its batch: kernels sum in another order."""

Color = tuple[int, int, int]


def check_model(synthesizer: Synthesizer) -> None:
    """Checks that the model draws faces that differ from eye to eye and do not depend on their batch.

    Of each eye it draws the default face and a guess.

    Raises:
        ModelSelfTestFailed: it does not, or it cannot be run.
    """
    size, face_size = synthesizer.info.eye_size, synthesizer.info.face_size
    light = draw_eye(size, skin=(224, 178, 150), iris=(90, 60, 30))
    dark = draw_eye(size, skin=(96, 64, 48), iris=(70, 110, 150))
    eyes_BHWC = np.stack([light, dark] * _NUM_GUESSES)
    noise_BD = guess_noise(_NUM_GUESSES, 0, synthesizer.info.noise_size).repeat(2, axis=0)
    faces_BHWC, certainty_B = _draw(synthesizer, eyes_BHWC, noise_BD)
    expected = (len(eyes_BHWC), face_size, face_size, 3)
    if faces_BHWC.shape != expected:
        raise _failure(synthesizer, f"draws an array of shape {faces_BHWC.shape} instead of {expected}")
    if any(face.min() == face.max() for face in faces_BHWC):
        raise _failure(synthesizer, "draws a face of one single color")
    impossible = certainty_B[~((certainty_B >= 0) & (certainty_B <= 1))]  # NaN is
    if impossible.size:
        raise _failure(synthesizer, f"has a certainty of {impossible[0]} instead of 0 to 1")
    if np.array_equal(faces_BHWC[0], faces_BHWC[1]):
        raise _failure(synthesizer, "draws the same face from different eyes")
    singles = zip(eyes_BHWC[:, np.newaxis], noise_BD[:, np.newaxis], strict=True)
    alone = np.concatenate([_draw(synthesizer, eye, noise)[0] for eye, noise in singles])
    if (abs(alone.astype(np.int16) - faces_BHWC) > _MAX_DIFFERENCE).any():
        raise _failure(synthesizer, "draws another face when it draws several at once")


def check_candidate(path: Path, content: bytes) -> None:
    """Checks the model of this content, read from `path`, on the CPU in a process with limits.

    Raises:
        ModelSelfTestFailed: it cannot be used, or takes too much time or memory.
    """
    command = [sys.executable, "-m", "service.inference.self_test", str(path), str(os.getpid())]
    try:
        done = subprocess.run(
            command, input=content, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=MAX_TEST_S,
            cwd=Path(__file__).parents[2], env=child_environment(os.environ),
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise ModelSelfTestFailed(f"{path} was not loaded and tested within {MAX_TEST_S} s.") from None
    if done.returncode:
        problem = f"The test of {path} {describe_exit(done.returncode)}."
        raise ModelSelfTestFailed(done.stdout.decode(errors="replace").strip() or problem)


def draw_eye(size: int, *, skin: Color, iris: Color) -> Image:
    """A drawing of an open eye, size x size x 3 uint8 RGB: skin, sclera, iris and pupil."""
    y, x = (np.mgrid[:size, :size] - (size - 1) / 2) / size
    from_center = np.hypot(x, y)
    eye_HWC = np.broadcast_to(np.array(skin, np.float64), (size, size, 3)) * (1 - 0.3 * abs(y))[..., None]
    eye_HWC[(x / 0.42) ** 2 + (y / 0.2) ** 2 < 1] = (235, 232, 228)
    inside = (x / 0.42) ** 2 + (y / 0.22) ** 2 < 1
    eye_HWC[(from_center < 0.17) & inside] = iris
    eye_HWC[from_center < 0.07] = (12, 10, 10)
    return np.asarray(np.rint(eye_HWC), np.uint8)


def _draw(synthesizer: Synthesizer, eyes_BHWC: Image, noise_BD: Floats) -> tuple[Image, Floats]:
    try:
        return synthesizer.draw(eyes_BHWC, noise_BD)
    except InferenceFailed as error:
        raise _failure(synthesizer, f"cannot be run ({synthesizer.last_run.error})") from error


def _failure(synthesizer: Synthesizer, found: str) -> ModelSelfTestFailed:
    info = synthesizer.info
    return ModelSelfTestFailed(
        f"The model {info.name} {info.version} {found}. Expected faces that differ from eye to eye: "
        "export it again, and check how it was trained."
    )


def _test_candidate(path: Path, parent: int) -> None:
    """Tests the model whose content comes in, from `path`; ends the process with status 1 if it fails."""
    signal.alarm(MAX_TEST_S)
    end_with_parent(parent)
    prefer_oom_kill()
    content = sys.stdin.buffer.read()
    max_bytes = min(MAX_CANDIDATE_BYTES, count_memory() // 4)
    limit_memory(max_bytes)
    try:
        check_model(Synthesizer.load(path, content=content, device="cpu"))
    except (Eye2FaceError, MemoryError) as error:
        print(str(error) or f"{path} takes more than {max_bytes >> 20} MiB of memory.")
        sys.exit(1)


if __name__ == "__main__":
    _test_candidate(Path(sys.argv[1]), int(sys.argv[2]))
