"""The command `eye2face`: serve, synthesize files, look for eyes, bridge to an NVR, say what is installed.

What goes wrong is told in one sentence on stderr, with exit status 1. Heavy modules are imported by the
command that needs them, so that `--help` and a missing ONNX Runtime are answered at once.
"""

import json
import logging
import signal
import sys
from collections.abc import Iterator
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.progress import track
from rich.table import Table

from service import __version__
from service.access.api_keys import ApiKey, append_key, generate_key, hash_key
from service.cli.doctor import examine_finder, examine_model, examine_sandbox, examine_speed, examine_versions
from service.errors import Eye2FaceError
from service.folder.draw import (
    ClusterError,
    FolderOptions,
    OutputFolder,
    PhotoOutcome,
    PhotoWorker,
    draw_locally,
    run_fingerprint,
)
from service.folder.manifest import NAME, Manifest, write_parquet
from service.inference.eye_finder import open_eye_finder
from service.inference.model_files import model_path
from service.inference.synthesizer import Synthesizer
from service.pipeline import PhotoEyes, SynthesisOptions, draw_overlay, find_eyes
from service.runtime.host import count_cores
from service.runtime.signals import hold_sighup
from service.settings import BridgeSettings, Settings, warn_about_unknown_variables
from service.vision.images import encode
from service.vision.photo import Photo

PICTURES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}
"""Endings of the files that are taken from a folder."""

PARQUET_NAME = "manifest.parquet"

