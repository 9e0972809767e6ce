"""Generates the parts of the documents that restate code or results.

python -m tests.write_docs               tables: settings, query parameters, fields, errors, figures
python -m tests.write_docs --examples    the JSON examples, too, from a service that this starts

Generated text stands between <!-- NAME --> and <!-- /NAME -->. `tests/test_docs.py` fails when a table is
stale, and checks the JSON examples against the OpenAPI document.
"""

import json
import re
import statistics
import sys
import textwrap
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_origin

import httpx
import numpy as np
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from service import errors
from service.errors import Eye2FaceError
from service.http.app import create_app
from service.settings import BridgeSettings, Settings
from tests.fakes import astronaut, encoded
from tests.running import run_service
from training.markdown import put_between_marks

ROOT: Final = Path(__file__).parent.parent
README: Final = ROOT / "README.md"
CONFIGURATION: Final = ROOT / "docs" / "configuration.md"
HTTP_API: Final = ROOT / "docs" / "http-api.md"
RESPONSIBLE_USE: Final = ROOT / "docs" / "responsible-use.md"
RESULTS: Final = ROOT / "docs" / "results.md"

MAX_TEXT: Final = 44
"""Longest string in a JSON example; longer ones are cut off with an ellipsis."""

RANKED: Final = {
    "stdmap-ema-dct-64": "objective of the shipped model",
    "l1-64": "L1 loss alone",
    "mean face": "the mean face for everybody: chance",
}
"""Systems of docs/results.md whose ranks docs/responsible-use.md shows."""


def render_tables() -> dict[tuple[Path, str], str]:
    """The tables by document and mark."""
    return {
        (CONFIGURATION, "SETTINGS"): render_settings(Settings),
        (CONFIGURATION, "BRIDGE SETTINGS"): render_settings(BridgeSettings),
        (HTTP_API, "ERRORS"): render_errors(),
        **{(HTTP_API, f"QUERY {path}"): render_parameters(path) for path in ("/synthesize", "/eyes")},
        (HTTP_API, "FIELDS"): render_fields("/synthesize"),
        (README, "FIGURES"): render_figures(),
        (RESPONSIBLE_USE, "RANKS"): render_ranks(),
    }


def render_settings(kind: type[BaseSettings]) -> str:
    """The table of the settings: variable, default, description."""
    rows = [
        f"| `{variable}` | {_default(field)} | {_describe(field)} |"
        for variable, field in zip(list_variables(kind), kind.model_fields.values(), strict=True)
    ]
    return "\n".join(["| variable | default | description |", "|---|---|---|", *rows])


def list_variables(kind: type[BaseSettings]) -> list[str]:
    """The environment variables of the settings, in their order."""
    return [f"{kind.model_config['env_prefix']}{name.upper()}" for name in kind.model_fields]


def _default(field: FieldInfo) -> str:
    default = ",".join(field.default) if isinstance(field.default, tuple) else field.default
    if default in ("", None):
        return "–"
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def _describe(field: FieldInfo) -> str:
    text = " ".join(str(field.description).split())
    choices = [str(each) for each in get_args(field.annotation)] if _is_choice(field) else []
    if all(f"{choice}:" in text for choice in choices):
        for choice in choices:
            text = text.replace(f"{choice}:", f"`{choice}`:")
        return text
    return f"{text} One of {', '.join(f'`{choice}`' for choice in choices)}."


def _is_choice(field: FieldInfo) -> bool:
    return get_origin(field.annotation) is Literal


def render_errors() -> str:
    """The table of errors, by status."""
    kinds = sorted(list_answered(), key=lambda kind: kind.status)
    rows = [f"| {kind.status} | `{kind.code}` | {kind.title} | {_cause(kind)} |" for kind in kinds]
    return "\n".join(["| status | `code` | title | cause |", "|---|---|---|---|", *rows])


def render_parameters(path: str) -> str:
    """The table of the parameters that a POST to this route takes."""
    rows = [
        f"| `{each['name']}` | {_list_values(each['schema'])} | {_default_of(each['schema'])} "
        f"| {each['description']} |"
        for each in openapi()["paths"][path]["post"]["parameters"]
    ]
    return "\n".join(["| parameter | values | default | description |", "|---|---|---|---|", *rows])


