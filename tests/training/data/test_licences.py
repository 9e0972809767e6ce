"""Which models may have the license class open."""

import pytest

from training.data.licences import check_licence_class
from training.errors import DataError


@pytest.mark.parametrize("name", ["Open", "OPEN", "open ", "apache-2.0", "", "Research"])
def test_a_class_that_is_neither_research_nor_open_is_refused(name: str) -> None:
    with pytest.raises(DataError, match="expected research or open"):
        check_licence_class(name, ["open"], model="a model")


@pytest.mark.parametrize("other", ["non-commercial", "unstated", "Open", "research"])
def test_a_model_is_open_only_if_all_of_its_photos_are(other: str) -> None:
    assert check_licence_class("open", ["open"], model="a model") == "open"
    assert check_licence_class("research", ["open", other], model="a model") == "research"
    with pytest.raises(DataError, match=f"a model learned from photos whose license is {other}:"):
        check_licence_class("open", ["open", other], model="a model")
