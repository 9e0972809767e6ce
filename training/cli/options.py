"""What several commands share: options, and tables that are printed and put into a document."""

from pathlib import Path
from typing import Annotated

import typer

from training.markdown import put_between_marks

Into = Annotated[Path | None, typer.Option(help="Document with marks to put the table between.")]

Licence = Annotated[
    list[str] | None, typer.Option(help="Only photos under this license; may stand several times.")
]

Perceptual = Annotated[
    str,
    typer.Option(help="VGG19 weights: torchvision's file, its URL, or the folder of the two .npz archives."),
]


def show(text: str, into: Path | None, mark: str) -> None:
    """Prints a table and, if a document is named, puts it between the document's marks."""
    typer.echo(text)
    if into is not None:
        put_between_marks(into, mark, text)
