"""Recorded results: an append-only file with one line of JSON for each finished run."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.errors import ResultsError
from training.synthesizer.recipes import with_defaults

Row = dict[str, Any]

DECIDING = ("recipe", "objective", "discriminator", "data")
"""What a row must have in common with a run of the same name, to stand for it."""


@dataclass(frozen=True, slots=True)
class Key:
    """Names a row: a system, its seed and the split that it was measured on."""

    system: str
    seed: int
    split: str


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
            key_of(rows[-1])
        except (ValueError, KeyError, TypeError) as error:
            raise ResultsError(f"line {number} of {path} is no result ({error!r}): remove it") from error
    return rows


def key_of(row: Row) -> Key:
    """Which run the row is of."""
    return Key(row["system"], row["seed"], row["split"])


def find_row(rows: list[Row], key: Key) -> Row | None:
    """The row of that name, if there is one."""
    return next((row for row in rows if key_of(row) == key), None)


def has_row(rows: list[Row], wanted: Row) -> bool:
    """Whether a row of the same name stands already.

    Raises:
        ResultsError: it is of another recipe, objective or data.
    """
    found = find_row(rows, key_of(wanted))
    if found is None:
        return False
    for part in DECIDING:
        if _completed(part, found.get(part)) != _completed(part, wanted.get(part)):
            raise ResultsError(
                f"the results hold {key_of(wanted)} with another {part}: {found.get(part)}, now "
                f"{wanted.get(part)}. Choose another file with --results, or remove its line"
            )
    return True


def _completed(part: str, value: Any) -> Any:
    """A recipe as this version would write it; anything else as it is."""
    return with_defaults(value) if part == "recipe" and value is not None else value


def append(path: Path, row: Row) -> None:
    """Adds a row; another process that appends at the same time does not get between."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row, ensure_ascii=False) + "\n")
