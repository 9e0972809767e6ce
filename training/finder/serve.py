"""End-to-end evaluation of a finder in the service: photos that get a face, and refusals by error code.

Photos are sent as files; their labels only tell which of them show an open, uncovered eye.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from tqdm import tqdm

from service.errors import EyeRefused, ImageError, NoEyeFound
from service.pipeline import Pipeline
from service.selection import SynthesisOptions
from service.vision.eyes import crop_eye, eyes_from_points
from training.data.face_alignment import EYE_SIZE, FACE_SIZE, align_face
from training.data.filters import MAX_LABEL_SPREAD, usable_eyes
from training.data.photos import SourcePhoto, read_photo
from training.data.prepare import read_pixels
from training.errors import DataError
from training.finder.evaluate import render_rate
from training.markdown import render_table

DRAWN = "face"


def run_service(photos: Sequence[SourcePhoto], pipeline: Pipeline) -> dict[str, str]:
    """Of each photo whose label shows an open, uncovered eye: DRAWN, or the service's error code.

    Raises:
        DataError: none of the photos does.
    """
    shown = [photo for photo in tqdm(photos, desc="serve") if _shows_an_eye(photo)]
    if not shown:
        raise DataError(f"none of the {len(photos)} photos has a label with an open, uncovered eye")
    return {photo.file: _answer(pipeline, read_photo(photo.path)) for photo in shown}


def render_codes(codes: Mapping[str, str], split: str) -> str:
    """Rates and counts as a Markdown table, under the name of the split."""
    counts = Counter(codes.values())
    drawn, total = counts.pop(DRAWN, 0), len(codes)
    rows = [(f"photos with a face drawn, of {total} with an open, uncovered eye", render_rate(drawn, total))]
    rows += [(f"refused: {code}", str(count)) for code, count in counts.most_common()]
    return render_table((f"`{split}` in the service", ""), rows)


def _shows_an_eye(photo: SourcePhoto) -> bool:
    if photo.eyes is None or (photo.label_spread or 0.0) > MAX_LABEL_SPREAD or not photo.path.is_file():
        return False
    pixels = read_pixels(photo)
    face, _ = align_face(pixels, *photo.eyes, FACE_SIZE)
    crops = np.stack([crop_eye(pixels, eye, EYE_SIZE) for eye in eyes_from_points(*photo.eyes)])
    return any(usable_eyes(face, crops))


def _answer(pipeline: Pipeline, data: bytes) -> str:
    try:
        pipeline.synthesize(data, SynthesisOptions())
    except (ImageError, NoEyeFound, EyeRefused) as error:
        return error.code
    return DRAWN
