"""Which models may have the license class open."""

import pytest

from training.data.licences import check_licence_class
from training.errors import DataError


@pytest.mark.parametrize("other", ["non-commercial", "unstated", "Open", "research"])
def test_a_model_is_open_only_if_all_of_its_photos_are(other: str) -> None:
    check_licence_class("open", ["open"], model="a model")
    check_licence_class("research", ["open", other], model="a model")
    with pytest.raises(DataError, match=f"a model learned from photos whose license is {other}:"):
        check_licence_class("open", ["open", other], model="a model")
