"""Markdown tables of results: of the experiment, and of what `evaluate` wrote."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, TypedDict

import msgspec
import numpy as np

from training.data.corruptions import CORRUPTIONS
from training.errors import ResultsError
from training.evaluation.benchmark import BACKGROUND, IN_FACE
from training.evaluation.experiment import BASELINES
from training.evaluation.groups import Groups
from training.evaluation.guesses import BEST_OF, CERTAINTY_OF
from training.evaluation.metrics import Metrics
from training.evaluation.results import Row
from training.markdown import render_table

NOT_MEASURED = "–"


@dataclass(frozen=True, slots=True)
class Column:
    """One reported number: its name in the results, its heading, its digits, and whether it has an error."""

    key: str
    heading: str
    digits: int = 3
    has_error: bool = False
    factor: float = 1.0


COLUMNS = (
    Column("l2", "L2", 4),
    Column("feature_loss", "feature loss"),
    Column("std_features", "std loss of features"),
    Column("std_map_features", "the same by position"),
    Column("sigma_ratio", "σ ratio"),
    Column("ssim", "SSIM"),
    Column("perceptual", "perceptual distance"),
    Column("frequency_error", "frequencies off", 2),
    Column("kid_vgg", "KID, VGG", 4, True),
    Column("kid_encoder", "KID, encoder", 4, True),
    Column("diversity_ratio", "diversity ratio"),
    Column("sharpness_ratio", "sharpness"),
    Column("rank_vgg", "rank, VGG, %", 1, True, 100),
    Column("rank_encoder", "rank, encoder, %", 1, True, 100),
    Column("memorisation_vgg", "distance to training, VGG"),
    Column("memorisation_encoder", "the same, encoder"),
)

SET_COLUMNS = (
    Column("kid_relu3_4", "KID, relu3_4", 3, True),
    Column("kid_vgg", "KID, VGG", 3, True),
    Column("rank_relu3_4", "rank, relu3_4, %", 1, True, 100),
    Column("rank_vgg", "rank, VGG, %", 1, True, 100),
    Column("sharpness_ratio", "sharpness", 2),
    Column("memorisation_vgg", "distance to training", 2),
    Column("cheek_difference", "ΔE of the cheeks", 1, True),
    Column("sex_agreement", "sex as labeled, %", 1, True, 100),
)
"""What `evaluate` measures beside the numbers of `training.evaluation.scores`."""

GUESS_COLUMNS = (
    Column("between_guesses", "between guesses, over between people", 2),
    Column("l2_of_mean", "L2 of the mean guess", 4),
    Column("default", "perceptual distance: default face"),
    *(Column(f"best_of_{n}", f"best of {n}") for n in BEST_OF),
    *(Column(f"certainty, {name}", f"certainty, eyes {name}", 2) for name in CERTAINTY_OF),
    Column("certainty_correlation", "correlation of certainty and L2", 2),
)
"""What `evaluate` measures of many guesses, see `training.evaluation.guesses`."""

GROUP_COLUMNS = (
    Column("num_persons", "people", 0),
    Column("l2", "L2", 4, True),
    Column("rank_relu3_4", "rank, relu3_4, %", 1, True, 100),
    Column("rank_vgg", "rank, VGG, %", 1, True, 100),
    Column("cheek_difference", "ΔE of the cheeks", 1, True),
    Column("cheek_lighter", "cheeks lighter by", 1, True),
    Column("sex_agreement", "sex as labeled, %", 1, True, 100),
    Column("judge_accuracy", "the same of true faces, %", 1, True, 100),
)

UNCORRUPTED = "as they are"

SLICED = (Column("l2", "L2", 4), Column("rank_encoder", "rank, encoder, %", 1, factor=100))


def rows_of_main_split(rows: list[Row]) -> list[Row]:
    """The rows of the split that the tables are of: `val`, or what there is."""
    split = "val" if any(row["split"] == "val" for row in rows) else rows[0]["split"]
    return [row for row in rows if row["split"] == split]


def group_by_system(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """The rows of each system, its seeds together, in the order of the file."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row["system"], []).append(row)
    return found