app = typer.Typer(
    help="One eye in, one synthetic face out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

_Model = Annotated[str | None, typer.Option(help="Name of a shipped model or path of an ONNX file.")]
_Device = Annotated[Literal["auto", "cpu", "cuda"] | None, typer.Option(help="Where the model runs.")]


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line; ends the process with status 1 and one sentence where it cannot."""
    try:
        app(arguments, prog_name="eye2face")
    except (
        Eye2FaceError, OSError, ValidationError, ClusterError, _Refusal
    ) as error:  # fmt: skip
        typer.echo(f"eye2face: {_sentence(error)}", err=True)
        sys.exit(1)


@app.callback(invoke_without_command=True)
def _options(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        typer.echo(f"eye2face {__version__}")
        raise typer.Exit


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes any free one.")] = None,
    model: _Model = None,
    device: _Device = None,
) -> None:
    """Start the HTTP service. Other settings come from the environment, EYE2FACE_..."""
    hold_sighup()  # until the model is loaded
    from service.http.server import run_server  # FastAPI and uvicorn, which no other command needs
    from service.observability.tracing import require_tracing_packages

    settings = _settings(host=host, port=port, model=model, device=device)
    try:
        settings.check_exposure()
        if settings.tracing:
            require_tracing_packages()
    except ValueError as error:
        raise _Refusal(str(error)) from None
    run_server(settings)


@app.command()
def synthesize(  # noqa: PLR0913  every option is an argument
    files: Annotated[list[Path], typer.Argument(help="Photos, or folders of photos.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the faces.")],
    eye: Annotated[
        Literal["auto", "left", "right"], typer.Option(help="Which eye, the subject's own.")
    ] = "auto",
    person: Annotated[str, typer.Option(help="largest, all, or a number from 0.")] = "largest",
    input: Annotated[
        Literal["auto", "photo", "eye"], typer.Option(help="eye: the picture itself is an eye.")
    ] = "auto",
    format: Annotated[Literal["png", "jpeg", "webp"], typer.Option(help="Format of the faces.")] = "png",
    ray: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="On a Ray cluster: HOST:PORT, or auto.")
    ] = None,
) -> None:
    """Draw a face for each photo into a folder, on all cores of this machine, or of a Ray cluster.

    What became of each stands in manifest.jsonl beside the faces (and in manifest.parquet where pyarrow is
    installed). After a kill the same command goes on where it was. No input is ever overwritten.
    """
    options = FolderOptions(SynthesisOptions(eye=eye, person=_parse_person(person), input=input), format)
    output.mkdir(parents=True, exist_ok=True)
    with _open_manifest(output) as manifest:
        faces = {(output / name).resolve() for name in manifest.outputs}
        photos = [photo for photo in _list_photos(files) if photo.resolve() not in faces]
        if not photos:
            raise _Refusal(f"All that is there are faces that were drawn before, as {output / NAME} says.")
        drawing = _draw(options, output, manifest, photos, ray)
        shown = track(drawing, "Drawing faces", total=len(photos), console=Console(stderr=True))
        outcomes = {outcome.photo: outcome for outcome in shown}
        if find_spec("pyarrow"):
            write_parquet([row for rows in manifest.rows.values() for row in rows], output / PARQUET_NAME)
    _tell_outcomes([outcomes[photo] for photo in photos], output)


def _draw(
    options: FolderOptions, output: Path, manifest: Manifest, photos: list[Path], ray: str | None
) -> Iterator[PhotoOutcome]:
    settings = _settings()
    warn_about_unknown_variables()
    bulk = OutputFolder(output, manifest, run_fingerprint(settings, options))
    if ray is not None:
        try:
            from service.folder.ray import connect, draw_on_ray
        except ModuleNotFoundError as error:
            if error.name != "ray":
                raise
            raise _Refusal("--ray needs Ray: pip install 'eye2face[ray]'.") from None
        connect(ray)
        return draw_on_ray(settings, options, bulk, photos)
    num_cores = count_cores()
    # Several photos: a core for each of them. One: all cores for it.
    worker = PhotoWorker(settings, options, num_threads=num_cores if len(photos) == 1 else 1)
    return draw_locally(worker, bulk, photos, min(settings.num_threads or num_cores, len(photos)))


def _open_manifest(folder: Path) -> Manifest:
    try:
        return Manifest(folder)
    except ValueError as error:
        raise _Refusal(str(error)) from None


def _tell_outcomes(outcomes: list[PhotoOutcome], output: Path) -> None:
    """Says on stderr what became of all photos; exit status 1 if one of them has no face."""
    failed = [each for each in outcomes if not each.has_face]
    num_before = sum(each.from_before for each in outcomes)
    before = f" ({num_before} were done before)" if num_before else ""
    typer.echo(
        f"{len(outcomes) - len(failed)} of {len(outcomes)} photos have a face in {output}{before}", err=True
    )
    refused = [line for each in outcomes if each.has_face for line in _errors_of(each)]
    if refused:
        typer.echo("\n".join([f"{len(refused)} eyes were refused beside them:", *refused]), err=True)
    if failed:
        lines = [line for each in failed for line in _errors_of(each)]
        typer.echo("\n".join([f"{len(failed)} failed:", *lines]), err=True)
        raise typer.Exit(1)


def _errors_of(outcome: PhotoOutcome) -> list[str]:
    return [f"{outcome.photo}: {row['error']['detail']}" for row in outcome.rows if row["error"]]


@app.command()
def eyes(
    file: Annotated[Path, typer.Argument(help="A photo.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="Answer as POST /eyes does.")] = False,
    all: Annotated[bool, typer.Option(help="In JSON also what scored below the threshold.")] = False,
    overlay: Annotated[Path | None, typer.Option(help="Write the photo with its eyes drawn, a PNG.")] = None,
) -> None:
    """Print the eyes that the finder sees, in pixels of the upright photo, the largest person first."""
    settings = _settings()
    warn_about_unknown_variables()
    finder = open_eye_finder(settings.eye_finder)
    photo = Photo(file.read_bytes(), max_pixels=settings.max_pixels)
    found = find_eyes(photo, finder)
    if overlay is not None:
        overlay.write_bytes(encode(draw_overlay(photo, finder), "png"))
    if as_json:
        typer.echo(json.dumps(_as_answer(found, all=all), indent=2))
        return
    table = Table("person", "side", "x", "y", "size px", "roll °", "score", "sharpness", "light")
    for seen in found.eyes:
        eye, quality = seen.eye, seen.quality
        numbers = (f"{each:.1f}" for each in (eye.x, eye.y, eye.size_px, eye.roll_deg))
        parts = (f"{each:.2f}" for each in (eye.score, quality.sharpness, quality.light))
        table.add_row(str(eye.person), eye.side, *numbers, *parts)
    Console().print(table if found.eyes else "No eye was found.")


def _as_answer(found: PhotoEyes, *, all: bool) -> dict[str, Any]:
    eyes = [asdict(seen.eye) | {"quality": asdict(seen.quality)} for seen in found.eyes]
    answer: dict[str, Any] = {"width": found.width, "height": found.height, "eyes": eyes}
    if all and found.below_threshold is not None:
        below_threshold = [asdict(eye) for eye in found.below_threshold]
        answer["below_threshold"] = [
            {k: v for k, v in eye.items() if k != "person"} for eye in below_threshold
        ]
    return answer


@app.command()
def bridge() -> None:
    """Draw faces for the events of an NVR, over MQTT. Settings come from EYE2FACE_BRIDGE_..."""
    try:
        from service.bridge.bridge import Bridge  # paho-mqtt, which no other command needs
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != "paho":
            raise
        raise _Refusal("The bridge needs paho-mqtt: pip install 'eye2face[mqtt]'.") from None
    settings = BridgeSettings()
    logging.basicConfig(level=settings.log_level.upper(), format="%(levelname)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it tells of every request
    warn_about_unknown_variables()
    try:
        running = Bridge(settings)
    except ValueError as error:
        raise _Refusal(str(error)) from None
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, lambda *_: running.stop())
    running.run()


@app.command()
def doctor(model: _Model = None, device: _Device = None) -> None:
    """Print versions, cores, the model, the device it really runs on, and the time of one run."""
    settings = _settings(model=model, device=device)
    warn_about_unknown_variables()
    _print_facts(examine_versions())
    _print_facts(examine_sandbox())
    _print_facts(examine_finder(settings.eye_finder))
    synthesizer = Synthesizer.load(model_path(settings.model, settings.models_folder), device=settings.device)
    _print_facts(examine_model(synthesizer))
    _print_facts(examine_speed(synthesizer))


@app.command()
def new_key(
    name: Annotated[str, typer.Argument(help="What to call it in the file and the log.")] = "",
    file: Annotated[Path | None, typer.Option(help="File of keys to add it to.")] = None,
) -> None:
    """Print a new API key, which is shown this once, and its line for EYE2FACE_API_KEYS_FILE."""
    if not (name or "x").isprintable():
        raise _Refusal("the name holds a line break or other control character")
    secret = generate_key()
    key = ApiKey(hash_key(secret), name.strip())
    if file is None:
        typer.echo(f"{key.hash} {key.name}".rstrip(), err=True)
    else:
        append_key(file, key)
        typer.echo(f"Its hash stands in {file}; the key itself is kept nowhere.", err=True)
    typer.echo(secret)


def _print_facts(facts: dict[str, str]) -> None:
    for name, fact in facts.items():
        typer.echo(f"{name:<16} {fact}")


def _settings(**given: str | int | None) -> Settings:
    """The settings of the environment, with what the command line says instead."""
    return Settings.model_validate(
        Settings().model_dump() | {k: v for k, v in given.items() if v is not None}
    )


def _parse_person(person: str) -> Literal["largest", "all"] | int:
    if person == "largest":
        return "largest"
    if person == "all":
        return "all"
    if person.isdecimal():
        return int(person)
    raise _Refusal(f"--person is '{person}'; it can be largest, all or a number from 0.")


def _list_photos(files: list[Path]) -> list[Path]:
    """Every photo once."""
    photos: dict[Path, Path] = {}
    for file in files:
        found = [file]
        if file.is_dir():
            found = sorted(
                each for each in file.rglob("*") if each.suffix.lower() in PICTURES and each.is_file()
            )
        if not found:
            raise _Refusal(f"There are no photos in {file}; looked for {', '.join(sorted(PICTURES))}.")
        photos |= {photo.absolute(): photo for photo in found}
    return list(photos.values())


class _Refusal(Exception):
    """What was asked for on the command line cannot be done; the message says why."""


def _sentence(error: Exception) -> str:
    if isinstance(error, ValidationError):
        return "; ".join(
            f"setting {'.'.join(map(str, each['loc'])) or 'all'}: {each['msg']}" for each in error.errors()
        )
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)
