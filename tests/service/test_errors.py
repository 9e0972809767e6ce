"""The tree of errors: its branches in the docstring, unique codes and titles."""

import re
from collections.abc import Iterator

from service import errors
from service.errors import Eye2FaceError


def tree(error: type[Eye2FaceError], depth: int = 0) -> Iterator[tuple[type[Eye2FaceError], int]]:
    yield error, depth
    for child in error.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from tree(child, depth + 1)


ALL = [error for error, _ in tree(Eye2FaceError)]
LEAVES = [error for error in ALL if len(list(tree(error))) == 1]


def test_the_branches_in_the_docstring_are_those_of_the_tree() -> None:
    drawn = re.findall(r"^ {4}([│ ├└─]*)(\w+)", (errors.__doc__ or "").split("\n\n")[1], re.MULTILINE)
    branches = [(depth, error.__name__) for error, depth in tree(Eye2FaceError) if error not in LEAVES]
    assert [(len(indent) // 4, name) for indent, name in drawn] == branches


def test_every_error_has_a_code_and_a_title_of_its_own() -> None:
    for error in ALL:
        assert re.fullmatch(r"[a-z_]+", error.code)
        assert [other for other in ALL if other.code == error.code] == [error]
        assert [other for other in ALL if other.title == error.title] == [error]
        assert 400 <= error.status < 600


def test_only_the_service_itself_fails_with_a_500() -> None:
    assert [error for error in ALL if error.status == 500] == [Eye2FaceError]
