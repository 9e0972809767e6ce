"""Names that users hold stay: environment variables, commands and options, error codes, Python names.

Where one comes or goes on purpose, write the list anew: `python -m tests.test_public_names`.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeGuard

import typer

import eye2face
from service.cli.main import app as service_app
from service.settings import BridgeSettings, Settings
from training.cli.main import app as training_app

NAMES = Path(__file__).parent / "golden" / "public_names.txt"


def _public_names() -> Iterator[str]:
    for settings in (Settings, BridgeSettings):
        prefix = settings.model_config["env_prefix"]
        yield from sorted(f"{prefix}{name}".upper() for name in settings.model_fields)
    for name, app in (("eye2face", service_app), ("eye2face-train", training_app)):
        yield from _commands(name, typer.main.get_command(app))
    for name in sorted(eye2face.__all__):
        yield f"eye2face.{name}"
    codes = {(error.status, error.code) for error in vars(eye2face).values() if _is_error(error)}
    yield from (f"{status} {code}" for status, code in sorted(codes))


def _is_error(value: object) -> TypeGuard[type[eye2face.Eye2FaceError]]:
    return isinstance(value, type) and issubclass(value, eye2face.Eye2FaceError)


def _commands(name: str, command: Any) -> Iterator[str]:
    """A line for each of Click's commands: its arguments and options in order."""
    yield " ".join([name, *(each for option in command.params for each in _spellings(option))])
    for part, child in sorted(getattr(command, "commands", {}).items()):
        yield from _commands(f"{name} {part}", child)


def _spellings(option: Any) -> list[str]:
    if option.param_type_name == "argument":
        return [str(option.name).upper()]
    return [*option.opts, *option.secondary_opts]


def test_no_public_name_came_or_went_unseen() -> None:
    assert list(_public_names()) == NAMES.read_text().splitlines()


if __name__ == "__main__":
    NAMES.write_text("\n".join([*_public_names(), ""]))
