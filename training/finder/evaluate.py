"""Evaluation of an eye finder: recall by kind of picture, errors of place, false positives, precision, time.

An eye is found if a detection is within MATCH_DISTANCE of it; every rate has a 95 % interval.
"""

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import TypedDict

import numpy as np
from tqdm import tqdm

from service.vision.eyes import CROP_PER_EYE_DISTANCE, Eye, EyeFinder
from training.finder.scenes import EyeLabel
from training.finder.test_sets import NO_PEOPLE, PACKAGED, Example
from training.markdown import render_table

MATCH_DISTANCE = 0.15
"""Of the distance between the eyes."""

IGNORE_DISTANCE = 0.5
"""A detection so near an eye whose label is not sure is ignored, in eye distances."""

CONFIDENT_SCORE = 0.9


@dataclass(slots=True)
class KindResult:
    """Matches and false positives of one finder on one kind of picture.

    `errors` hold, for each eye found: the center's error over the eye distance, whether the side is right,
    the roll's error in degrees, and the size over the true size. `scored` hold the score of each detection
    and whether it is right. `false_positives` and `milliseconds` hold one number a picture.
    """

    num_eyes: int = 0
    errors: list[tuple[float, bool, float, float]] = field(default_factory=list)
    scored: list[tuple[float, bool]] = field(default_factory=list)
    false_positives: list[int] = field(default_factory=list)
    milliseconds: list[float] = field(default_factory=list)

    def add(self, example: Example, detections: Sequence[Eye], milliseconds: float) -> None:
        """Counts one picture in."""
        self.milliseconds.append(milliseconds)
        for eye in example.eyes:
            if eye.sure:
                self.num_eyes += 1
                near = min(detections, key=partial(_distance, eye=eye), default=None)
                if near is not None and _distance(near, eye) <= MATCH_DISTANCE:
                    self.errors.append(_errors(near, eye))
        judged = [(detection.score, is_true_positive(detection, example)) for detection in detections]
        self.scored += [(score, right) for score, right in judged if right is not None]
        self.false_positives.append(sum(right is False for _, right in judged))

    def counts(self) -> dict[str, int]:
        """How many eyes and pictures there were, how many were found and falsely found; the median time."""
        return {
            "eyes": self.num_eyes,
            "found": len(self.errors),
            "pictures": len(self.false_positives),
            "false_positives": sum(self.false_positives),
            "cpu_us": round(1000 * float(np.median(self.milliseconds))),
        }


def evaluate_finder(
    finder: EyeFinder, examples: Iterable[Example], *, title: str = "evaluate"
) -> dict[str, KindResult]:
    """A result for each kind of picture, in the order of their first."""
    results: dict[str, KindResult] = {}
    for example in tqdm(examples, desc=title):
        begin = time.thread_time()
        detections = finder.detect(example.picture).eyes
        spent_ms = (time.thread_time() - begin) * 1000
        results.setdefault(example.kind, KindResult()).add(example, detections, spent_ms)
    return results


def wilson_interval(hits: int, total: int) -> tuple[float, float]:
    """The 95 % interval of a rate. Source: Wilson 1927, "Probable inference", as in Brown et al. 2001."""
    if not total:
        return 0.0, 1.0
    z, p = 1.96, hits / total
    middle, reach = p + z * z / (2 * total), z * math.sqrt(p * (1 - p) / total + z * z / (4 * total * total))
    return (middle - reach) / (1 + z * z / total), (middle + reach) / (1 + z * z / total)


class FinderNumbers(TypedDict):
    """One finder by kind (see `KindResult.counts`) and over all kinds: a center's median error in eye
    distances, the median of CPU milliseconds a picture, and rates as hits and totals."""

    kinds: dict[str, dict[str, int]]
    center_error: float | None
    cpu_ms: float
    rates: dict[str, tuple[int, int]]


def summarize(by_kind: Mapping[str, KindResult]) -> FinderNumbers:
    """The results of one finder as numbers that can be kept as JSON."""
    results = by_kind.values()
    errors = [error for result in results for error in result.errors]
    empty = {kind: result.false_positives for kind, result in by_kind.items() if kind.startswith(NO_PEOPLE)}
    # Hundreds of parts of three pictures say more of these three than of pictures.
    various = {kind: counts for kind, counts in empty.items() if kind != PACKAGED}
    counted: dict[str, list[int]] = {
        "false positives a picture, all without people": [*chain(*empty.values())],
        "false positives a picture, all without people but packaged": [*chain(*various.values())],
        "side right": [side for _, side, _, _ in errors],
        "roll within 5°": [roll_deg <= 5 for _, _, roll_deg, _ in errors],
        "size within 15 %": [abs(size - 1) <= 0.15 for _, _, _, size in errors],
        "precision at scores of 0.9 or more": [
            right for result in results for score, right in result.scored if score >= CONFIDENT_SCORE
        ],
    }
    return {
        "kinds": {kind: result.counts() for kind, result in by_kind.items()},
        "center_error": round(float(np.median([error[0] for error in errors])), 4) if errors else None,
        "cpu_ms": round(float(np.median([ms for result in results for ms in result.milliseconds])), 2),
        "rates": {name: (sum(each), len(each)) for name, each in counted.items()},
    }


def render_rate(hits: int, total: int) -> str:
    """A rate and its interval, or the counts where there are more hits than chances."""
    if not total:
        return "none"
    if hits > total:  # more than one false eye a picture: no rate of successes
        return f"{hits / total:.2f} ({hits}/{total})"
    low, high = wilson_interval(hits, total)
    return f"{hits / total:.3f} ({low:.3f}–{high:.3f})"


def render_numbers(numbers: Mapping[str, FinderNumbers]) -> str:
    """All finders side by side as a Markdown table."""
    finders = list(numbers.values())
    first = finders[0]
    rows: list[list[str]] = []
    for kind, counted in sorted(first["kinds"].items(), key=lambda each: not each[1]["eyes"]):
        counts = [each["kinds"][kind] for each in finders]
        name, total = ("found", "eyes") if counted["eyes"] else ("false_positives", "pictures")
        cells = (render_rate(each[name], each[total]) for each in counts)
        title = f"found: {kind}" if counted["eyes"] else f"false positives a picture, {kind}"
        rows.append([title, f"{counted[total]} {total}", *cells])
    rows += [[name, "", *(render_rate(*each["rates"][name]) for each in finders)] for name in first["rates"]]
    rows.append(["center error, median", "", *(str(each["center_error"]) for each in finders)])
    rows.append(["CPU ms a picture, median", "", *(f"{each['cpu_ms']:.1f}" for each in finders)])
    return render_table(["", "of", *numbers], rows)


def _distance(detection: Eye, eye: EyeLabel) -> float:
    return math.hypot(detection.x - eye.x, detection.y - eye.y) / eye.distance


def _errors(detection: Eye, eye: EyeLabel) -> tuple[float, bool, float, float]:
    roll = (detection.roll_deg - math.degrees(eye.roll) + 180) % 360 - 180
    size = detection.size_px / (CROP_PER_EYE_DISTANCE * eye.distance)
    return _distance(detection, eye), (detection.side == "left") == eye.left, abs(roll), size


def is_true_positive(detection: Eye, example: Example) -> bool | None:
    """Whether the detection is of an eye; None where the label of one nearby is not sure."""
    if any(eye.sure and _distance(detection, eye) <= MATCH_DISTANCE for eye in example.eyes):
        return True
    unsure = any(not eye.sure and _distance(detection, eye) <= IGNORE_DISTANCE for eye in example.eyes)
    return None if unsure else False
