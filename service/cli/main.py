"""The command `eye2face`: options and help of serve, synthesize, eyes, verify, bridge, doctor and new-key.

Errors are one sentence on stderr and exit status 1. FastAPI, paho-mqtt and Ray are imported by the commands
that need them.
"""

import json
import logging
import signal
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, Literal

import cv2
import typer
from pydantic import ValidationError

from service import __version__
from service.access.api_keys import append_key, generate_key
from service.cli.doctor import examine
from service.cli.streams import STANDARD, UsageError, check_output, read_input, write_picture
from service.cli.synthesize import draw_one, draw_photos, face_format, is_one_face, list_inputs, report
from service.cli.verify import render_verification, verify_files
from service.decoding.process_pool import open_reader
from service.errors import Eye2FaceError
from service.folder.draw import DrawOptions, max_photo_bytes
from service.folder.manifest import Row, render_row
from service.observability.logs import log_native_lines, printable
from service.observability.stage_timer import StageTimer
from service.pipeline import DRAW_OVERLAY, FIND_EYES, PhotoEyes
from service.selection import SynthesisOptions
from service.settings import BridgeSettings, Settings, warn_about_unknown_variables
from service.system.files import DISK_FULL
from service.system.signals import ignore_sighup
from service.vision.images import encode


def _examples(*lines: str) -> str:
    """The end of a command's help; typer prints a line for each paragraph."""
    return "\n\n".join(["Examples:", *lines])


app = typer.Typer(
    help="One eye in, one synthetic face out.",
    epilog=_examples("eye2face serve", "eye2face synthesize photo.jpg -o face.png"),
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)

_SETTINGS = (Settings.__name__, BridgeSettings.__name__)

