"""`python -m training train-finder | export-finder | evaluate-finder`: the eye finder's commands."""

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from service.eye_finder import LearnedEyeFinder
from service.eyes import EyeFinder, HaarEyeFinder
from training import evaluate_finder as evaluation
from training import finder_scores as scores
from training.eye_finder import FinderSettings, load_average, load_scenes, train_finder
from training.finder_cases import (
    NOBODY,
    NUM_PARTS_EACH,
    Case,
    cases_of_an_animal,
    cases_of_nobody,
    cases_with_people,
)
from training.finder_export import FinderFacts, to_onnx, write_finder
from training.finder_labels import licences, load_photos
from training.finder_nobody import FITTED
from training.recipes import FinderRecipe
from training.train import commit_hash

Data = Annotated[Path, typer.Argument(help="Folder with scenes.csv, faces.csv or both, and their pictures.")]
Run = Annotated[Path, typer.Argument(help="Folder of the run; an unfinished run there goes on.")]
Limit = Annotated[
    int | None, typer.Option(help="At most so many pictures of each CSV and parts of each picture of nobody.")
]


def train(
    data: Data,
    run: Run,
    steps: Annotated[int, typer.Option()] = FinderRecipe().num_steps,
    seed: Annotated[int, typer.Option()] = 0,
    workers: Annotated[int, typer.Option(help="Processes that draw pictures.")] = 0,
) -> None:
    """Train the eye finder; killed at any moment, the same command goes on exactly there."""
    recipe = FinderRecipe(num_steps=steps, seed=seed)
    settings = FinderSettings(run, num_workers=workers)
    typer.echo(f"finished: {train_finder(recipe, load_scenes(data, seed), settings)}")


def export(
    run: Run,
    data: Data,
    out: Annotated[Path, typer.Argument(help="The .onnx file to write.")],
    licence_class: Annotated[str, typer.Option(help="Who may use the model: research or open.")],
    version: Annotated[str, typer.Option(help="Version of the model.")] = "1",
    limit: Limit = None,
) -> None:
    """Write a run's eye finder as ONNX, its scores and threshold fitted on pictures kept out of training."""
    model = to_onnx(load_average(run))
    photos = load_photos(data, "fit", measured=True, limit=limit)
    num_parts = min(NUM_PARTS_EACH, limit or NUM_PARTS_EACH)
    empty = list(cases_of_nobody(photos, names=FITTED, num_parts_each=num_parts))
    facts = FinderFacts(version, f"{data.name}: {licences(data)}", licence_class, commit_hash())
    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder) / "eye_finder.onnx"
        write_finder(model, draft, facts, {})
        uncalibrated = LearnedEyeFinder.load(draft)
        judged = scores.judge(uncalibrated, [*cases_with_people(photos), *empty])
    weights = scores.fit_weights(judged)
    nobody = [case for case in empty if case.kind.startswith(NOBODY)]
    threshold = scores.fit_threshold(judged, weights, len(nobody))
    facts = replace(facts, score_weights=weights, threshold=threshold)
    metrics = {"candidates_fitted_on": float(len(judged.right)), "pictures_of_nobody": float(len(nobody))}
    write_finder(model, out, facts, metrics)
    typer.echo(f"{out}: {out.stat().st_size / 1e6:.2f} MB, eyes count from a score of {threshold:.3f}")


def evaluate(
    data: Data,
    model: Annotated[Path, typer.Argument(help="The .onnx file of an eye finder.")] = Path(
        "models/eye_finder.onnx"
    ),
    haar: Annotated[bool, typer.Option(help="Measure OpenCV's Haar cascades beside it.")] = True,
    limit: Limit = None,
    out: Annotated[Path, typer.Option(help="Where the numbers go as JSON.")] = Path("runs/eye_finder.json"),
) -> None:
    """Print what the eye finder finds on pictures kept out of training, by kind, with 95 % intervals."""
    photos = load_photos(data, "dev", measured=True, limit=limit)
    empty = cases_of_nobody(photos, num_parts_each=min(NUM_PARTS_EACH, limit or NUM_PARTS_EACH))
    cases: list[Case] = [*cases_with_people(photos), *empty, *cases_of_an_animal()]
    finders: dict[str, EyeFinder] = {"learned": LearnedEyeFinder.load(model)}
    if haar:
        finders["haar"] = HaarEyeFinder()
    measured = {name: evaluation.measure(finder, cases, title=name) for name, finder in finders.items()}
    evaluation.write_measured(out, measured)
    typer.echo(
        f"{len(photos)} photos kept out of training; an eye is found within "
        f"{evaluation.FOUND_WITHIN:.0%} of the eye distance; in brackets 95 % intervals (Wilson)"
    )
    typer.echo(evaluation.table(measured))
    typer.echo(f"numbers: {out}")


def add_commands(app: typer.Typer) -> None:
    """Adds the three commands to the application."""
    app.command("train-finder")(train)
    app.command("export-finder")(export)
    app.command("evaluate-finder")(evaluate)
