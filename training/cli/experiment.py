"""The experiment's commands: `train-encoder`, `experiment` and `report`."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import typer

from training.data.store import open_pairs
from training.errors import OptionError, ResultsError
from training.evaluation.simclr import EncoderRecipe
from training.evaluation.simclr import train_encoder as train_it
from training.experiment.html import write_page
from training.experiment.results import Row, read_results
from training.experiment.run import PLAN, Experiment, ExperimentSettings
from training.experiment.tables import put_between_marks, render_corruptions, render_results
from training.synthesizer.vgg import TORCHVISION_URL

RESULTS, OUT = Path("docs/results.jsonl"), Path("runs/experiment")

Data = Annotated[Path, typer.Argument(help="Folder that `prepare --face-size 64` wrote.")]
Out = Annotated[Path, typer.Option(help="Folder of the runs.")]
Results = Annotated[Path, typer.Option(help="File of finished runs, a line each.")]
Into = Annotated[Path | None, typer.Option(help="Document with marks to put the table between.")]
Encoder = Annotated[int, typer.Option(help="Length of the face encoder's training.")]

ENCODER = EncoderRecipe()


def train_encoder(
    data: Data,
    folder: Annotated[Path, typer.Argument(help="Folder of the encoder; one that is there stays.")],
    steps: Encoder = ENCODER.num_steps,
    seed: Annotated[int, typer.Option(help="Decides every random choice.")] = 0,
) -> None:
    """Train the small face encoder that measures what no objective trained on."""
    recipe = replace(ENCODER, num_steps=steps, seed=seed)
    typer.echo(f"finished: {train_it(recipe, open_pairs(data), folder)}")


def experiment(  # noqa: PLR0913  every option is an argument
    data: Data,
    out: Out = OUT,
    results: Results = RESULTS,
    perceptual: Annotated[
        str,
        typer.Option(help="VGG19 weights: torchvision's file, its URL, or the folder of the two archives."),
    ] = TORCHVISION_URL,
    only: Annotated[list[str] | None, typer.Option(help="Make these systems only; may be repeated.")] = None,
    steps: Annotated[int | None, typer.Option(help="Another length of every run, for trials.")] = None,
    encoder_steps: Encoder = ENCODER.num_steps,
    split: Annotated[
        Literal["val", "dev"], typer.Option(help="What to measure on: val, or dev while something is tuned.")
    ] = "val",
    accelerator: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    devices: Annotated[int, typer.Option(help="How many processes share each batch.")] = 1,
) -> None:
    """Train and measure everything that the results do not hold yet; killed, it goes on where it was."""
    plan = [entry for entry in PLAN if not only or entry.system in only]
    if not plan:
        raise OptionError(f"--only {only} names no system; there are {sorted({e.system for e in PLAN})}")
    settings = ExperimentSettings(
        out, results, perceptual, split, steps, replace(ENCODER, num_steps=encoder_steps),
        accelerator, devices,
    )  # fmt: skip
    Experiment(open_pairs(data), settings).run(plan)
    typer.echo(f"{len(plan)} runs stand in {results}; see them with 'report'")


def report(
    data: Data,
    out: Out = OUT,
    results: Results = RESULTS,
    page: Annotated[Path | None, typer.Option(help="HTML to write; it shows real faces.")] = None,
    into: Into = None,
) -> None:
    """Write the experiment as one page with tables, curves and pictures, and its table into a document."""
    rows = read_results(results)
    if not rows:
        raise ResultsError(f"{results} holds no results yet: make them with 'experiment'")
    target = page or out / "report.html"
    write_page(target, rows, open_pairs(data), out)
    if into is not None:
        put_between_marks(into, "EXPERIMENT", render_experiment(rows))
    typer.echo(f"{target}: {len(rows)} runs")


def render_experiment(rows: list[Row]) -> str:
    """The experiment's two tables in Markdown; one without rows is left out."""
    parts = (render_results(rows), render_corruptions(rows))
    return "\n\n".join(part for part in parts if part)


def add_experiment_commands(app: typer.Typer) -> None:
    """Adds them to the application."""
    for name, command in (("train-encoder", train_encoder), ("experiment", experiment), ("report", report)):
        app.command(name)(command)
