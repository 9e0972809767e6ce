"""Commands: `train-finder`, `train-refiner`, `export-finder`, `evaluate-finder` and `serve-finder`."""

import json
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Annotated

import typer

from service.decoding.reader import InProcessReader
from service.inference.eye_finder import LearnedEyeFinder
from service.inference.haar import HaarEyeFinder
from service.inference.onnx_metadata import LicenceClass
from service.inference.synthesizer import Synthesizer
from service.pipeline import Pipeline
from service.vision.eyes import EyeFinder
from training.cli.options import Into, Licence, show
from training.data.files import write_atomically
from training.data.licences import check_licence_class
from training.data.photos import find_layout, list_photos
from training.data.prepare import MAX_PIXELS
from training.finder import evaluate as evaluation
from training.finder import export as exporting
from training.finder import test_sets
from training.finder.finder_model import EyeFinderNet
from training.finder.labels import load_photos
from training.finder.negatives import FITTED
from training.finder.refiner_model import RefinerNet
from training.finder.serve import DRAWN, render_codes, run_service
from training.finder.train import FINDER, NUM_SCENES, REFINER, load_scenes, train_finder, train_refiner
from training.loop.checkpoint import load_ema
from training.loop.run_folder import RunOutput, read_description, unfinished

SHIPPED, SYNTHESIZER = Path("models/eye_finder.onnx"), Path("models/synthesizer.onnx")

Data = Annotated[Path, typer.Argument(help="Folder with scenes.csv, faces.csv or both, and their pictures.")]
Run = Annotated[Path, typer.Argument(help="Folder of the run; an unfinished run there goes on.")]
Limit = Annotated[
    int | None, typer.Option(help="At most so many pictures of each CSV, and parts of one without people.")
]

Nobody = Annotated[
    Path | None,
    typer.Option(help="Folder of pictures without people: 7 in 10 to learn, 1 to fit, 2 to measure."),
]

app = typer.Typer()


@app.command("train-finder")
def train(  # noqa: PLR0913  every option is an argument
    data: Data,
    run: Run,
    steps: Annotated[int, typer.Option()] = FINDER.num_steps,
    seed: Annotated[int, typer.Option()] = 0,
    workers: Annotated[int, typer.Option(help="Processes that compose scenes.")] = 0,
    nobody: Nobody = None,
    licence: Licence = None,
) -> None:
    """Train the eye finder; the same command goes on from the last checkpoint."""
    output = RunOutput(run, num_workers=workers)
    scenes = load_scenes(data, seed, nobody, licences=licence or ())
    typer.echo(f"finished: {train_finder(replace(FINDER, num_steps=steps), scenes, output)}")


@app.command("train-refiner")
def train_refiner_command(  # noqa: PLR0913  every option is an argument
    data: Data,
    run: Run,
    finder: Annotated[Path, typer.Option(help="The .onnx file of the finder to refine.")] = SHIPPED,
    pictures: Annotated[int, typer.Option(help="Scenes that are searched for its crops.")] = NUM_SCENES,
    steps: Annotated[int, typer.Option()] = REFINER.num_steps,
    seed: Annotated[int, typer.Option()] = 0,
    workers: Annotated[int, typer.Option(help="Processes that compose and search scenes.")] = 0,
    nobody: Nobody = None,
    licence: Licence = None,
) -> None:
    """Train the finder's refiner; the same command goes on from the last checkpoint."""
    recipe, output = replace(REFINER, num_steps=steps), RunOutput(run, num_workers=workers)
    scenes = load_scenes(data, seed, nobody, licences=licence or ())
    typer.echo(f"finished: {train_refiner(recipe, scenes, finder, output, num_scenes=pictures)}")


