"""`eye2face eyes`: the detected eyes as a table, or as JSON like the answer of POST /eyes."""

from dataclasses import asdict
from typing import Any

from rich.table import Table

from service.pipeline import PhotoEyes


def eyes_table(found: PhotoEyes) -> Table:
    """A row for each eye."""
    table = Table("person", "side", "x", "y", "size px", "roll °", "score", "sharpness", "light")
    for measured in found.eyes:
        eye, quality = measured.eye, measured.quality
        geometry = (f"{each:.1f}" for each in (eye.x, eye.y, eye.size_px, eye.roll_deg))
        scores = (f"{each:.2f}" for each in (eye.score, quality.sharpness, quality.light))
        table.add_row(str(eye.person), eye.side, *geometry, *scores)
    return table


def eyes_json(found: PhotoEyes, *, all: bool) -> dict[str, Any]:
    """The answer of POST /eyes; with `all` the eyes below the threshold, too, if the finder reports them."""
    eyes = [asdict(measured.eye) | {"quality": asdict(measured.quality)} for measured in found.eyes]
    answer: dict[str, Any] = {"width": found.width, "height": found.height, "eyes": eyes}
    if all and found.below_threshold is not None:
        below = [asdict(eye) for eye in found.below_threshold]
        answer["below_threshold"] = [{k: v for k, v in eye.items() if k != "person"} for eye in below]
    return answer
