"""The command `python -m training`: prepare, train, evaluate, export; one sentence on failure."""

import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from service.errors import Eye2FaceError
from service.inference.eye_finder import open_eye_finder
from service.inference.synthesizer import Synthesizer
from training.cli import experiment
from training.cli import finder as finder_commands
from training.cli.experiment import Perceptual
from training.data.face_alignment import FACE_SIZE
from training.data.fetch import fetch_photos
from training.data.licences import LicenceClass, check_licence_class
from training.data.photos import find_layout, list_photos
from training.data.prepare import PrepareSettings
from training.data.prepare import prepare as prepare_pairs
from training.data.splits import Split
from training.data.store import Part, open_pairs
from training.errors import DataError, OptionError, RecipeError, TrainingError
from training.evaluation import evaluate as evaluation
from training.evaluation import tables
from training.evaluation.baselines import nearest_eye
from training.evaluation.benchmark import make_benchmark
from training.evaluation.evaluate import System
from training.evaluation.experiment import MEAN_FACE, NEAREST_EYE
from training.evaluation.groups import label_split, read_labels
from training.evaluation.guesses import measure_guesses, random_guess
from training.evaluation.parity import measure_parity
from training.evaluation.report import report_systems, write_reports
from training.export import onnx as exporting
from training.loop.previews import NUM_COLUMNS, draw_grid
from training.loop.run_folder import read_description
from training.markdown import put_between_marks, render_table
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
Finder = Annotated[
    Literal["learned", "haar"],
    typer.Option(help="The shipped network, or OpenCV's cascades."),
]


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
    layout: Annotated[
        Literal["auto", "csv", "folder", "celeba"], typer.Option(help="How the source is laid out.")
    ] = "auto",
    limit: Annotated[int | None, typer.Option(help="At most so many photos, chosen by hash.")] = None,
    licence: Annotated[
        list[str] | None, typer.Option(help="Take only photos under this license; may stand several times.")
    ] = None,
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
    typer.echo(
        f"{out}: {manifest['num_rows']} faces of {manifest['num_photos']} photos {manifest['rows_by_split']}"
    )
    for reason, count in sorted(manifest["rejected_by_reason"].items()):
        typer.echo(f"  rejected, {reason}: {count}")
    if manifest["num_rows"] == 0:
        raise DataError(f"no photo gave a pair: mend {source}, remove {out}, and prepare it again")


@app.command()
def train(  # noqa: PLR0913  every option is an argument
    data: Data,
    run: Annotated[Path, typer.Argument(help="Folder of the run; an unfinished run there goes on.")],
    recipe: Annotated[str, typer.Option(help=f"One of {', '.join(RECIPES)}.")] = "eye2face-128",
    steps: Annotated[int | None, typer.Option(help="Another length than the recipe's.")] = None,
    seed: Annotated[int, typer.Option(help="Decides every random choice of the run.")] = 0,
    start_from: Annotated[
        Path | None,
        typer.Option(help="Begin with the weights of this finished run, or of a .safetensors file."),
    ] = None,
    perceptual: Perceptual = TORCHVISION_URL,
    float32: Annotated[
        bool, typer.Option("--float32", help="Compute in float32, whatever the recipe says.")
    ] = False,
    checkpoint_every: Annotated[
        int, typer.Option(help="Steps between two checkpoints; or a minute, if it is less.")
    ] = 200,
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
        run,
        perceptual,
        seed=seed,
        start_from=start_from,
        accelerator=accelerator,
        devices=devices,
        checkpoint_every=checkpoint_every,
        num_workers=workers,
    )
    typer.echo(f"finished: {train_run(chosen, open_pairs(data), settings)}")


