"""How many eyes a finder finds, of which kind, how exactly, and how many it sees where there are none.

An eye is found if one of the finder's is within FOUND_WITHIN of it; every rate has a 95 % interval.
"""

import json
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypedDict

import numpy as np
from tqdm import tqdm

from service.vision.eyes import CROP_PER_EYE_DISTANCE, Eye, EyeFinder
from training.finder.scenes import DrawnEye
from training.finder.test_sets import NOBODY, PACKAGED, Case

FOUND_WITHIN = 0.15
"""Of the distance between the eyes."""

NOT_ANOTHER_EYE = 0.5
"""An answer so near an eye whose label is not sure is neither right nor wrong, in eye distances."""

SURE_SCORE = 0.9


@dataclass(slots=True)
class Tally:
    """What one finder did on one kind of picture.

    `errors` hold, for each eye found: the centre's error over the eye distance, whether the side is right,
    the roll's error in degrees, and the size over the true size. `scored` hold the score of each answer and
    whether it is right. `false_eyes` and `milliseconds` hold one number a picture.
    """

    num_eyes: int = 0
    errors: list[tuple[float, bool, float, float]] = field(default_factory=list)
    scored: list[tuple[float, bool]] = field(default_factory=list)
    false_eyes: list[int] = field(default_factory=list)
    milliseconds: list[float] = field(default_factory=list)

    def add(self, case: Case, answers: Sequence[Eye], milliseconds: float) -> None:
        """Counts one picture in."""
        self.milliseconds.append(milliseconds)
        for eye in case.eyes:
            if eye.sure:
                self.num_eyes += 1
                near = min(answers, key=partial(_off, eye=eye), default=None)
                if near is not None and _off(near, eye) <= FOUND_WITHIN:
                    self.errors.append(_errors(near, eye))
        judged = [
            (answer.score, right) for answer in answers if (right := is_right(answer, case)) is not None
        ]
        self.scored += judged
        self.false_eyes.append(sum(not right for _, right in judged))

    @property
    def num_found(self) -> int:
        """How many eyes were found."""
        return len(self.errors)


def measure(finder: EyeFinder, cases: Iterable[Case], *, title: str = "measure") -> dict[str, Tally]:
    """A tally for each kind of picture, in the order of their first."""
    tallies: dict[str, Tally] = {}
    for case in tqdm(cases, desc=title):
        begin = time.thread_time()
        answers = finder.detect(case.picture).eyes
        spent_ms = (time.thread_time() - begin) * 1000
        tallies.setdefault(case.kind, Tally()).add(case, answers, spent_ms)
    return tallies


def wilson(hits: int, total: int) -> tuple[float, float]:
    """The 95 % interval of a rate. Source: Wilson 1927, "Probable inference", as in Brown et al. 2001."""
    if not total:
        return 0.0, 1.0
    z, p = 1.96, hits / total
    middle, reach = p + z * z / (2 * total), z * math.sqrt(p * (1 - p) / total + z * z / (4 * total * total))
    return (middle - reach) / (1 + z * z / total), (middle + reach) / (1 + z * z / total)


class KindNumbers(TypedDict):
    """What one finder did on one kind of picture, counted."""

    eyes: int
    found: int
    pictures: int
    false_eyes: int


class FinderNumbers(TypedDict):
    """What one finder did, by kind and over all kinds: a centre's median error in eye distances, the median
    of CPU milliseconds a picture, and rates as hits and totals."""

    kinds: dict[str, KindNumbers]
    centre_error: float | None
    cpu_ms: float
    rates: dict[str, tuple[int, int]]


