"""Markdown tables, and where they go in a document."""

from pathlib import Path

import pytest

from training.errors import ResultsError
from training.markdown import put_between_marks, render_table


def test_a_table_has_a_head_a_rule_and_its_rows() -> None:
    assert render_table(("a", "b"), [("1", "2"), ("3", "4")]) == "| a | b |\n|---|---|\n| 1 | 2 |\n| 3 | 4 |"


def test_the_text_goes_between_the_marks_and_nowhere_else(tmp_path: Path) -> None:
    document = tmp_path / "README.md"
    document.write_text("before\n<!-- RESULTS -->\nold\n<!-- /RESULTS -->\nafter\n")
    put_between_marks(document, "RESULTS", "new")
    assert document.read_text() == "before\n<!-- RESULTS -->\nnew\n<!-- /RESULTS -->\nafter\n"


@pytest.mark.parametrize("content", ["no marks", "<!-- RESULTS -->\nnever ended"])
def test_a_document_without_marks_is_left_alone(tmp_path: Path, content: str) -> None:
    document = tmp_path / "README.md"
    document.write_text(content)
    with pytest.raises(ResultsError, match="lacks the marks"):
        put_between_marks(document, "RESULTS", "new")
    assert document.read_text() == content
