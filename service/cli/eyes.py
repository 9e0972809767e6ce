"""`eye2face eyes`: detected eyes as a table."""

from rich.table import Table

from service.pipeline import PhotoEyes


def eyes_table(found: PhotoEyes) -> Table:
    """A row for each eye."""
    table = Table("person", "side", "x", "y", "size px", "roll deg", "score", "sharpness", "light")
    for measured in found.eyes:
        eye, quality = measured.eye, measured.quality
        geometry = (f"{each:.1f}" for each in (eye.x, eye.y, eye.size_px, eye.roll_deg))
        scores = (f"{each:.2f}" for each in (eye.score, quality.sharpness, quality.light))
        table.add_row(str(eye.person), eye.side, *geometry, *scores)
    return table
