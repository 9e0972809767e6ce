"""Generates the parts of the documents that restate the code: `python -m tests.write_docs`.

- docs/configuration.md: the tables of settings
- docs/http-api.md: the table of errors, and the JSON of every route, from a service that this starts
- README.md: a shortened JSON answer of the same service

Generated text stands between <!-- NAME --> and <!-- /NAME -->. `tests/test_docs.py` fails when a table is
stale, and checks the JSON against the OpenAPI document.
"""

import json
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_origin

import httpx
import numpy as np
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from service import errors
from service.errors import Eye2FaceError
from service.settings import BridgeSettings, Settings
from tests.fakes import astronaut, encoded
from tests.running import run_service

ROOT: Final = Path(__file__).parent.parent
README: Final = ROOT / "README.md"
CONFIGURATION: Final = ROOT / "docs" / "configuration.md"
HTTP_API: Final = ROOT / "docs" / "http-api.md"

MAX_TEXT: Final = 44
"""Longest string in a JSON example; longer ones are cut off with an ellipsis."""


def render_tables() -> dict[tuple[Path, str], str]:
    """The tables by document and mark."""
    return {
        (CONFIGURATION, "SETTINGS"): render_settings(Settings),
        (CONFIGURATION, "BRIDGE SETTINGS"): render_settings(BridgeSettings),
        (HTTP_API, "ERRORS"): render_errors(),
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
    return re.sub(r"EYE2FACE_[A-Z_]+(=\w+)?", r"`\g<0>`", str(kind.__doc__).splitlines()[0])


def get_examples(address: str) -> dict[tuple[Path, str], str]:
    """The JSON examples by document and mark, from a running service."""
    photo = encoded(astronaut(), "jpeg")
    blank = encoded(np.full((300, 400, 3), 128, np.uint8), "png")
    as_json = {"Content-Type": "image/jpeg", "Accept": "application/json"}
    with httpx.Client(base_url=address, timeout=60) as client:
        files = [("image", ("a.jpg", photo)), ("image", ("b.jpg", b"not an image"))]
        answers: dict[str, Any] = {
            "POST /synthesize": client.post("/synthesize", content=photo, headers=as_json).json(),
            "POST /synthesize/batch": client.post("/synthesize/batch", files=files).json(),
            "POST /eyes": client.post("/eyes", params={"all": True}, content=photo, headers=as_json).json(),
            "GET /models": client.get("/models").json(),
            "GET /livez": client.get("/livez").json(),
            "GET /readyz": client.get("/readyz").json(),
            "PROBLEM": client.post("/synthesize", content=blank, headers=as_json).json(),
        }
    answers["GET /models"]["models"] = answers["GET /models"]["models"][-1:]
    examples = {(HTTP_API, mark): render_json(shorten(answer)) for mark, answer in answers.items()}
    return examples | {(README, "JSON"): render_json(shorten(_select(answers["POST /synthesize"])))}


def _select(answer: dict[str, Any]) -> dict[str, Any]:
    """What the README shows of an answer."""
    return {
        **_pick(answer, "not_for_identification"),
        "faces": [
            {name: face[name] for name in ("image", "format", "eye", "quality")} for face in answer["faces"]
        ],
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


def put_between_marks(document: Path, mark: str, text: str) -> None:
    """Replaces what stands between the two marks of the document."""
    before, begin, rest = document.read_text("utf-8").partition(f"<!-- {mark} -->")
    _, end, after = rest.partition(f"<!-- /{mark} -->")
    assert begin and end, f"{document} lacks the marks <!-- {mark} --> and <!-- /{mark} -->"
    document.write_text(f"{before}{begin}\n{text}\n{end}{after}", "utf-8")


def find_between_marks(document: Path, mark: str) -> str:
    """What stands between the two marks of the document."""
    return document.read_text("utf-8").partition(f"<!-- {mark} -->\n")[2].partition(f"\n<!-- /{mark} -->")[0]


def main() -> None:
    """Writes the tables and the examples."""
    with run_service(eye_finder="learned") as address:
        examples = get_examples(address)
    for (document, mark), text in (render_tables() | examples).items():
        put_between_marks(document, mark, text)


if __name__ == "__main__":
    main()