def _list_values(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return ", ".join(_list_values(each) for each in schema["anyOf"] if each != {"type": "null"})
    if schema["type"] == "boolean":
        return "`true`, `false`"
    return ", ".join(f"`{each}`" for each in schema.get("enum", ())) or str(schema["type"])


def _default_of(schema: dict[str, Any]) -> str:
    return f"`{json.dumps(schema['default'])}`".replace('"', "") if "default" in schema else "–"


def render_fields(path: str) -> str:
    """The table of the fields of a route's JSON answer that have a description; those of a shape once."""
    answer = openapi()["paths"][path]["post"]["responses"]["200"]["content"]["application/json"]["schema"]
    rows = [f"| `{name}` | {description} |" for name, description in _list_fields(answer, set())]
    return "\n".join(["| field | meaning |", "|---|---|", *rows])


def _list_fields(schema: dict[str, Any], seen: set[str], prefix: str = "") -> Iterator[tuple[str, str]]:
    for option in schema.get("anyOf", ()):
        yield from _list_fields(option, seen, prefix)
    if "items" in schema:
        yield from _list_fields(schema["items"], seen, f"{prefix}[]")
    if "$ref" in schema and schema["$ref"] not in seen:
        seen.add(schema["$ref"])
        schema = openapi()["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    for name, field in schema.get("properties", {}).items():
        full = f"{prefix}.{name}".removeprefix(".")
        if "description" in field:
            yield full, field["description"]
        yield from _list_fields(field, seen, full)


def render_figures() -> str:
    """Five figures of the README, from the committed results, each with the command that measured it."""
    bench = json.loads((ROOT / "bench" / "results.json").read_text("utf-8"))
    cpu = f"{bench['machine']['cores']} cores, {bench['machine']['cpu']}"
    found = json.loads((ROOT / "models" / "eye_finder.json").read_text("utf-8"))["learned"]["kinds"]
    frontal, masked = (found[kind]["found"] / found[kind]["eyes"] for kind in ("frontal", "masked, drawn"))
    scores = json.loads((ROOT / "models" / "evaluation.json").read_text("utf-8"))["scores"]
    variety = scores["synthesizer"]["sigma_ratio"]
    megabytes = (ROOT / "models" / "synthesizer.onnx").stat().st_size / 1e6
    fast, lone = _bench_median(bench, "250px", 32, "per_s"), _bench_median(bench, "1080p", 1, "p50_ms")
    rows = [
        (f"photos per second (250 px, {cpu})", f"{fast:.0f}", "make bench"),
        ("latency of a single 1080p photo, same machine", f"{lone:.0f} ms", "make bench"),
        (
            "eyes found: unobstructed / above a drawn mask",
            f"{100 * frontal:.1f} / {100 * masked:.1f} %",
            "python -m training evaluate-finder",
        ),
        (
            "variety of drawn faces (real faces: 1; the mean face for everybody: 0)",
            f"{variety:.2f}",
            "python -m training evaluate",
        ),
        ("size of the model file", f"{megabytes:.1f} MB", "ls -l models"),
    ]
    lines = [f"| {what} | {value} | `{how}` |" for what, value, how in rows]
    return "\n".join(["| | | measured by |", "|---|---|---|", *lines])


def _bench_median(bench: dict[str, Any], photo: str, connections: int, value: str) -> float:
    wanted = {"contender": "eye2face", "model": "cpu", "photo": photo, "connections": connections}
    return statistics.median(
        float(each[value]) for each in bench["records"] if wanted.items() <= each.items()
    )


def render_ranks() -> str:
    """The ranks of the true face in the table of docs/results.md, for some systems."""
    head, _, *rows = find_between_marks(RESULTS, "EXPERIMENT").split("\n\n")[0].splitlines()
    names = [cell.strip() for cell in head.strip("|").split("|")]
    columns = [index for index, name in enumerate(names) if name.startswith("rank")]
    found = {cells[0].strip().split(",")[0]: cells for cells in (row.strip("|").split("|") for row in rows)}
    lines = [
        f"| {meaning} (`{system}`) | " + " | ".join(found[system][index].strip() for index in columns) + " |"
        for system, meaning in RANKED.items()
    ]
    return "\n".join(["| | " + " | ".join(names[index] for index in columns) + " |", "|---|---|---|", *lines])


@cache
def openapi() -> dict[str, Any]:
    """The OpenAPI document of the service."""
    return create_app(Settings()).openapi()


def list_answered(kind: type[Eye2FaceError] = Eye2FaceError) -> Iterator[type[Eye2FaceError]]:
    """The errors that the service answers with; those that only its client raises are not among them."""
    below = [each for each in kind.__subclasses__() if each.__module__ == errors.__name__]
    if kind is Eye2FaceError or not below:
        yield kind
    for each in below:
        yield from list_answered(each)


def _cause(kind: type[Eye2FaceError]) -> str:
    if kind is Eye2FaceError:
        return "An unexpected failure; the log has the request ID."
    return re.sub(r"EYE2FACE_[A-Z0-9_]+(=\w+)?", r"`\g<0>`", str(kind.__doc__).splitlines()[0])


def get_examples(address: str) -> dict[tuple[Path, str], str]:
    """The JSON examples by document and mark, from a running service."""
    photo = encoded(astronaut(), "jpeg")
    blank = encoded(np.full((300, 400, 3), 128, np.uint8), "png")
    as_json = {"Content-Type": "image/jpeg", "Accept": "application/json"}
    with httpx.Client(base_url=address, timeout=60) as client:
        for _ in range(5):  # the first photos are slower
            client.post("/synthesize", content=photo, headers=as_json)
        files = [("image", ("a.jpg", photo)), ("image", ("b.jpg", b"not an image"))]
        answers: dict[str, Any] = {
            "POST /synthesize": client.post("/synthesize", content=photo, headers=as_json).json(),
            "POST /synthesize/batch": client.post("/synthesize/batch", files=files).json(),
            "POST /eyes": client.post("/eyes", params={"all": True}, content=photo, headers=as_json).json(),
            "POST /verify": _verify_a_face(client, photo),
            "GET /policy": client.get("/policy").json(),
            "GET /models": client.get("/models").json(),
            "GET /livez": client.get("/livez").json(),
            "GET /readyz": client.get("/readyz").json(),
            "PROBLEM": client.post("/synthesize", content=blank, headers=as_json).json(),
        }
    drawn = answers["POST /synthesize/batch"]["results"][0]
    drawn["answer"] = _select(drawn["answer"])
    answers["GET /models"]["models"] = answers["GET /models"]["models"][-1:]
    examples = {(HTTP_API, mark): render_json(shorten(answer)) for mark, answer in answers.items()}
    return examples | {(README, "JSON"): render_json(shorten(_select(answers["POST /synthesize"])))}


def _verify_a_face(client: httpx.Client, photo: bytes) -> Any:
    face = client.post("/synthesize", content=photo, headers={"Content-Type": "image/jpeg"}).content
    return client.post("/verify", content=face, headers={"Content-Type": "image/png"}).json()


def _select(answer: dict[str, Any]) -> dict[str, Any]:
    """A shortened answer."""
    return {
        **_pick(answer, "not_for_identification"),
        "faces": [{name: face[name] for name in ("image", "format", "eye")} for face in answer["faces"]],
        "model": {name: answer["model"][name] for name in ("name", "version", "licence_class")},
        "timings_ms": answer["timings_ms"],
    }


def _pick(value: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value[name] for name in names}


def shorten(value: Any) -> Any:
    """The JSON value with long strings cut off and numbers rounded."""
    if isinstance(value, dict):
        return {name: each if name == "detail" else shorten(each) for name, each in value.items()}
    if isinstance(value, list):
        return [shorten(each) for each in value]
    if isinstance(value, float):
        return round(value, 3)
    return value[: MAX_TEXT - 1] + "…" if isinstance(value, str) and len(value) > MAX_TEXT else value


def render_json(value: Any) -> str:
    """The value as JSON in a code block; objects and lists that fit on one line stand on one line."""
    return f"```json\n{_lay_out(value, width=104)}\n```"


def _lay_out(value: Any, width: int) -> str:
    flat = json.dumps(value, ensure_ascii=False)
    if len(flat) <= width or not isinstance(value, dict | list):
        return flat
    if isinstance(value, dict):
        items = [f'"{name}": {_lay_out(each, width - len(name) - 6)}' for name, each in value.items()]
    else:
        items = [_lay_out(each, width - 2) for each in value]
    inside = textwrap.indent(",\n".join(items), "  ")
    return f"{flat[0]}\n{inside}\n{flat[-1]}"


def find_between_marks(document: Path, mark: str) -> str:
    """What stands between the two marks of the document."""
    return document.read_text("utf-8").partition(f"<!-- {mark} -->\n")[2].partition(f"\n<!-- /{mark} -->")[0]


def main(arguments: list[str]) -> None:
    """Writes the tables and, if wanted, the examples."""
    texts = render_tables()
    if "--examples" in arguments:
        with run_service(eye_finder="learned") as address:
            texts |= get_examples(address)
    for (document, mark), text in texts.items():
        put_between_marks(document, mark, text)


if __name__ == "__main__":
    main(sys.argv[1:])
