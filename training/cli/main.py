"""The command `python -m training`: prepare, train, evaluate, export; one sentence on failure."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import typer

from service.errors import Eye2FaceError
from service.inference.eye_finder import open_eye_finder
from service.inference.onnx_metadata import LicenceClass
from training.cli import finder
from training.cli.options import Into, Licence, Perceptual, show
from training.data.face_alignment import FACE_SIZE
from training.data.fetch import fetch_photos
from training.data.photos import Layout, find_layout, list_photos
from training.data.prepare import PrepareSettings
from training.data.prepare import prepare as prepare_pairs
from training.data.splits import Split
from training.data.store import Part, open_pairs
from training.errors import DataError, OptionError, RecipeError, ResultsError, TrainingError
from training.evaluation import evaluate as evaluation
from training.evaluation import tables
from training.evaluation.benchmark import make_benchmark
from training.evaluation.experiment import PLAN, Experiment
from training.evaluation.groups import label_split, read_labels
from training.evaluation.parity import measure_parity
from training.evaluation.results import read_results
from training.evaluation.simclr import EncoderRecipe
from training.export import onnx as exporting
from training.loop.previews import NUM_COLUMNS, draw_grid
from training.loop.run_folder import unfinished
from training.markdown import render_table
from training.synthesizer.recipes import RECIPES
from training.synthesizer.train import RunSettings
from training.synthesizer.train import train as train_run
from training.synthesizer.vgg import TORCHVISION_URL

app = typer.Typer(
    help=__doc__,
    no_args_is_help=True,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)

Data = Annotated[Path, typer.Argument(help="Folder that `prepare` wrote.")]
Finder = Annotated[Literal["learned", "haar"], typer.Option(help="The network, or OpenCV's cascades.")]
RESULTS = Path("runs/experiment/results.jsonl")

Results = Annotated[Path, typer.Option(help="File of finished runs, a line each.")]

ENCODER = EncoderRecipe()


@app.command("fetch-photos")
def fetch(
    table: Annotated[Path, typer.Argument(help="A labeled CSV with the columns `url` and `sha256`.")],
    folder: Annotated[Path, typer.Argument(help="Folder for the photos; the CSV goes beside it.")],
) -> None:
    """Download the photos that a labeled CSV names; a second run fetches what is missing."""
    missing = fetch_photos(table, folder)
    for file, reason in missing.items():
        typer.echo(f"{file}: {reason}", err=True)
    if missing:
        raise DataError(f"{len(missing)} photos could not be fetched; the same command tries them again")
    typer.echo(f"{folder}: complete; go on with `prepare {folder.with_suffix('.csv')} DATA`")


@app.command()
def prepare(  # noqa: PLR0913  every option is an argument
    source: Annotated[Path, typer.Argument(help="A labeled CSV, a folder of photos, or CelebA's folder.")],
    out: Annotated[Path, typer.Argument(help="Folder for the arrays.")],
    layout: Annotated[Layout, typer.Option(help="How the source is laid out.")] = "auto",
    limit: Annotated[int | None, typer.Option(help="At most so many photos, chosen by hash.")] = None,
    licence: Licence = None,
    seed: Annotated[int, typer.Option(help="With --limit, decides which photos are taken.")] = 0,
    face_size: Annotated[int, typer.Option(help="Side of the faces, in pixels.")] = FACE_SIZE,
    part: Annotated[Part, typer.Option(help="The part of the face that models of these pairs see.")] = "eye",
    finder: Finder = "learned",
) -> None:
    """Turn photos into pairs of eye and face; a second run goes on where the first stopped."""
    settings = PrepareSettings(
        source=source, out=out, layout=layout, limit=limit, licences=tuple(licence or ()), seed=seed,
        face_size=face_size, part=part,
    )  # fmt: skip
    manifest = prepare_pairs(settings, finder=open_eye_finder(finder))
    counts = f"{manifest['num_rows']} faces of {manifest['num_photos']} photos"
    typer.echo(f"{out}: {counts} {manifest['rows_by_split']}")
    for reason, count in sorted(manifest["rejected_by_reason"].items()):
        typer.echo(f"  rejected, {reason}: {count}")
    if manifest["num_rows"] == 0:
        raise DataError(f"no photo gave a pair: mend {source}, remove {out}, and prepare it again")


@app.command()
def train(  # noqa: PLR0913  every option is an argument
    data: Data,
    run: Annotated[Path, typer.Argument(help="Folder of the run; an unfinished run there goes on.")],
    recipe: Annotated[str, typer.Option(help=f"One of {', '.join(RECIPES)}.")] = "eye2face-192",
    steps: Annotated[int | None, typer.Option(help="Another length than the recipe's.")] = None,
    seed: Annotated[int, typer.Option(help="Decides every random choice of the run.")] = 0,
    start_from: Annotated[Path | None, typer.Option(help="Run or .safetensors file to begin with.")] = None,
    perceptual: Perceptual = TORCHVISION_URL,
    float32: Annotated[bool, typer.Option("--float32", help="Compute in float32.")] = False,
    checkpoint_every: Annotated[int, typer.Option(help="Steps between checkpoints, or a minute.")] = 200,
    accelerator: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    devices: Annotated[int, typer.Option(min=1, help="How many processes share each batch.")] = 1,
    workers: Annotated[int, typer.Option(help="Processes that load data.")] = 0,
) -> None:
    """Train one recipe; stopped or killed, the same command goes on from the last checkpoint."""
    if recipe not in RECIPES:
        raise RecipeError(f"no recipe is named {recipe!r}; there are {', '.join(RECIPES)}")
    chosen = replace(RECIPES[recipe], num_steps=steps or RECIPES[recipe].num_steps)
    if float32:
        chosen = replace(chosen, precision="32-true")
    settings = RunSettings(
        run, perceptual, seed=seed, start_from=start_from, accelerator=accelerator, devices=devices,
        checkpoint_every=checkpoint_every, num_workers=workers,
    )  # fmt: skip
    typer.echo(f"finished: {train_run(chosen, open_pairs(data), settings)}")


@app.command()
def evaluate(  # noqa: PLR0913  every option is an argument
    data: Data,
    systems: Annotated[list[str], typer.Argument(help="NAME=PATH of .onnx files or folders of runs.")],
    split: Annotated[Split, typer.Option(help="The split to measure on.")] = "val",
    perceptual: Perceptual = TORCHVISION_URL,
    out: Annotated[Path, typer.Option(help="JSON of the numbers.")] = Path("runs/evaluation.json"),
    grid: Annotated[Path, typer.Option(help="PNG of eyes and faces.")] = Path("runs/evaluation.png"),
    people: Annotated[int, typer.Option(help="How many people that PNG shows.")] = NUM_COLUMNS,
    labels: Annotated[Path | None, typer.Option(help="CSV: file, sex and group, to measure by.")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave other systems' numbers in that JSON.")] = False,
) -> None:
    """Print what each system scores on a split, two baselines beside it, and draw two grids.

    The grids show true faces, so they do not go where the numbers go. The second, `…-worst`, is of the first
    system alone: the people whose true face ranks worst.
    """
    pairs = open_pairs(data)
    drawing, files = evaluation.open_systems(dict(map(_name_and_path, systems)), pairs)
    found = read_labels(labels, pairs) if labels else None
    benchmark = make_benchmark(pairs, split, perceptual)
    labeled = label_split(benchmark, found) if found else None
    reports = evaluation.evaluate(drawing, benchmark, labeled, files)
    evaluation.write_reports(out, reports, benchmark, labeled, keep=keep)
    first, worst = next(iter(drawing)), grid.with_stem(f"{grid.stem}-worst")
    draw_grid(grid, benchmark.dataset, drawing.values(), num_eyes=people)
    draw_grid(worst, benchmark.dataset, [drawing[first]], samples=reports[first].worst)
    typer.echo(tables.render_scores(out))
    typer.echo(tables.render_groups(out))
    typer.echo(f"numbers: {out}, pictures: {grid}, {worst}")


@app.command()
def export(  # noqa: PLR0913  every option is an argument
    run: Annotated[Path, typer.Argument(help="Folder of a run.")],
    data: Data,
    out: Annotated[Path, typer.Argument(help="The .onnx file to write.")],
    licence_class: Annotated[LicenceClass, typer.Option(help="Who may use the model.")],
    scores: Annotated[Path | None, typer.Option(help="JSON of `evaluate`, for the metrics.")] = None,
    system: Annotated[str, typer.Option(help="The name in that JSON.")] = "std",
    version: Annotated[str, typer.Option(help="Version of the model.")] = "1",
    float32: Annotated[bool, typer.Option("--float32", help="Store weights as float32.")] = False,
) -> None:
    """Write a run as the ONNX file that the service runs, proved equal to torch on real crops."""
    difference = exporting.export(
        run, out, open_pairs(data), licence_class=licence_class, version=version, half=not float32,
        metrics=tables.metrics_of(scores, system) if scores else None,
    )  # fmt: skip
    size = f"{out.stat().st_size / 1e6:.1f} MB"
    typer.echo(f"{out}: {size}, within {difference}/255 of PyTorch{unfinished(run)}")


@app.command()
def table(scores: Annotated[Path, typer.Argument(help="JSON of `evaluate`.")], into: Into = None) -> None:
    """Print the numbers of `evaluate` as Markdown tables, or put them into a document."""
    show(tables.render_scores(scores), into, "RESULTS")
    if by_group := tables.render_groups(scores):
        typer.echo()
        has_marks = into is not None and "<!-- GROUPS -->" in into.read_text(encoding="utf-8")
        show(by_group, into if has_marks else None, "GROUPS")


@app.command()
def parity(
    source: Annotated[Path, typer.Argument(help="Labeled photos, as for `prepare`.")],
    model: Annotated[Path, typer.Argument(help="An .onnx file.")],
    split: Annotated[Split, typer.Option(help="The split to measure on.")] = "dev",
    limit: Annotated[int, typer.Option(help="At most so many photos.")] = 100,
    into: Into = None,
    finder: Finder = "learned",
) -> None:
    """Print what the eye finder and the reduced decode of serving add to training's crops."""
    photos = list_photos(source, find_layout(source))
    chosen = [photo for photo in photos if photo.split == split][:limit]
    measured = measure_parity(chosen, open_eye_finder(finder), model)
    head = f"{len(chosen)} photos of `{split}`, finder {finder}", "median"
    rows = ((name, f"{value:.4g}") for name, value in measured.items())
    show(render_table(head, rows), into, "PARITY")