def sum_up(by_kind: Mapping[str, Tally]) -> FinderNumbers:
    """The tallies of one finder as numbers that can be kept as JSON."""
    errors = [error for tally in by_kind.values() for error in tally.errors]
    nobody = {kind: tally for kind, tally in by_kind.items() if kind.startswith(NOBODY)}
    empty = [count for tally in nobody.values() for count in tally.false_eyes]
    # Hundreds of parts of three pictures say more of these three than of pictures.
    various = [count for kind, tally in nobody.items() if kind != PACKAGED for count in tally.false_eyes]
    sure = [right for tally in by_kind.values() for score, right in tally.scored if score >= SURE_SCORE]
    milliseconds = [each for tally in by_kind.values() for each in tally.milliseconds]
    return FinderNumbers(
        kinds={
            kind: KindNumbers(
                eyes=tally.num_eyes,
                found=tally.num_found,
                pictures=len(tally.false_eyes),
                false_eyes=sum(tally.false_eyes),
            )
            for kind, tally in by_kind.items()
        },
        centre_error=round(float(np.median([error[0] for error in errors])), 4) if errors else None,
        cpu_ms=round(float(np.median(milliseconds)), 2),
        rates={
            "false eyes a picture, all of nobody": (sum(empty), len(empty)),
            "false eyes a picture, all of nobody but packaged": (sum(various), len(various)),
            "side right": (sum(error[1] for error in errors), len(errors)),
            "roll within 5°": (sum(error[2] <= 5 for error in errors), len(errors)),
            "size within 15 %": (sum(abs(error[3] - 1) <= 0.15 for error in errors), len(errors)),
            "right of those scored 0.9 or more": (sum(sure), len(sure)),
        },
    )


def table(numbers: Mapping[str, FinderNumbers]) -> str:
    """All finders side by side as Markdown: eyes found by kind, false eyes, exactness, calibration, time."""
    finders = list(numbers.values())
    kinds = finders[0]["kinds"]
    lines = ["| | of | " + " | ".join(numbers) + " |", "|---" * (len(numbers) + 2) + "|"]

    def add(name: str, of: str, cells: Iterable[str]) -> None:
        lines.append(f"| {name} | {of} | " + " | ".join(cells) + " |")

    for kind in (kind for kind, counted in kinds.items() if counted["eyes"]):
        counts = [each["kinds"][kind] for each in finders]
        cells = (_rate(each["found"], each["eyes"]) for each in counts)
        add(f"found: {kind}", f"{kinds[kind]['eyes']} eyes", cells)
    for kind in (kind for kind, counted in kinds.items() if not counted["eyes"]):
        counts = [each["kinds"][kind] for each in finders]
        cells = (_rate(each["false_eyes"], each["pictures"]) for each in counts)
        add(f"false eyes a picture, {kind}", f"{kinds[kind]['pictures']} pictures", cells)
    for name in finders[0]["rates"]:
        add(name, "", (_rate(*each["rates"][name]) for each in finders))
    add("centre error, median", "", (str(each["centre_error"]) for each in finders))
    add("CPU ms a picture, median", "", (f"{each['cpu_ms']:.1f}" for each in finders))
    return "\n".join(lines)


def write_numbers(path: Path, numbers: Mapping[str, FinderNumbers]) -> None:
    """Writes them as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(numbers, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _rate(hits: int, total: int) -> str:
    if not total:
        return "none"
    if hits > total:  # more than one false eye a picture: no rate of successes
        return f"{hits / total:.2f} ({hits}/{total})"
    low, high = wilson(hits, total)
    return f"{hits / total:.3f} ({low:.3f}–{high:.3f})"


def _off(answer: Eye, eye: DrawnEye) -> float:
    return math.hypot(answer.x - eye.x, answer.y - eye.y) / eye.distance


def _errors(answer: Eye, eye: DrawnEye) -> tuple[float, bool, float, float]:
    roll = (answer.roll_deg - math.degrees(eye.roll) + 180) % 360 - 180
    size = answer.size_px / (CROP_PER_EYE_DISTANCE * eye.distance)
    return _off(answer, eye), (answer.side == "left") == eye.left, abs(roll), size


def is_right(answer: Eye, case: Case) -> bool | None:
    """Whether there is an eye; None where the label of one nearby is not sure."""
    if any(eye.sure and _off(answer, eye) <= FOUND_WITHIN for eye in case.eyes):
        return True
    unsure = any(not eye.sure and _off(answer, eye) <= NOT_ANOTHER_EYE for eye in case.eyes)
    return None if unsure else False