@app.command()
def evaluate(  # noqa: PLR0913  every option is an argument
    data: Data,
    systems: Annotated[list[str], typer.Argument(help="NAME=PATH of .onnx files or folders of runs.")],
    split: Annotated[Split, typer.Option(help="The split to measure on.")] = "val",
    perceptual: Perceptual = TORCHVISION_URL,
    out: Annotated[Path, typer.Option(help="JSON of the numbers.")] = Path("runs/evaluation.json"),
    grid: Annotated[Path, typer.Option(help="PNG of eyes, drawn and true faces.")] = Path(
        "runs/evaluation.png"
    ),
    people: Annotated[int, typer.Option(help="How many people that PNG shows.")] = NUM_COLUMNS,
    labels: Annotated[
        Path | None,
        typer.Option(help="CSV with the columns `file`, `sex` and `group`, to measure by them, too."),
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave other systems' numbers in that JSON.")] = False,
) -> None:
    """Print what each system scores on a split, two baselines beside it, and draw two grids.

    The grids show true faces, so they do not go where the numbers go. The second, `…-worst`, is of the first
    system alone: the people whose true face ranks worst.
    """
    pairs = open_pairs(data)
    side = pairs.faces.shape[1]
    drawing: dict[str, System] = {}
    served: dict[str, Synthesizer] = {}
    for name, path in map(_name_and_path, systems):
        if path.suffix == ".onnx":
            served[f"{name}, a guess"] = model = evaluation.load_synthesizer(path, pairs.part)
            drawing[name] = evaluation.default_faces(model)
        else:
            drawing[name] = evaluation.load_system(path)
    first = next(iter(drawing))
    drawing |= {name: random_guess(model) for name, model in served.items()}
    drawing = {name: evaluation.enlarged(system, side) for name, system in drawing.items()}
    drawing |= {MEAN_FACE: evaluation.mean_face(pairs), NEAREST_EYE: nearest_eye(pairs)}
    found = read_labels(labels, pairs) if labels else None
    benchmark = make_benchmark(pairs, split, perceptual)
    labeled = label_split(benchmark, found) if found else None
    reports = report_systems(drawing, benchmark, labeled)
    for name, model in served.items():
        if model.info.face_size == side:
            reports[name].numbers.update(measure_guesses(model, benchmark))
    write_reports(out, reports, benchmark, labeled, keep=keep)
    worst = grid.with_stem(f"{grid.stem}-worst")
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
    scores: Annotated[
        Path | None, typer.Option(help="JSON of `evaluate` whose numbers go into the file.")
    ] = None,
    system: Annotated[str, typer.Option(help="The name in that JSON.")] = "std",
    version: Annotated[str, typer.Option(help="Version of the model.")] = "1",
    float32: Annotated[
        bool, typer.Option("--float32", help="Store weights as float32, not float16.")
    ] = False,
) -> None:
    """Write a run as the ONNX file that the service runs, proved equal to torch on real crops."""
    described = read_description(run)
    check_licence_class(licence_class, _licences(described), model=str(run))
    metrics = tables.metrics_of(scores, system) if scores else {}
    facts = exporting.ModelMetadata(
        name=out.stem, version=version, recipe=described["recipe"]["name"],
        objective=_objective(described), training_data=_training_data(described["data"]),
        licence_class=licence_class, commit=described["commit"], metrics=metrics,
        part=described["data"]["settings"]["part"],
        face_frame_version=described["data"]["settings"]["face_frame_version"],
    )  # fmt: skip
    difference = exporting.export(run, out, facts, open_pairs(data), half=not float32)
    typer.echo(f"{out}: {out.stat().st_size / 1e6:.1f} MB, within {difference}/255 of PyTorch")


@app.command()
def table(
    scores: Annotated[Path, typer.Argument(help="JSON of `evaluate`.")],
    into: Annotated[Path | None, typer.Option(help="Document with marks to put the table between.")] = None,
) -> None:
    """Print the numbers of `evaluate` as Markdown tables, or put them into a document."""
    text, by_group = tables.render_scores(scores), tables.render_groups(scores)
    typer.echo("\n\n".join(each for each in (text, by_group) if each))
    if into is not None:
        put_between_marks(into, "RESULTS", text)
        if by_group and "<!-- GROUPS -->" in into.read_text(encoding="utf-8"):
            put_between_marks(into, "GROUPS", by_group)


@app.command()
def parity(
    source: Annotated[Path, typer.Argument(help="Labeled photos, as for `prepare`.")],
    model: Annotated[Path, typer.Argument(help="An .onnx file.")],
    split: Annotated[Split, typer.Option(help="The split to measure on.")] = "dev",
    limit: Annotated[int, typer.Option(help="At most so many photos.")] = 100,
    into: Annotated[Path | None, typer.Option(help="Document with marks to put the numbers between.")] = None,
    finder: Finder = "learned",
) -> None:
    """Print what the eye finder and the reduced decode of serving add to training's crops."""
    photos = list_photos(source, find_layout(source))
    chosen = [photo for photo in photos if photo.split == split][:limit]
    measured = measure_parity(chosen, open_eye_finder(finder), model)
    text = render_table(
        (f"{len(chosen)} photos of `{split}`, finder {finder}", "median"),
        ((name, f"{value:.4g}") for name, value in asdict(measured).items()),
    )
    typer.echo(text)
    if into is not None:
        put_between_marks(into, "PARITY", text)


app.add_typer(experiment.app)
app.add_typer(finder_commands.app)


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
        raise OptionError(
            f"{text!r} names no system: write NAME=PATH, for example std=models/synthesizer.onnx"
        )
    return name, Path(path)


def _objective(described: dict[str, Any]) -> str:
    terms = " + ".join(f"{weight:g} {name}" for name, weight in described["objective"].items())
    return f"{described['recipe']['objective']}: {terms}"


def _licences(described: dict[str, Any]) -> set[str]:
    """Those of the photos that a run learned from, and of what it started from."""
    start = described.get("start_from") or {}
    found = set(described["data"]["rows_by_licence"])
    return found | _licences(start) if start else found


def _training_data(data: dict[str, dict[str, object]]) -> str:
    licences = ", ".join(f"{count} {licence}" for licence, count in sorted(data["rows_by_licence"].items()))
    return f"{data['settings']['source']} (faces by licence, all splits: {licences})"