@app.command()
def experiment(  # noqa: PLR0913  every option is an argument
    data: Annotated[Path, typer.Argument(help="Folder that `prepare --face-size 64` wrote.")],
    out: Annotated[Path, typer.Option(help="Folder of the runs.")] = Path("runs/experiment"),
    results: Results = RESULTS,
    perceptual: Perceptual = TORCHVISION_URL,
    only: Annotated[list[str] | None, typer.Option(help="Make these systems only; may be repeated.")] = None,
    steps: Annotated[int | None, typer.Option(help="Another length of every run, for trials.")] = None,
    encoder_steps: Annotated[int, typer.Option(help="Length of the encoder's training.")] = ENCODER.num_steps,
    split: Annotated[Literal["val", "dev"], typer.Option(help="dev while something is tuned.")] = "val",
    accelerator: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Train and measure everything that the results do not hold yet; killed, it goes on where it was."""
    plan = [entry for entry in PLAN if not only or entry.system in only]
    if not plan:
        raise OptionError(f"--only {only} names no system; there are {sorted({e.system for e in PLAN})}")
    encoder = replace(ENCODER, num_steps=encoder_steps)
    Experiment(open_pairs(data), out, results, perceptual, split, steps, encoder, accelerator).run(plan)
    typer.echo(f"{len(plan)} runs stand in {results}; see them with 'report'")


@app.command()
def report(results: Results = RESULTS, into: Into = None) -> None:
    """Print the experiment's tables, or put them into a document, too."""
    rows = read_results(results)
    if not rows:
        raise ResultsError(f"{results} holds no results yet: make them with 'experiment'")
    show(tables.render_experiment(rows), into, "EXPERIMENT")


app.add_typer(finder.app)


def main() -> None:
    """The command; our own errors become one sentence and exit code 1."""
    try:
        app(standalone_mode=True)
    except (Eye2FaceError, TrainingError) as error:
        print(f"eye2face-train: {error}", file=sys.stderr)
        raise SystemExit(1) from None


def _name_and_path(text: str) -> tuple[str, Path]:
    name, equals, path = text.partition("=")
    if not equals:
        raise OptionError(f"{text!r} names no system: write NAME=PATH, such as std=models/synthesizer.onnx")
    return name, Path(path)
