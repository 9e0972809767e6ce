"""The watermark: added to a face, and found in any picture as it is, mirrored, cut, or in a grid.

It adds to the luma of the whole face one of `NUM_PATTERNS` sequences of signs over the DCT coefficients of
middle frequencies (spread spectrum). A secret decides the signs.

A trial is one pattern at one placement: the picture as a whole face, or as a crop of one. Its score is the
correlation of limited DCT coefficients with the pattern's signs, in standard deviations: for signs that the
picture does not know, it is distributed as the standard normal.
"""

import hashlib
import hmac
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from service.vision.images import Image

SIDE_PX: Final = 128
"""Watermarks are added and searched for at this size."""

NUM_PATTERNS: Final = 64
"""A single one is averaged from a few faces and added to any photo; many make it harder: docs/results.md."""

_RADII: Final = (20, 72)
"""Of the DCT coefficients: lower ones show, higher ones do not survive compression."""

_RADIUS = np.hypot(*np.mgrid[:SIDE_PX, :SIDE_PX])
BAND: Final = np.flatnonzero((_RADII[0] <= _RADIUS) & (_RADII[1] >= _RADIUS))
"""Indices of the coefficients that carry the watermark, 3,802 of the flat SIDE_PX x SIDE_PX."""

COEFFICIENT_LIMIT: Final = 8.0
"""Scale of the tanh that limits coefficients: strong edges of the face must not drown the rest."""

_RMS: Final = 2.7
"""Of the watermark, in gray values: 39.5 dB PSNR."""

_MASK_PX: Final = 7
_MASK_RANGE: Final = (0.5, 2.0)

THRESHOLD: Final = 7.0
"""The least score that counts: of the 230,000 trials of a picture one reaches it by chance in 3 of 10 million
pictures."""

_GRID_COLUMNS: Final = (2, 3, 4)
"""Of the pictures of several guesses."""

_MIN_SIDE_PX: Final = 112
"""Of what is left of a face that was cut, where SIDE_PX would be the whole of it."""

_Floats = NDArray[np.float32]

_ROWS, _COLUMNS = np.divmod(BAND, SIDE_PX)
_NUM_FREQUENCIES: Final = int(_COLUMNS.max()) + 1
_FREQUENCY, _POSITION = np.mgrid[:_NUM_FREQUENCIES, :SIDE_PX]
_DCT: Final = np.cos(np.pi / SIDE_PX * (_POSITION + 0.5) * _FREQUENCY).astype(np.float32) * np.float32(
    math.sqrt(2 / SIDE_PX)
)
"""The orthonormal DCT-II, but for the frequency 0, which is not in the band."""


