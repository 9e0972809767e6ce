"""The watermark is forged, for a measurement, in faces of any size."""

import numpy as np
import pytest

from bench.marking_cost import make_face
from bench.watermark import forge
from service.provenance.watermark import WatermarkDetector, add_watermark, pattern_signs


@pytest.mark.parametrize("side", [64, 128, 192])
def test_what_is_forged_of_one_marked_face_is_found_in_another(side: int) -> None:
    plain, secret = make_face(side).pixels, b"secret"
    marked = add_watermark(plain, pattern_signs(secret)[0])
    (forged,) = forge([marked], [(np.full_like(plain, 128), marked)])
    assert forged.shape == plain.shape
    detector = WatermarkDetector(secret)
    assert detector.score_whole(forged).max() > detector.score_whole(plain).max()
