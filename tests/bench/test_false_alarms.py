"""Pictures without a watermark are told apart from one with it."""

from pathlib import Path

import pytest

from bench.false_alarms import measure, report
from service.provenance.marking import Marker
from tests.fakes import astronaut, encoded
from tests.service.provenance.test_marking import MODEL, a_face, astronaut_face

pytestmark = pytest.mark.slow


def test_false_alarms_are_counted(tmp_path: Path) -> None:
    photo, face, broken = (tmp_path / name for name in ("photo.jpg", "face.png", "broken.png"))
    photo.write_bytes(encoded(astronaut(), "jpeg"))
    face.write_bytes(Marker(MODEL).encode(a_face(astronaut_face()), "png"))
    broken.write_bytes(b"no picture")
    scores = list(measure([photo, face, broken]))
    assert [path for _, path in scores] == [photo, face]
    assert report(scores).startswith("2 pictures: 1 false alarms; highest score") and "face.png" in report(
        scores
    )
    assert report(scores[:1]).startswith("1 pictures: 0 false alarms")