_Model = Annotated[str | None, typer.Option(help="Name of a shipped model or path of an ONNX file.")]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_Device = Annotated[Literal["auto", "cpu", "cuda"] | None, typer.Option(help="Where the model runs.")]


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line; an error ends the process with one sentence and status 1."""
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # damaged images are expected
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # not every terminal has every character
    try:
        app(arguments, prog_name="eye2face")
    except (Eye2FaceError, OSError, ValidationError) as error:
        if isinstance(error, ValidationError) and error.title not in _SETTINGS:
            raise  # a mistake of ours
        typer.echo(f"eye2face: {printable(_sentence(error))}", err=True)
        sys.exit(1)


@app.callback(invoke_without_command=True)
def _options(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        typer.echo(f"eye2face {__version__}")
        raise typer.Exit


@app.command(epilog=_examples("eye2face serve --port 9000", "eye2face serve --model mine.onnx"))
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes any free one.")] = None,
    model: _Model = None,
    device: _Device = None,
) -> None:
    """Start the HTTP service. Other settings come from the environment, EYE2FACE_..."""
    ignore_sighup()  # until the model is loaded
    from service.http.server import run_server

    run_server(_settings(host=host, port=port, model=model, device=device))


@app.command(
    epilog=_examples(
        "eye2face synthesize photo.jpg -o face.png",
        "eye2face synthesize PHOTOS -o faces",
        "eye2face synthesize photo.jpg -o faces --guesses 4 --seed 7",
        "eye2face synthesize - -o - < photo.jpg > face.png",
    )
)
def synthesize(  # noqa: PLR0913  every option is an argument
    files: Annotated[
        list[Path],
        typer.Argument(help="Photos or folders of photos; - is standard input.", show_default=False),
    ],
    output: Annotated[
        str,
        typer.Option("--output", "-o", metavar="PATH", help="Folder of the faces; or a picture: FILE.png, -"),
    ],
    eye: Annotated[
        Literal["auto", "left", "right"], typer.Option(help="Which eye; left and right are the subject's.")
    ] = "auto",
    person: Annotated[str, typer.Option(help="largest, all, or a number from 0.")] = "largest",
    input: Annotated[
        Literal["auto", "photo", "eye"], typer.Option(help="eye: the whole picture is an eye.")
    ] = "auto",
    guesses: Annotated[
        int,
        typer.Option(
            min=1,
            max=16,
            help="Faces of each eye, the default one first. A folder gets a file for each, FILE.png a grid.",
        ),
    ] = 1,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Decides the guesses.")] = 0,
    format: Annotated[
        Literal["png", "jpeg", "webp"] | None,
        typer.Option(help="Format of the faces; by default that of FILE's ending, or png."),
    ] = None,
    label: Annotated[bool, typer.Option("--label", help='Draw the letters "AI" on the faces.')] = False,
    ray: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Draw on a Ray cluster: HOST:PORT, or auto.")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option("--jobs", "-j", min=1, help="Photos at once; by default one a core.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the lines of manifest.jsonl.")] = False,
) -> None:
    """Draw the face of one photo into a file, or those of many photos into a folder.

    A folder also gets manifest.jsonl, by which the same command resumes. Inputs are never overwritten.
    """
    chosen = SynthesisOptions(eye=eye, person=_parse_person(person), input=input, guesses=guesses, seed=seed)
    options = DrawOptions(chosen, face_format(output, format), label)
    settings = _settings(num_threads=jobs)
    warn_about_unknown_variables()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl+C: half a file is removed
    if is_one_face(output):
        check_output("-o", output, files[0], as_json=as_json)
        rows = draw_one(settings, options, files, output)
        _print_rows(rows if as_json else [])
        return
    listing = list_inputs(files)
    log_native_lines()  # at the level info, which is not shown: they name no photo
    with _requires("ray", "--ray needs Ray: pip install '.[ray]' in the checkout."):
        results = draw_photos(settings, options, listing, Path(output), ray=ray, quiet=quiet)
    _print_rows([row for result in results for row in result.rows] if as_json else [])
    report(results, listing, Path(output), quiet=quiet)


@app.command(
    epilog=_examples("eye2face eyes photo.jpg --overlay seen.png", "eye2face eyes - --json < photo.jpg")
)
def eyes(
    file: Annotated[Path, typer.Argument(help="A photo; - is standard input.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, as POST /eyes answers.")] = False,
    all: Annotated[bool, typer.Option(help="In JSON also the eyes below the threshold.")] = False,
    overlay: Annotated[Path | None, typer.Option(help="Write a PNG of the photo with its eyes.")] = None,
) -> None:
    """Print the detected eyes, in pixels of the upright photo, the largest person first."""
    settings = _settings()
    warn_about_unknown_variables()
    data = read_input(file, max_photo_bytes(settings))
    if overlay is not None:
        check_output("--overlay", str(overlay), file, as_json=as_json)
    with closing(open_reader(settings, 1)) as reader:
        found = reader(data, FIND_EYES, StageTimer())
        if overlay is not None:
            write_picture(str(overlay), encode(reader(data, DRAW_OVERLAY, StageTimer()), "png"))
    if as_json:
        from service.http.responses import eyes_answer

        answer = eyes_answer(found, "", all=all)
        typer.echo(answer.model_dump_json(indent=2, exclude={"request_id"}))
    elif str(overlay) != STANDARD:
        typer.echo(_eyes_table(found) if found.eyes else "No eye was found.")


@app.command(epilog=_examples("eye2face verify face.png", "eye2face verify faces/*.png --json"))
def verify(
    files: Annotated[list[Path], typer.Argument(help="Pictures; - is standard input.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, as POST /verify answers.")] = False,
) -> None:
    """Print whether pictures are faces of this deployment, by their signature, watermark and metadata.

    The exit status is 0 whatever is found, and 1 if a picture cannot be read.
    """
    settings = _settings()
    warn_about_unknown_variables()
    all_read = True
    for file, found in verify_files(settings, files):
        if isinstance(found, Exception):
            all_read = False
            typer.echo(printable(f"eye2face: {file}: {_reason(found)}"), err=True)
        elif as_json:
            typer.echo(json.dumps({"file": str(file), **asdict(found)}))
        else:
            typer.echo(printable(f"{file}: {render_verification(found)}"))
    if not all_read:
        raise typer.Exit(1)


@app.command(epilog=_examples("EYE2FACE_BRIDGE_MQTT_HOST=broker eye2face bridge"))
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


@app.command(epilog=_examples("eye2face doctor", "eye2face doctor --device cuda --json"))
def doctor(model: _Model = None, device: _Device = None, as_json: _Json = False) -> None:
    """Print versions, cores, the model, its device, the time of one run, and whether all is ready."""
    settings = _settings(model=model, device=device)
    warn_about_unknown_variables()
    facts: dict[str, str] = {}
    for found in examine(settings):
        facts |= found
        if not as_json:
            typer.echo("\n".join(f"{name:<16} {fact}" for name, fact in found.items()))
    if as_json:
        typer.echo(json.dumps(facts, indent=2))


@app.command(epilog=_examples('eye2face new-key "gate camera" --file keys.txt'))
def new_key(
    name: Annotated[str, typer.Argument(help="Name of the key in the file and the log.")] = "",
    file: Annotated[Path | None, typer.Option(help="Key file to add it to.")] = None,
    as_json: _Json = False,
) -> None:
    """Print a new API key, shown only once, and its line for EYE2FACE_API_KEYS_FILE."""
    if not (name or "x").isprintable():
        raise UsageError("the name holds a line break or other control character")
    secret, key = generate_key(name.strip())
    if file is not None:
        append_key(file, key)
        typer.echo(f"Its hash is in {file}; the key itself is stored nowhere.", err=True)
    elif not as_json:
        typer.echo(key.line, err=True)
    typer.echo(json.dumps({"key": secret, "hash": key.hash, "name": key.name}) if as_json else secret)


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


def _print_rows(rows: list[Row]) -> None:
    for row in rows:
        typer.echo(render_row(row))


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
    if person.isdecimal() and len(person) < 10:
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
    name = error.filename if isinstance(error, OSError) else None
    if not name and isinstance(error, OSError) and error.errno in DISK_FULL:
        name = "standard output"  # of a file the name is known
    return f"{name}: {_reason(error)}" if name else _reason(error)


def _reason(error: Exception) -> str:
    """What is wrong, without the file's name."""
    return (isinstance(error, OSError) and error.strerror) or str(error)
