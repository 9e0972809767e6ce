"""`eye2face verify`: the marks of files."""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from service.cli.streams import read_photo
from service.decoding.process_pool import open_reader
from service.folder.draw import max_photo_bytes
from service.observability.stage_timer import StageTimer
from service.pipeline import SHRINK
from service.provenance.verification import Verification, Verifier
from service.settings import Settings


def verify_files(settings: Settings, files: Sequence[Path]) -> list[Verification]:
    """The verification of each file.

    Raises:
        Eye2FaceError, OSError: a file cannot be read, or is no picture that can be used.
    """
    verifier, max_bytes = Verifier.open(settings), max_photo_bytes(settings)
    with closing(open_reader(settings, 1)) as reader:
        contents = (read_photo(file, max_bytes) for file in files)
        return [verifier.verify(each, reader(each, SHRINK, StageTimer())) for each in contents]


def render_verification(found: Verification) -> str:
    """One line: the verdict, and what it rests on."""
    mark, said = found.watermark, found.metadata
    reasons = [f"watermark {mark.score:.1f}, found from {mark.threshold:g}"]
    if said.says_synthetic:
        reasons.append(f"metadata name {said.system or 'no system'}, {said.created or 'no time'}")
    if found.signature.state != "none":
        reasons.append(f"signature {found.signature.state}")
    return f"{found.verdict} ({'; '.join(reasons)})"