@app.command("export-finder")
def export(  # noqa: PLR0913  every option is an argument
    run: Annotated[Path, typer.Argument(help="Folder of the finder's run.")],
    data: Data,
    out: Annotated[Path, typer.Argument(help="The .onnx file to write.")],
    licence_class: Annotated[LicenceClass, typer.Option(help="Who may use the model.")],
    version: Annotated[str, typer.Option(help="Version of the model.")] = "1",
    refiner: Annotated[Path | None, typer.Option(help="Run of `train-refiner`, if there is one.")] = None,
    limit: Limit = None,
    nobody: Nobody = None,
    licence: Licence = None,
) -> None:
    """Write a run's eye finder as ONNX, its scores and threshold fitted on pictures kept out of training."""
    photos = load_photos(data, "calibration", measured=True, limit=limit, licences=licence or ())
    learned = [exporting.describe_photos(each) for each in (run, refiner) if each]
    licences = {photo.licence for photo in photos}.union(*(names for _, names in learned))
    check_licence_class(licence_class, licences, model=str(run))
    commit = read_description(run)["commit"]
    metadata = exporting.FinderMetadata(version, learned[0][0], licence_class, commit)
    finder_graph = exporting.finder_to_onnx(load_ema(run, EyeFinderNet()))
    refiner_graph = exporting.refiner_to_onnx(load_ema(refiner, RefinerNet())) if refiner else None
    examples = list(test_sets.people_examples(photos))
    examples += test_sets.negative_examples(photos, names=FITTED, num_crops_each=_num_crops(limit))
    examples += test_sets.folder_negatives(nobody, "calibration") if nobody else []
    written = exporting.export_calibrated(finder_graph, refiner_graph, out, metadata, examples)
    about = f"{out.stat().st_size / 1e6:.2f} MB, eyes count from a score of {written.threshold:.3f}"
    typer.echo(f"{out}: {about}{''.join(unfinished(each) for each in (run, refiner) if each)}")


@app.command("evaluate-finder")
def evaluate(  # noqa: PLR0913  every option is an argument
    data: Data,
    model: Annotated[Path, typer.Argument(help="The .onnx file of an eye finder.")] = SHIPPED,
    haar: Annotated[bool, typer.Option(help="Measure OpenCV's Haar cascades beside it.")] = True,
    limit: Limit = None,
    nobody: Nobody = None,
    out: Annotated[Path, typer.Option(help="Where the numbers go as JSON.")] = Path("runs/eye_finder.json"),
    into: Into = None,
) -> None:
    """Print what the eye finder finds on pictures kept out of training, by kind, with 95 % intervals."""
    photos = load_photos(data, "dev", measured=True, limit=limit)
    negatives = [
        *test_sets.negative_examples(photos, num_crops_each=_num_crops(limit)),
        *(test_sets.folder_negatives(nobody, "dev") if nobody else ()),
    ]
    empty = [each.picture for each in negatives if each.kind.startswith(test_sets.NO_PEOPLE)]
    finders: dict[str, EyeFinder] = {"learned": LearnedEyeFinder.load(model)}
    if haar:
        finders["haar"] = HaarEyeFinder()
    numbers: dict[str, evaluation.FinderNumbers] = {}
    for name, finder in finders.items():
        people, crowds = test_sets.people_examples(photos), test_sets.composed_crowds(photos, empty)
        examples = chain(people, crowds, negatives, test_sets.cat_examples())
        numbers[name] = evaluation.summarize(evaluation.evaluate_finder(finder, examples, title=name))
    write_atomically(out, json.dumps(numbers, indent=1, ensure_ascii=False) + "\n")
    text = (
        f"{len(photos)} photos kept out of training; an eye is found within "
        f"{evaluation.MATCH_DISTANCE:.0%} of the eye distance; in brackets 95 % intervals (Wilson).\n\n"
        + evaluation.render_numbers(numbers)
    )
    show(text, into, "FOUND")
    typer.echo(f"numbers: {out}")


@app.command("serve-finder")
def serve(
    source: Annotated[Path, typer.Argument(help="Labeled photos, as for `prepare`.")],
    model: Annotated[Path, typer.Option(help="The .onnx file of an eye finder.")] = SHIPPED,
    synthesizer: Annotated[Path, typer.Option(help="The .onnx file that draws faces.")] = SYNTHESIZER,
    split: Annotated[str, typer.Option(help="train, dev or val.")] = "dev",
    limit: Annotated[int | None, typer.Option(help="At most so many photos.")] = None,
    into: Into = None,
) -> None:
    """Print which labeled photos get a face in the service, and why not."""
    photos = list_photos(source, find_layout(source))
    chosen = [photo for photo in photos if photo.split == split][:limit]
    reader = InProcessReader(LearnedEyeFinder.load(model), max_pixels=MAX_PIXELS)
    codes = run_service(chosen, Pipeline(reader, Synthesizer.load(synthesizer, device="cpu")))
    show(render_codes(codes, split), into, "SERVED")
    for file, code in codes.items():
        if code != DRAWN:
            typer.echo(f"{code}: {file}")


def _num_crops(limit: int | None) -> int:
    return min(test_sets.NUM_CROPS_EACH, limit or test_sets.NUM_CROPS_EACH)
