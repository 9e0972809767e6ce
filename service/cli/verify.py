"""`eye2face verify`: the marks of files."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from service.cli.streams import read_input
from service.decoding.process_pool import open_reader
from service.errors import Eye2FaceError
from service.folder.draw import max_photo_bytes
from service.observability.stage_timer import StageTimer
from service.pipeline import SHRINK
from service.provenance.verification import Verification, Verifier
from service.settings import Settings


def verify_files(
    settings: Settings, files: Sequence[Path]
) -> Iterator[tuple[Path, Verification | Eye2FaceError | OSError]]:
    """Each file and what was found of it, or why it cannot be read.

    Raises:
        Eye2FaceError: no file can be verified.
    """
    verifier, max_bytes = Verifier.open(settings), max_photo_bytes(settings)
    with closing(open_reader(settings, 1)) as reader:
        for file in files:
            try:
                picture = read_input(file, max_bytes)
                yield file, verifier.verify(picture, reader(picture, SHRINK, StageTimer()))
            except (Eye2FaceError, OSError) as error:
                yield file, error


def render_verification(found: Verification) -> str:
    """One line: the verdict, and what it rests on."""
    mark, said = found.watermark, found.metadata
    reasons = [f"watermark {mark.score:.1f}, threshold {mark.threshold:g}"]
    if said.says_synthetic:
        reasons.append(f"metadata: {said.system or 'no system'}, {said.created or 'no time'}")
    if found.signature.state != "none":
        reasons.append(f"signature {found.signature.state}")
    return f"{found.verdict} ({'; '.join(reasons)})"
