"""License classes of models: who may use what learned from photos under which licenses."""

from collections.abc import Collection

from service.inference.onnx_metadata import LicenceClass
from training.errors import DataError

OPEN = "open"
"""The license of photos that anybody may use for anything; every other name is treated as narrower."""


def check_licence_class(licence_class: LicenceClass, licences: Collection[str], *, model: str) -> None:
    """Checks that a model that learned from photos under these licenses may be of the class.

    Raises:
        DataError: the model is to be open and saw a photo that is not.
    """
    others = sorted(set(licences) - {OPEN})
    if licence_class == OPEN and others:
        raise DataError(
            f"{model} learned from photos whose license is {', '.join(others)}: "
            "only a model that saw none but open ones is open"
        )
