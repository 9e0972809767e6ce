"""The command `eye2face`: options and help of serve, synthesize, eyes, bridge, doctor and new-key.

Errors are one sentence on stderr and exit status 1. FastAPI, paho-mqtt and Ray are imported by the commands
that need them.
"""

import logging
import signal
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, Literal

import typer
from pydantic import ValidationError

from service import __version__
from service.access.api_keys import ApiKey, append_key, generate_key, hash_key
from service.cli.doctor import examine_finder, examine_model, examine_sandbox, examine_speed, examine_versions
from service.cli.synthesize import draw_photos, report
from service.decoding.messages import printable
from service.decoding.process_pool import open_reader
from service.errors import Eye2FaceError
from service.folder.draw import DrawOptions, max_photo_bytes
from service.inference.model_files import model_path
from service.inference.synthesizer import Synthesizer
from service.observability.stage_timer import StageTimer
from service.pipeline import DRAW_OVERLAY, FIND_EYES, PhotoEyes
from service.selection import SynthesisOptions
from service.settings import BridgeSettings, Settings, warn_about_unknown_variables
from service.system.files import read_regular_file, replace_file
from service.system.signals import hold_sighup
from service.vision.images import encode


class UsageError(Eye2FaceError):
    """The options or arguments of a command cannot be used."""


app = typer.Typer(
    help="One eye in, one synthetic face out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

_Model = Annotated[str | None, typer.Option(help="Name of a shipped model or path of an ONNX file.")]
_Device = Annotated[Literal["auto", "cpu", "cuda"] | None, typer.Option(help="Where the model runs.")]


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line; an error ends the process with one sentence and status 1."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # not every terminal has every character
    try:
        app(arguments, prog_name="eye2face")
    except (Eye2FaceError, OSError, ValidationError) as error:
        typer.echo(f"eye2face: {printable(_sentence(error))}", err=True)
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
    from service.http.server import run_server

    run_server(_settings(host=host, port=port, model=model, device=device))


@app.command()
def synthesize(  # noqa: PLR0913  every option is an argument
    files: Annotated[list[Path], typer.Argument(help="Photos, or folders of photos.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the faces.")],
    eye: Annotated[
        Literal["auto", "left", "right"], typer.Option(help="Which eye; left and right are the subject's.")
    ] = "auto",
    person: Annotated[str, typer.Option(help="largest, all, or a number from 0.")] = "largest",
    input: Annotated[
        Literal["auto", "photo", "eye"], typer.Option(help="eye: the whole picture is an eye.")
    ] = "auto",
    format: Annotated[Literal["png", "jpeg", "webp"], typer.Option(help="Format of the faces.")] = "png",
    ray: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Draw on a Ray cluster: HOST:PORT, or auto.")
    ] = None,
) -> None:
    """Draw a face for each photo into a folder, on all cores of this machine or of a Ray cluster.

    Results are recorded in manifest.jsonl beside the faces (and in manifest.parquet where pyarrow is
    installed). After a kill the same command resumes. Inputs are never overwritten.
    """
    options = DrawOptions(SynthesisOptions(eye=eye, person=_parse_person(person), input=input), format)
    settings = _settings()
    warn_about_unknown_variables()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl+C: half a file is removed
    with _requires("ray", "--ray needs Ray: pip install '.[ray]' in the checkout."):
        results = draw_photos(settings, options, files, output, ray)
    report(results, output)


@app.command()
def eyes(
    file: Annotated[Path, typer.Argument(help="A photo.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, as POST /eyes answers.")] = False,
    all: Annotated[bool, typer.Option(help="In JSON also the eyes below the threshold.")] = False,
    overlay: Annotated[Path | None, typer.Option(help="Write a PNG of the photo with its eyes.")] = None,
) -> None:
    """Print the detected eyes, in pixels of the upright photo, the largest person first."""
    settings = _settings()
    warn_about_unknown_variables()
    data = read_regular_file(file, max_photo_bytes(settings))
    if overlay is not None and overlay.exists() and overlay.samefile(file):
        raise UsageError(f"--overlay {overlay} is the photo itself, which is not overwritten")
    with closing(open_reader(settings, 1)) as reader:
        found = reader(data, FIND_EYES, StageTimer())
        if overlay is not None:
            with replace_file(overlay) as picture:
                picture.write(encode(reader(data, DRAW_OVERLAY, StageTimer()), "png"))
    if as_json:
        from service.http.responses import eyes_answer

        answer = eyes_answer(found, "", all=all)
        typer.echo(answer.model_dump_json(indent=2, exclude={"request_id"}))
    else:
        typer.echo(_eyes_table(found) if found.eyes else "No eye was found.")


@app.command()
def bridge() -> None:
    """Draw faces for the events of an NVR, over MQTT. Settings come from EYE2FACE_BRIDGE_..."""
    with _requires("paho", "The bridge needs paho-mqtt: pip install '.[mqtt]' in the checkout."):
        from service.bridge.bridge import Bridge
    settings = BridgeSettings()
    logging.basicConfig(level=settings.log_level.upper(), format="%(levelname)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it logs every request
    warn_about_unknown_variables()
    running = Bridge(settings)
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, lambda *_: running.stop())
    running.run()


@app.command()
def doctor(model: _Model = None, device: _Device = None) -> None:
    """Print versions, cores, the model, the device that it runs on, and the time of one run."""
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
    name: Annotated[str, typer.Argument(help="Name of the key in the file and the log.")] = "",
    file: Annotated[Path | None, typer.Option(help="Key file to add it to.")] = None,
) -> None:
    """Print a new API key, shown only once, and its line for EYE2FACE_API_KEYS_FILE."""
    if not (name or "x").isprintable():
        raise UsageError("the name holds a line break or other control character")
    secret = generate_key()
    key = ApiKey(hash_key(secret), name.strip())
    if file is None:
        typer.echo(f"{key.hash} {key.name}".rstrip(), err=True)
    else:
        append_key(file, key)
        typer.echo(f"Its hash is in {file}; the key itself is stored nowhere.", err=True)
    typer.echo(secret)


def _eyes_table(found: PhotoEyes) -> str:
    """A line for each eye."""
    lines = ["person  side         x        y  size px  roll deg  score  sharpness  light"]
    for measured in found.eyes:
        eye, quality = measured.eye, measured.quality
        lines.append(
            f"{eye.person:6}  {eye.side:5} {eye.x:8.1f} {eye.y:8.1f} {eye.size_px:8.1f} {eye.roll_deg:9.1f}"
            f" {eye.score:6.2f} {quality.sharpness:10.2f} {quality.light:6.2f}"
        )
    return "\n".join(lines)


def _print_facts(facts: dict[str, str]) -> None:
    for name, fact in facts.items():
        typer.echo(f"{name:<16} {fact}")


def _settings(**given: str | int | None) -> Settings:
    """The settings of the environment, overridden by the command line."""
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
    raise UsageError(f"--person is '{person}'; it can be largest, all or a number from 0.")


@contextmanager
def _requires(package: str, advice: str) -> Iterator[None]:
    """Turns a missing optional package into advice."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != package:
            raise
        raise UsageError(advice) from None


def _sentence(error: Exception) -> str:
    if isinstance(error, ValidationError):
        prefix = "EYE2FACE_BRIDGE_" if error.title == BridgeSettings.__name__ else "EYE2FACE_"
        found = ((".".join(map(str, each["loc"])).upper() or "*", each["msg"]) for each in error.errors())
        return "; ".join(f"{prefix}{name}: {said.removeprefix('Value error, ')}" for name, said in found)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)
