"""What the watermark survives, and what forges it, on the faces that a model draws of a folder of photos.

    python -m bench.watermark PHOTOS --into docs/results.md

The table replaces what stands between the marks of the model's name in the document.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Final

import cv2
import numpy as np
from skimage.metrics import structural_similarity

from service.decoding.process_pool import open_reader
from service.errors import Eye2FaceError
from service.inference.model_files import model_path
from service.inference.synthesizer import Synthesizer, read_model_info
from service.pipeline import Face, Pipeline
from service.provenance.marking import Marker
from service.provenance.watermark import (
    BAND,
    COEFFICIENT_LIMIT,
    SIDE_PX,
    THRESHOLD,
    WatermarkDetector,
    to_luma,
)
from service.selection import SynthesisOptions
from service.settings import Settings
from service.vision.images import Image, decode, encode, read_header
from training.markdown import put_between_marks

_SECRET: Final = b"of the measurement"
_AVERAGED: Final = (5, 50, 500)
_NUM_TARGETS: Final = 20


def _compress(face: Image, ending: str, quality: int) -> Image:
    option = cv2.IMWRITE_JPEG_QUALITY if ending == ".jpg" else cv2.IMWRITE_WEBP_QUALITY
    return np.asarray(cv2.imdecode(cv2.imencode(ending, face, [option, quality])[1], 1), np.uint8)


def _resize(face: Image, side: int) -> Image:
    how = cv2.INTER_AREA if side < face.shape[0] else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(face, (side, side), interpolation=how), np.uint8)


def _blur(face: Image, sigma: float) -> Image:
    return np.asarray(cv2.GaussianBlur(face, (0, 0), sigma), np.uint8)


def _cut(face: Image, share: float) -> Image:
    left, top = round(face.shape[1] * share * 0.6), round(face.shape[0] * share * 0.3)
    return np.ascontiguousarray(face[top : top + round(face.shape[0] * (1 - share)),
                                     left : left + round(face.shape[1] * (1 - share))])  # fmt: skip


def _rotate(face: Image, degrees: float) -> Image:
    side = face.shape[0]
    turn = cv2.getRotationMatrix2D((side / 2, side / 2), degrees, 1)
    return np.asarray(cv2.warpAffine(face, turn, (side, side), borderMode=cv2.BORDER_REFLECT), np.uint8)


CHANGES: Final[dict[str, Callable[[Image], Image]]] = {
    "none": lambda face: face,
    "JPEG 50": lambda face: _compress(face, ".jpg", 50),
    "JPEG 30": lambda face: _compress(face, ".jpg", 30),
    "WebP 60": lambda face: _compress(face, ".webp", 60),
    "WebP 50": lambda face: _compress(face, ".webp", 50),
    "256 px and back": lambda face: _resize(_resize(face, 256), len(face)),
    "64 px": lambda face: _resize(face, 64),
    "48 px": lambda face: _resize(face, 48),
    "blur of 1 px": lambda face: _blur(face, 1),
    "blur of 1.5 px": lambda face: _blur(face, 1.5),
    "blur of 1 px, JPEG 50": lambda face: _compress(_blur(face, 1), ".jpg", 50),
    "cut by 5 %": lambda face: _cut(face, 0.05),
    "cut by 5 %, JPEG 50": lambda face: _compress(_cut(face, 0.05), ".jpg", 50),
    "cut by 10 %, 256 px, JPEG 70": lambda face: _compress(_resize(_cut(face, 0.1), 256), ".jpg", 70),
    "mirrored, cut by 5 %, JPEG 75": lambda face: _compress(_cut(face[:, ::-1], 0.05), ".jpg", 75),
    "turned by 1°": lambda face: _rotate(face, 1),
    "turned by 2°": lambda face: _rotate(face, 2),
}


def draw_faces(photos: Path, model: str, number: int) -> Iterator[Face]:
    """The faces of photos that get one, in a random order that is always the same."""
    settings = Settings(device="cpu")
    reader = open_reader(settings, 1)
    pipeline = Pipeline(reader, Synthesizer.load(model_path(model), device="cpu"))
    paths = sorted(photos.rglob("*.jpg"))
    Random(0).shuffle(paths)
    for path in paths:
        if number == 0:
            break
        try:
            yield pipeline.synthesize(path.read_bytes(), SynthesisOptions()).faces[0]
        except Eye2FaceError:
            continue
        number -= 1
    reader.close()


def measure(faces: list[Face], marker: Marker) -> Iterator[str]:
    """The lines of the report."""
    detector = WatermarkDetector(_SECRET)
    marked, times_ms = [], []
    for face in faces:
        begun = time.thread_time()
        file = marker.encode(face, "png")
        middle = time.thread_time()
        encode(face.pixels, "png")
        times_ms.append((2 * middle - begun - time.thread_time()) * 1000)
        marked.append(decode(file, read_header(file, max_pixels=10**7)))
    pairs = list(zip((face.pixels for face in faces), marked, strict=True))
    psnr = statistics.mean(cv2.PSNR(plain, mark) for plain, mark in pairs)
    similar = [structural_similarity(plain, mark, channel_axis=2) for plain, mark in pairs]  # type: ignore[no-untyped-call]
    yield (
        f"{len(faces)} faces: PSNR {psnr:.1f} dB, SSIM {np.mean(similar):.3f} (least {min(similar):.3f}); "
        f"marking takes {statistics.median(times_ms):.2f} ms of CPU (median), encoding apart. "
        f"A score counts from {THRESHOLD:g} on."
    )
    yield from ("", "| change | found, % | lowest score | median |", "|---|---|---|---|")
    for name, change in CHANGES.items():
        scores = [detector.find(change(mark)).score for mark in marked]
        found = 100 * np.mean([score >= THRESHOLD for score in scores])
        yield f"| {name} | {found:.1f} | {min(scores):.1f} | {statistics.median(scores):.1f} |"
    yield from ("", "| forged from the mean of | found, % | highest score | median |", "|---|---|---|---|")
    for number in (each for each in _AVERAGED if each <= len(marked)):
        scores = [detector.find(forged).score for forged in forge(marked[:number], pairs[-_NUM_TARGETS:])]
        found = 100 * np.mean([score >= THRESHOLD for score in scores])
        yield f"| {number} faces | {found:.1f} | {max(scores):.1f} | {statistics.median(scores):.1f} |"


def forge(marked: list[Image], targets: list[tuple[Image, Image]]) -> Iterator[Image]:
    """Faces without watermark, to which the signs are added that the mean of marked ones suggests."""
    limited = [np.tanh(cv2.dct(to_luma(face)).ravel()[BAND] / COEFFICIENT_LIMIT) for face in marked]
    guessed = np.zeros(SIDE_PX * SIDE_PX, np.float32)
    guessed[BAND] = np.sign(np.mean(limited, axis=0))
    pattern = cv2.idct(guessed.reshape(SIDE_PX, SIDE_PX))
    for plain, real in targets:
        added = cv2.resize(pattern, plain.shape[1::-1], interpolation=cv2.INTER_CUBIC)
        added *= np.std(real.astype(np.float32) - plain) / np.std(added)
        yield np.clip(np.rint(plain + added[:, :, None]), 0, 255).astype(np.uint8)


def main() -> None:
    """Prints the report, and writes it into a document."""
    parser = argparse.ArgumentParser(description="What the watermark survives, and what forges it.")
    parser.add_argument("photos", type=Path)
    parser.add_argument("--model", default="synthesizer")
    parser.add_argument("--faces", type=int, default=512)
    parser.add_argument("--into", type=Path)
    given = parser.parse_args()
    cv2.setNumThreads(1)
    faces = list(draw_faces(given.photos, given.model, given.faces))
    lines = list(measure(faces, Marker(read_model_info(model_path(given.model)), secret=_SECRET)))
    print("\n".join(lines))
    if given.into:
        put_between_marks(given.into, f"WATERMARK {given.model}", "\n".join(lines))


if __name__ == "__main__":
    main()
