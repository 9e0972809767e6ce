"""The experiment's commands: `experiment` and `report`."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import typer

from training.data.store import open_pairs
from training.errors import OptionError, ResultsError
from training.evaluation.experiment import PLAN, Experiment, ExperimentSettings
from training.evaluation.results import read_results
from training.evaluation.simclr import EncoderRecipe
from training.evaluation.tables import render_experiment
from training.markdown import put_between_marks
from training.synthesizer.vgg import TORCHVISION_URL

RESULTS = Path("runs/experiment/results.jsonl")

Results = Annotated[Path, typer.Option(help="File of finished runs, a line each.")]

Perceptual = Annotated[
    str,
    typer.Option(help="VGG19 weights: torchvision's file, its URL, or the folder of the two .npz archives."),
]

ENCODER = EncoderRecipe()

app = typer.Typer()


@app.command()
def experiment(  # noqa: PLR0913  every option is an argument
    data: Annotated[Path, typer.Argument(help="Folder that `prepare --face-size 64` wrote.")],
    out: Annotated[Path, typer.Option(help="Folder of the runs.")] = Path("runs/experiment"),
    results: Results = RESULTS,
    perceptual: Perceptual = TORCHVISION_URL,
    only: Annotated[list[str] | None, typer.Option(help="Make these systems only; may be repeated.")] = None,
    steps: Annotated[int | None, typer.Option(help="Another length of every run, for trials.")] = None,
    encoder_steps: Annotated[
        int, typer.Option(help="Length of the face encoder's training.")
    ] = ENCODER.num_steps,
    split: Annotated[
        Literal["val", "dev"], typer.Option(help="What to measure on: val, or dev while something is tuned.")
    ] = "val",
    accelerator: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Train and measure everything that the results do not hold yet; killed, it goes on where it was."""
    plan = [entry for entry in PLAN if not only or entry.system in only]
    if not plan:
        raise OptionError(f"--only {only} names no system; there are {sorted({e.system for e in PLAN})}")
    settings = ExperimentSettings(
        out, results, perceptual, split, steps, replace(ENCODER, num_steps=encoder_steps), accelerator
    )
    Experiment(open_pairs(data), settings).run(plan)
    typer.echo(f"{len(plan)} runs stand in {results}; see them with 'report'")


@app.command()
def report(
    results: Results = RESULTS,
    into: Annotated[Path | None, typer.Option(help="Document with marks to put the tables between.")] = None,
) -> None:
    """Print the experiment's tables, or put them into a document."""
    rows = read_results(results)
    if not rows:
        raise ResultsError(f"{results} holds no results yet: make them with 'experiment'")
    text = render_experiment(rows)
    if into is None:
        typer.echo(text)
    else:
        put_between_marks(into, "EXPERIMENT", text)
