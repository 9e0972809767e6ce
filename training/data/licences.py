"""License classes of models: who may use what learned from photos under which licenses."""

from collections.abc import Collection
from typing import Literal, cast, get_args

from training.errors import DataError

LicenceClass = Literal["research", "open"]
"""For research only, or for any use."""

OPEN = "open"
"""The license of photos that anybody may use for anything; every other name is treated as narrower."""


def check_licence_class(licence_class: str, licences: Collection[str], *, model: str) -> LicenceClass:
    """The class, if a model that learned from photos under these licenses may be of it.

    Raises:
        DataError: there is no such class, or the model is to be open and saw a photo that is not.
    """
    if licence_class not in get_args(LicenceClass):
        raise DataError(f"the license class is {licence_class!r}, expected research or open")
    others = sorted(set(licences) - {OPEN})
    if licence_class == OPEN and others:
        raise DataError(
            f"{model} learned from photos whose license is {', '.join(others)}: "
            "only a model that saw none but open ones is open"
        )
    return cast(LicenceClass, licence_class)
