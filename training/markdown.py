"""Markdown: tables, and the marks of a document that they are written between."""

from collections.abc import Iterable
from pathlib import Path

from training.errors import ResultsError


def render_table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table with these headings."""
    head = list(head)
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, *rows)]
    return "\n".join([lines[0], "|---" * len(head) + "|", *lines[1:]])


def put_between_marks(document: Path, mark: str, text: str) -> None:
    """Replaces what stands between <!-- MARK --> and <!-- /MARK --> of the document.

    Raises:
        ResultsError: the document lacks a mark.
    """
    before, begin, rest = document.read_text(encoding="utf-8").partition(f"<!-- {mark} -->")
    _, end, after = rest.partition(f"<!-- /{mark} -->")
    if not begin or not end:
        raise ResultsError(f"{document} lacks the marks <!-- {mark} --> and <!-- /{mark} -->")
    document.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")
