"""Held-out splits by person: one rule for the synthesizer, the eye finder, its refiner and every table.

The rule depends on a person's name alone, so models that learn from the same photos hold out the same people,
whatever their seeds. Where a photo names no person, its file stands for one.
"""

import hashlib
from collections.abc import Iterable
from typing import Literal

Split = Literal["train", "dev", "val"]
"""Trained on, chosen by, and measured at the end."""

FinderSplit = Literal["train", "calibration", "dev", "val"]
"""With the part of the training people that the eye finder's scores are calibrated on."""

DEV_PART = 0.05
VAL_PART = 0.05
"""Parts of the people that are held out where the source names no splits."""

_HELD_OUT: tuple[Split, ...] = ("train", "dev", "val")


def split_by_person(named: Iterable[tuple[str, Split]], *, dev_part: float = DEV_PART) -> dict[str, Split]:
    """Each person's split, from every photo's person and named split.

    A person who is named in two splits goes to the one further from training. Where no photo is named `dev`,
    `dev_part` of the training people are.
    """
    photos = list(named)
    splits: dict[str, Split] = {}
    for person, split in photos:
        splits[person] = max(split, splits.get(person, "train"), key=_HELD_OUT.index)
    if not any(split == "dev" for _, split in photos):
        for person, split in splits.items():
            if split == "train" and hash_fraction(person) < dev_part:
                splits[person] = "dev"
    return splits


def split_with_calibration(
    named: Iterable[tuple[str, Split]], *, dev_part: float, calibration_part: float
) -> dict[str, FinderSplit]:
    """The same splits, with `calibration_part` of the people taken out of `train`."""
    least = dev_part + calibration_part
    return {
        person: "calibration" if split == "train" and hash_fraction(person) < least else split
        for person, split in split_by_person(named, dev_part=dev_part).items()
    }


def hash_fraction(name: str, seed: int = 0) -> float:
    """A number in 0…1, spread evenly over names, the same on every machine."""
    digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