def pattern_signs(secret: bytes) -> NDArray[np.int8]:
    """The signs of each pattern, NUM_PATTERNS x BAND, -1 or 1."""
    num_signs = NUM_PATTERNS * len(BAND)
    key = hmac.digest(secret, b"eye2face watermark", "sha256")
    random = np.frombuffer(hashlib.shake_256(key).digest(-(-num_signs // 8)), np.uint8)
    return (np.unpackbits(random, count=num_signs).astype(np.int8) * 2 - 1).reshape(NUM_PATTERNS, len(BAND))


def to_luma(picture: Image) -> _Floats:
    """The luma of a picture, SIDE_PX x SIDE_PX."""
    luma = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32)
    return _resize(luma, (SIDE_PX, SIDE_PX))


def add_watermark(pixels: Image, signs: NDArray[np.int8]) -> Image:
    """A copy of the face with the pattern, stronger where the face is busy."""
    luma = to_luma(pixels)
    # How far each coefficient already speaks for the pattern: most is gained where it does not, unless it is
    # so large that the limit hides a change.
    for_pattern = np.tanh(cv2.dct(luma).ravel()[BAND] * signs * np.float32(1 / COEFFICIENT_LIMIT))
    gain = (1 - for_pattern) * np.sqrt(1 - for_pattern**2)
    added = np.zeros(SIDE_PX * SIDE_PX, np.float32)
    added[BAND] = gain * signs
    shown = _resize(cv2.idct(added.reshape(SIDE_PX, SIDE_PX)) * _activity(luma), pixels.shape[1::-1])
    shown *= _RMS / max(cv2.norm(shown) / shown.size**0.5, 1e-6)
    rounded = np.rint(shown).astype(np.int16)
    return np.asarray(cv2.add(pixels, cv2.merge([rounded] * 3), dtype=cv2.CV_8U), dtype=np.uint8)


def _activity(luma: _Floats) -> _Floats:
    """How much busier than the mean the surroundings of each pixel are, within _MASK_RANGE."""
    window = (_MASK_PX, _MASK_PX)
    activity = cv2.blur(cv2.absdiff(luma, cv2.blur(luma, window)), window) + 1
    return np.asarray(np.clip(activity / cv2.mean(activity)[0], *_MASK_RANGE), np.float32)


def _resize(luma: _Floats, size: tuple[int, ...]) -> _Floats:
    width, height = size
    if luma.shape == (height, width):
        return luma
    shrinks = luma.shape[0] > height or luma.shape[1] > width
    how = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(luma, (width, height), interpolation=how), dtype=np.float32)


@dataclass(frozen=True, slots=True)
class WatermarkScore:
    """The best score of all trials, and the probability that a picture without watermark reaches it."""

    score: float
    false_alarm_probability: float

    @property
    def is_found(self) -> bool:
        """Whether it is no chance."""
        return self.score >= THRESHOLD


class WatermarkDetector:
    """Finds the watermark of one secret; may be shared by threads."""

    def __init__(self, secret: bytes) -> None:
        signs = pattern_signs(secret).astype(np.float32)
        mirrored = signs * np.where(_COLUMNS % 2, -1, 1).astype(np.float32)
        self._signs_of_both = np.concatenate([signs, mirrored])

    def find(self, picture: Image) -> WatermarkScore:
        """The score of the picture; if that is too low as it is, of what it may be cut from."""
        cells = [picture, *_first_cells(picture)]
        best = max(self.score_whole(cell).max() for cell in cells)
        num_trials = len(cells) * len(self._signs_of_both)
        for coefficients in _cropped_placements(picture):
            if best >= THRESHOLD:
                break
            scores = self._scores(coefficients)
            best, num_trials = max(best, scores.max()), num_trials + scores.size
        return WatermarkScore(float(best), min(1.0, num_trials * 0.5 * math.erfc(best / math.sqrt(2))))

    def score_whole(self, picture: Image) -> _Floats:
        """The scores of the whole picture: of each pattern, and of each mirrored."""
        return self._scores(np.asarray(cv2.dct(to_luma(picture)), np.float32).reshape(-1, 1)[BAND]).ravel()

    def _scores(self, coefficients: _Floats) -> _Floats:
        """The score of each pattern at each placement, of coefficients BAND x placements."""
        limited = np.tanh(coefficients / np.float32(COEFFICIENT_LIMIT))
        norms = np.sqrt(np.square(limited).sum(axis=0)) + np.float32(1e-6)
        return np.asarray(_multiply(self._signs_of_both, limited) / norms, np.float32)


def _first_cells(picture: Image) -> Iterator[Image]:
    """What would be the first face if the picture were a grid."""
    for num_columns in _GRID_COLUMNS:
        side = picture.shape[1] // num_columns
        if side:
            yield picture[:side, :side]


def _cropped_placements(picture: Image) -> Iterator[_Floats]:
    """The coefficients, BAND x placements, of the picture as a crop at each place and size in a face."""
    luma = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32)
    longest = max(luma.shape)
    for size in range(SIDE_PX, _MIN_SIDE_PX - 1, -1):
        height, width = (round(side * size / longest) for side in luma.shape)
        if min(height, width) < _MIN_SIDE_PX:
            return
        cut = cv2.resize(luma, (width, height), interpolation=cv2.INTER_AREA)
        rows = _multiply(_dct_at_places(height), cut - cut.mean())
        both = _multiply(rows, _dct_at_places(width), transpose=True)
        by_place = both.reshape(-1, _NUM_FREQUENCIES, SIDE_PX - width + 1, _NUM_FREQUENCIES)
        yield by_place[:, _ROWS, :, _COLUMNS].reshape(len(BAND), -1)


def _dct_at_places(length: int) -> _Floats:
    """The DCT of `length` pixels at each place within SIDE_PX: (places x frequencies) x length."""
    return np.concatenate([_DCT[:, place : place + length] for place in range(SIDE_PX - length + 1)])


def _multiply(a: _Floats, b: _Floats, *, transpose: bool = False) -> _Floats:
    """The product, by OpenCV in this thread: NumPy's would spread over all cores, which have other work."""
    flags = cv2.GEMM_2_T if transpose else 0
    return np.asarray(cv2.gemm(a, b, 1, np.empty(0), 0, flags=flags), np.float32)
