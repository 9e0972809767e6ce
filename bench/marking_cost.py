"""CPU time and bytes of the marks of a face, and the memory that many C2PA signatures take.

    python -m bench.marking_cost

Signs with a certificate that it makes. CPU time is that of the process: other work on the machine matters
little. Prints Markdown.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final, get_args

import cv2
import numpy as np
import skimage.data

from service.inference.model_files import model_path
from service.inference.synthesizer import read_model_info
from service.pipeline import Face
from service.provenance.marking import Marker
from service.provenance.signing import C2paSigner
from service.vision.eyes import Eye, measure_quality
from service.vision.images import FaceFormat, encode
from tests.certificates import certify_signer

_SIDES: Final = (64, 128, 256)
_NUM_THREADS: Final = 4
_NUM_WARM_UP: Final = 200
"""Signatures before memory is measured: the first ones fill caches."""


def make_face(side: int) -> Face:
    """The astronaut's, of so many pixels."""
    astronaut = np.asarray(skimage.data.astronaut())[20:190, 140:310]  # type: ignore[no-untyped-call]
    pixels = np.asarray(cv2.resize(astronaut, (side, side), interpolation=cv2.INTER_AREA), np.uint8)
    eye = Eye(side / 2, side / 2, side / 4, 0, "right")
    return Face(pixels[np.newaxis], eye, measure_quality(pixels, eye), certainty=0.0)


def measure_costs(plain: Marker, signing: Marker, rounds: int) -> Iterator[str]:
    """The lines of the table."""
    yield "| face | encoding, ms | watermark, label, metadata, ms | C2PA, ms | C2PA, bytes |"
    yield "|---|---|---|---|---|"
    for side in _SIDES:
        face = make_face(side)
        for format in get_args(FaceFormat):
            mark, sign = (partial(marker.encode, face, format, label=True) for marker in (plain, signing))
            encoding, marking, all_ms = _median_ms([partial(encode, face.pixels, format), mark, sign], rounds)
            yield (
                f"| {side} px, {format} | {encoding:.2f} | {marking - encoding:.2f} "
                f"| {all_ms - marking:.2f} | {len(sign()) - len(mark())} |"
            )


def _median_ms(steps: list[Callable[[], bytes]], rounds: int) -> list[float]:
    """The median CPU time of each step; they take turns, as caches and clocks change."""
    times: list[list[float]] = [[] for _ in steps]
    for _ in range(rounds):
        for step, taken in zip(steps, times, strict=True):
            begun = time.process_time()
            step()
            taken.append((time.process_time() - begun) * 1000)
    return [statistics.median(taken) for taken in times]


def measure_growth(signing: Marker, number: int) -> float:
    """By how many MB the process grows with so many signatures on four threads."""
    face = make_face(128)

    def sign(number: int) -> None:
        for _ in range(number // _NUM_THREADS):
            signing.encode(face, "png")

    with ThreadPoolExecutor(_NUM_THREADS) as threads:
        list(threads.map(sign, [_NUM_WARM_UP] * _NUM_THREADS))
        before = _memory_mb()
        list(threads.map(sign, [number] * _NUM_THREADS))
        return _memory_mb() - before


def _memory_mb() -> float:
    """The resident memory of this process."""
    (line,) = (each for each in Path("/proc/self/status").read_text().splitlines() if "VmRSS" in each)
    return int(line.split()[1]) / 1024


def main() -> None:
    """Prints the table and the growth of memory."""
    parser = argparse.ArgumentParser(description="What the marks of a face cost.")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--signatures", type=int, default=10_000)
    given = parser.parse_args()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        chain, key, _ = certify_signer(Path(folder), "bench")
        signer = C2paSigner(chain, key)
    model = read_model_info(model_path("synthesizer"))
    signing = Marker(model, signer=signer)
    print("\n".join(measure_costs(Marker(model), signing, given.rounds)))
    growth = measure_growth(signing, given.signatures)
    print(f"\n{given.signatures} signatures on {_NUM_THREADS} threads: memory {growth:+.1f} MB")


if __name__ == "__main__":
    main()