def _labeled(rows: Iterable[Row]) -> Iterator[tuple[str, list[Row]]]:
    """The same, with the number of seeds, where there are several, in the name."""
    for system, runs in group_by_system(rows).items():
        yield system if len(runs) == 1 else f"{system}, {len(runs)} seeds", runs


def cell(runs: Sequence[Mapping[str, float]], column: Column) -> str:
    """One number of a system: its mean, and after ± the spread over seeds or, of one seed, its error."""
    if any(column.key not in numbers for numbers in runs):
        return NOT_MEASURED
    values = np.array([numbers[column.key] for numbers in runs]) * column.factor
    text = f"{values.mean():.{column.digits}f}"
    if len(values) > 1:
        return f"{text} ± {values.std(ddof=1):.{column.digits}f}"
    if column.has_error:
        error = runs[0][f"{column.key}_error"] * column.factor
        return f"{text} ± {error:.{column.digits}f}"
    return text


def render_experiment(rows: list[Row]) -> str:
    """The experiment's two tables in Markdown; one without rows is left out."""
    return "\n\n".join(filter(None, (render_results(rows), render_corruptions(rows))))


def render_results(rows: list[Row]) -> str:
    """Every number of every system in Markdown, and how they were made."""
    rows = rows_of_main_split(rows)
    numbers = {name: [row["metrics"] for row in runs] for name, runs in _labeled(rows)}
    title = f"{rows[0]['metrics']['num_samples']} eyes of `{rows[0]['split']}`"
    return "\n".join([_table(title, numbers, COLUMNS), "", *_notes(rows)])


def render_corruptions(rows: list[Row]) -> str:
    """What corrupted eyes cost, and where in the picture the error lies, in Markdown.

    Rows that were measured before there were such slices are left out; empty without any.
    """
    rows = [row for row in rows_of_main_split(rows) if set(CORRUPTIONS) <= set(row.get("slices", {}))]
    if not rows:
        return ""
    places = [(column, name) for column in SLICED for name in (UNCORRUPTED, *CORRUPTIONS)]
    places += [(SLICED[0], name) for name in (IN_FACE, BACKGROUND)]
    columns = [
        replace(each, key=f"{each.key}, {name}", heading=f"{each.heading}: {name}") for each, name in places
    ]
    numbers = {name: [*map(_by_slice, runs)] for name, runs in _labeled(rows)}
    return _table("eyes", numbers, columns)


def _by_slice(row: Row) -> Metrics:
    slices = {UNCORRUPTED: row["metrics"], **row["slices"]}
    return {f"{key}, {name}": each for name, numbers in slices.items() for key, each in numbers.items()}


def _table(title: str, systems: Mapping[str, Sequence[Metrics]], columns: Sequence[Column]) -> str:
    """A row a system, of its only run or of several."""
    rows = ([name, *(cell(runs, column) for column in columns)] for name, runs in systems.items())
    return render_table([title, *(column.heading for column in columns)], rows)


def _notes(rows: list[Row]) -> list[str]:
    notes = []
    trained = [row for row in rows if row.get("recipe")]
    if trained:
        recipe, seconds = trained[0]["recipe"], [row["seconds"] for row in trained]
        speeds = [row["samples_per_second"] for row in trained]
        num = recipe["num_steps"] * recipe["batch_size"]
        notes.append(
            f"Every run sees {num:,} samples in {recipe['num_steps']} steps: {min(seconds):.0f} to "
            f"{max(seconds):.0f} seconds, {min(speeds):.0f} to {max(speeds):.0f} samples a second, "
            f"on {trained[0]['cores']} cores."
        )
    measured = next((row["measured_with"] for row in rows if "measured_with" in row), None)
    if measured:
        notes.append(
            f"Features of the loss columns: {measured['features']}. KID, rank and distance to training: "
            f"{measured['vgg']}, and a face encoder trained by contrastive learning for "
            f"{measured['encoder']['num_steps']} steps on no objective of these."
        )
    return notes


