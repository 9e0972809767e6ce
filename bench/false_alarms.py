"""Watermark scores of pictures that bear none: how near chance comes to the threshold.

    python -m bench.false_alarms FOLDER...

Each picture is read and searched as `POST /verify` does it. Ends with status 1 if a watermark is found.
"""

import argparse
import statistics
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

import cv2

from service.decoding.process_pool import open_reader
from service.errors import Eye2FaceError
from service.observability.stage_timer import StageTimer
from service.pipeline import SHRINK
from service.provenance.marking import PUBLIC_SECRET
from service.provenance.watermark import THRESHOLD, WatermarkDetector
from service.settings import Settings
from service.vision.images import PHOTO_SUFFIXES

_REPORT_EVERY: Final = 500


def measure(paths: list[Path]) -> Iterator[tuple[float, Path]]:
    """The score of each picture that can be read."""
    detector = WatermarkDetector(PUBLIC_SECRET)
    with closing(open_reader(Settings(device="cpu"), 1)) as reader:
        for path in paths:
            try:
                picture = reader(path.read_bytes(), SHRINK, StageTimer())
            except Eye2FaceError:
                continue
            yield detector.find(picture).score, path


def report(scores: list[tuple[float, Path]]) -> str:
    """One line: how many were searched and found, and the highest score."""
    num_found = sum(score >= THRESHOLD for score, _ in scores)
    (highest, path), median = max(scores), statistics.median(score for score, _ in scores)
    return (
        f"{len(scores)} pictures: {num_found} false alarms; highest score {highest:.2f} ({path.name}), "
        f"median {median:.2f}, needed {THRESHOLD:g}"
    )


def main() -> int:
    """1 if a watermark is found."""
    parser = argparse.ArgumentParser(description="Searches pictures without a watermark for one.")
    parser.add_argument("folders", type=Path, nargs="+")
    folders: list[Path] = parser.parse_args().folders
    cv2.setNumThreads(1)
    paths = sorted(path for folder in folders for path in folder.rglob("*") if path.suffix in PHOTO_SUFFIXES)
    scores: list[tuple[float, Path]] = []
    for each in measure(paths):
        scores.append(each)
        if len(scores) % _REPORT_EVERY == 0:
            print(report(scores), flush=True)
    print(report(scores))
    return int(max(scores)[0] >= THRESHOLD)


if __name__ == "__main__":
    sys.exit(main())
