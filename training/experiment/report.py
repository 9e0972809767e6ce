"""Numbers of `evaluate` as the text that README shows, so that none is copied by hand."""

import json
from pathlib import Path
from typing import Any, Literal

from training.errors import ResultsError
from training.experiment.tables import NOT_MEASURED

COLUMNS = {
    "l2": "L2",
    "feature_loss": "feature loss",
    "std_features": "std loss of features",
    "std_map_features": "the same by position",
    "sigma_ratio": "σ ratio",
    "ssim": "SSIM",
    "frequency_error": "frequencies off",
}
"""The numbers of `training.evaluation.evaluate.Scores` as the report heads them."""

Mark = Literal["RESULTS", "EXPERIMENT", "PARITY", "FOUND", "SERVED"]
"""What stands between <!-- MARK --> and <!-- /MARK --> of a document is written by a command."""


def render(scores_file: Path) -> str:
    """The table of the scores in Markdown: a row a system, and each system over the one named `l1`."""
    written = read_scores(scores_file)
    scores: dict[str, dict[str, Any]] = written["scores"]
    num_samples = next(iter(scores.values()))["num_samples"]
    lines = [
        f"| {num_samples} eyes of the split `{written['split']}` | " + " | ".join(COLUMNS.values()) + " |",
        "|---" * (len(COLUMNS) + 1) + "|",
    ]
    for name, row in scores.items():
        lines.append(f"| {name} | " + " | ".join(_cell(row.get(key)) for key in COLUMNS) + " |")
    for name, row in scores.items():
        if "l1" in scores and name not in ("l1", "mean face"):
            ratios = (_ratio(row.get(key), scores["l1"].get(key)) for key in COLUMNS)
            lines.append(f"| *{name} over l1* | " + " | ".join(ratios) + " |")
    layers = f"Layers, each over its mean activation on real faces: {written['layers']}."
    return "\n".join([*lines, "", layers])


def _cell(number: float | None) -> str:
    return NOT_MEASURED if number is None else f"{number:.4f}"


def _ratio(number: float | None, other: float | None) -> str:
    return NOT_MEASURED if number is None or other is None else f"{number / other:.2f} ×"


def read_scores(path: Path) -> dict[str, Any]:
    """What `evaluate` wrote.

    Raises:
        ResultsError: the file is missing or holds something else.
    """
    try:
        written: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        written["scores"], written["split"], written["layers"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ResultsError(f"{path} is not what 'evaluate' writes with --out: {error!r}") from error
    return written


def metrics_of(path: Path, system: str) -> dict[str, float]:
    """The numbers of one system in what `evaluate` wrote.

    Raises:
        ResultsError: the file is not that, or has no such system.
    """
    scores: dict[str, dict[str, float]] = read_scores(path)["scores"]
    if system not in scores:
        raise ResultsError(f"{path} holds no system {system!r}; there are {', '.join(scores)}")
    return scores[system]


def put_between_marks(document: Path, mark: Mark, text: str) -> None:
    """Replaces what stands between the two marks of the document.

    Raises:
        ResultsError: the document lacks a mark.
    """
    before, begin, rest = document.read_text(encoding="utf-8").partition(f"<!-- {mark} -->")
    _, end, after = rest.partition(f"<!-- /{mark} -->")
    if not begin or not end:
        raise ResultsError(f"{document} lacks the marks <!-- {mark} --> and <!-- /{mark} -->")
    document.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")
