"""Finds the watermark of `service.provenance.marking` in any picture: as it is, mirrored, or cut.

The score of a look is the correlation of limited DCT coefficients with a pattern's signs, in standard
deviations: for signs that the picture does not know, it is distributed as the standard normal.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from service.provenance.marking import BAND, COEFFICIENT_LIMIT, SIDE_PX, pattern_signs, to_luma
from service.vision.images import Image

THRESHOLD: Final = 7.0
"""The least score that counts: of the 230,000 looks at a picture one reaches it by chance in 3 of 10 million
pictures."""

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


@dataclass(frozen=True, slots=True)
class WatermarkScore:
    """The best of the looks at a picture, and the probability that a picture without watermark reaches it."""

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
        best, num_looks = self.look(picture).max(), len(self._signs_of_both)
        for coefficients in _cut_looks(picture):
            if best >= THRESHOLD:
                break
            scores = self._scores(coefficients)
            best, num_looks = max(best, scores.max()), num_looks + scores.size
        return WatermarkScore(float(best), min(1.0, num_looks * 0.5 * math.erfc(best / math.sqrt(2))))

    def look(self, picture: Image) -> _Floats:
        """The scores of the whole picture: of each pattern, and of each mirrored."""
        return self._scores(np.asarray(cv2.dct(to_luma(picture)), np.float32).reshape(-1, 1)[BAND]).ravel()

    def _scores(self, coefficients: _Floats) -> _Floats:
        """The score of each pattern in each look, of coefficients BAND x looks."""
        limited = np.tanh(coefficients / np.float32(COEFFICIENT_LIMIT))
        norms = np.sqrt(np.square(limited).sum(axis=0)) + np.float32(1e-6)
        return np.asarray(_multiply(self._signs_of_both, limited) / norms, np.float32)


def _cut_looks(picture: Image) -> Iterator[_Floats]:
    """The coefficients, BAND x looks, of the picture at each place and size in a face that it is cut from."""
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
