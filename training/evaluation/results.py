"""Recorded results: an append-only file with one line of JSON for each finished run."""

import json
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import msgspec

from training.errors import ResultsError

Row = dict[str, Any]

DECIDING = ("recipe", "objective", "discriminator", "data")
"""What a row must have in common with a run of the same name, to stand for it."""


class _Written(TypedDict):
    """What the tables take from every row."""

    system: str
    seed: int
    split: str
    metrics: dict[str, float]
    slices: NotRequired[dict[str, dict[str, float]]]


def read_results(path: Path) -> list[Row]:
    """The rows of the file, in its order; none if there is no file yet.

    Raises:
        ResultsError: a line is no row.
    """
    if not path.exists():
        return []
    rows: list[Row] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            rows.append(json.loads(line))
            msgspec.convert(rows[-1], _Written)
        except (ValueError, RecursionError) as error:
            raise ResultsError(f"line {number} of {path} is no result ({error!r}): remove it") from error
    return rows


def has_row(rows: list[Row], wanted: Row) -> bool:
    """Whether a row of the same system, seed and split stands already.

    Raises:
        ResultsError: it is of another recipe, objective or data.
    """
    found = next((row for row in rows if _key(row) == _key(wanted)), None)
    if found is None:
        return False
    for part in DECIDING:
        if found.get(part) != wanted.get(part):
            raise ResultsError(
                f"the results hold {_key(wanted)} with another {part}: {found.get(part)}, now "
                f"{wanted.get(part)}. Choose another file with --results, or remove its line"
            )
    return True


def append(path: Path, row: Row) -> None:
    """Adds a row; another process that appends at the same time does not get between."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row, ensure_ascii=False) + "\n")


def _key(row: Row) -> tuple[str, int, str]:
    return row["system"], row["seed"], row["split"]