SCORE_COLUMNS = tuple(replace(column, digits=4) for column in (*COLUMNS[:6], COLUMNS[7]))
"""The numbers of `training.evaluation.scores` as the report shows them."""


def render_scores(scores_file: Path) -> str:
    """The tables of what `evaluate` wrote in Markdown, a row a system, and notes on them."""
    written = read_scores(scores_file)
    systems = {name: [numbers] for name, numbers in written["scores"].items()}
    ((first, *_), *_) = systems.values()
    title = f"{first['num_samples']} eyes of the split `{written['split']}`"
    tables = [_table(title, systems, SCORE_COLUMNS)]
    notes = [f"Layers, each over its mean activation on real faces: {written['layers']}."]
    if any("kid_relu3_4" in numbers for (numbers,) in systems.values()):
        tables.append(_table("", systems, SET_COLUMNS))
        notes += _set_notes(written)
    if guesses := {name: runs for name, runs in systems.items() if "between_guesses" in runs[0]}:
        tables.append(_table("", guesses, GUESS_COLUMNS))
        notes.append(_GUESSES_NOTE)
    return "\n\n".join([*tables, "\n".join(notes)])


def render_groups(scores_file: Path) -> str:
    """The numbers of each system but the baselines by labeled sex and group; empty without labels."""
    groups: dict[str, Groups] = read_scores(scores_file).get("groups", {})
    tables = [
        _table(system, {group: [numbers] for group, numbers in of_system.items()}, GROUP_COLUMNS)
        for system, of_system in groups.items()
        if system not in BASELINES
    ]
    return "\n\n".join([*tables, _GROUPS_NOTE]) if tables else ""


_GUESSES_NOTE = (
    "Of 16 guesses an eye. Between guesses: their standard deviation, over that of the true faces. L2 of the "
    "mean guess: less what 16 leave of the variance. Certainty: the share of the variance between faces that "
    "the model says an eye explains; its correlation is Spearman's, with the squared error of default faces."
)


_GROUPS_NOTE = (
    "Sex and group are crowd workers' impressions of the photos, not what the people say of themselves. "
    "After ±: half of the 95 % interval over people. Cheeks lighter by: L*, drawn minus true."
)


def _set_notes(written: dict[str, Any]) -> list[str]:
    notes = [
        f"VGG: {written['embeddings']['vgg']}. relu3_4: {written['embeddings']['relu3_4']}; no objective "
        "trains on it. After ±: of KID the standard deviation over subsets, of others half of the 95 % "
        "interval over people. Rank: the share of other people's true faces that are nearer than the true "
        "face; chance is 50 %. Distance to training: mean distance to the nearest training face (VGG), over "
        "that of true faces. ΔE: CIE 1976, of the mean color of a square on each cheek."
    ]
    if judge := written.get("judge"):
        right, error = (100 * judge[key] for key in ("judge_accuracy", "judge_accuracy_error"))
        notes.append(
            f"Sex is judged by a linear probe on relu3_4, trained on {judge['num_faces']:,} true faces of "
            f"other people; it judges {right:.1f} ± {error:.1f} % of the true faces here as labeled."
        )
    return notes


class _Written(TypedDict):
    """What the tables take from a file of scores."""

    split: str
    layers: str
    scores: Annotated[dict[str, Metrics], msgspec.Meta(min_length=1)]


def read_scores(path: Path) -> dict[str, Any]:
    """What `evaluate` wrote.

    Raises:
        ResultsError: the file is missing or holds something else.
    """
    try:
        written: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        for row in msgspec.convert(written, _Written)["scores"].values():
            row["num_samples"]
    except (OSError, ValueError, KeyError, RecursionError) as error:
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
