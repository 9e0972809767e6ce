"""Writes the pictures of the page: `python -m tests.page_examples`, an astronaut and faces of nobody.

The astronaut is NASA's, in the public domain. The faces were drawn by the shipped model, from an eye of the
astronaut (`face.jpg`, and its eye `eye.jpg`) and from eyes of people who were drawn by code.
"""

from itertools import islice
from pathlib import Path
from typing import Final

from service.engine.engine import Engine
from service.http.pages import WEB
from service.observability.metrics import Metrics
from service.pipeline import Face, Pipeline
from service.provenance.marking import Marker
from service.selection import SynthesisOptions
from service.settings import Settings
from service.vision.eyes import Side, crop_eye
from tests.drawn_faces import draw_photos
from tests.fakes import astronaut, encoded

FOLDER: Final = WEB / "examples"

_DRAWN: Final = {"drawn-1.jpg": 8, "drawn-2.jpg": 3}
"""Which of `draw_photos` each example comes from."""


def write_examples(folder: Path) -> None:
    """Writes the pictures that the page offers and those of its first screen."""
    engine = Engine(Settings(device="cpu"), Metrics())
    try:
        model = engine.model.current
        pipeline, marker = model.pipeline, Marker(model.synthesizer.info)
        photo = encoded(astronaut(), "jpeg", quality=60)
        face = _draw(pipeline, photo)
        (folder / "astronaut.jpg").write_bytes(photo)
        (folder / "face.jpg").write_bytes(marker.encode(face, "jpeg", label=True))
        (folder / "eye.jpg").write_bytes(encoded(crop_eye(astronaut(), face.eye, 96), "jpeg", quality=90))
        for name, index in _DRAWN.items():
            (drawn,) = islice(draw_photos(index + 1, seed=3), index, None)
            first = _draw(pipeline, encoded(drawn.pixels))
            again = _draw(pipeline, encoded(first.pixels), "left")
            (folder / name).write_bytes(marker.encode(again, "jpeg", label=True))
    finally:
        engine.close()


def _draw(pipeline: Pipeline, photo: bytes, eye: Side = "right") -> Face:
    return pipeline.synthesize(photo, SynthesisOptions(eye=eye)).faces[0]


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    write_examples(FOLDER)
