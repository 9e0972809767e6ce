import io
import re
import time
from typing import Any

import numpy as np
import PIL.Image
import pytest

from service.provenance.marking import PUBLIC_SECRET, Marker
from service.provenance.verification import Verification, Verifier
from tests.fakes import astronaut, encoded
from tests.service.provenance.test_marking import MODEL, SECRET, a_face, astronaut_face, pixels_of

FORMATS = ("png", "jpeg", "webp")
CLAIM = b"http://cv.iptc.org/newscodes/digitalsourcetype/"


def face_file(secret: bytes = SECRET, **options: Any) -> bytes:
    return Marker(MODEL, secret=secret, **options).encode(a_face(astronaut_face()), "png")


def verify(file: bytes, secret: bytes = SECRET) -> Verification:
    return Verifier(secret).verify(file, pixels_of(file))


def stripped(file: bytes, format: str = "png", **options: Any) -> bytes:
    out = io.BytesIO()
    PIL.Image.open(io.BytesIO(file)).save(out, format, **options)
    return out.getvalue()


def test_a_face_of_ours_bears_our_mark_and_says_what_made_it() -> None:
    found = verify(face_file())
    assert found.verdict == "bears_our_mark"
    assert (found.watermark.found, found.watermark.confidence) == (True, "strong")
    assert found.watermark.score > found.watermark.threshold
    said = found.metadata
    assert (said.says_synthetic, said.system, said.confidence) == (True, f"eye2face {MODEL.name}", "weak")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", said.created or "")
    assert re.fullmatch(r"urn:uuid:[0-9a-f-]{36}", said.id or "")
    assert (found.signature.state, found.signature.confidence) == ("none", "none")


@pytest.mark.parametrize("format", FORMATS)
def test_without_its_metadata_and_encoded_again_it_still_bears_our_mark(format: str) -> None:
    found = verify(stripped(face_file(), format, quality=60))
    assert (found.verdict, found.metadata.says_synthetic) == ("bears_our_mark", False)
    assert (found.metadata.system, found.metadata.confidence) == (None, "none")


def test_a_face_of_another_deployment_claims_to_be_synthetic() -> None:
    found = verify(face_file(secret=b"another"))
    assert found.verdict == "claims_to_be_synthetic"
    assert (found.watermark.found, found.watermark.confidence) == (False, "none")


def test_a_watermark_that_anybody_can_write_is_weak() -> None:
    found = verify(face_file(secret=PUBLIC_SECRET), PUBLIC_SECRET)
    assert (found.verdict, found.watermark.confidence) == ("bears_our_mark", "weak")


def test_a_photograph_bears_nothing() -> None:
    found = verify(encoded(astronaut()))
    assert found.verdict == "nothing_found"
    assert not found.metadata.says_synthetic


@pytest.mark.parametrize(
    "claim",
    [
        CLAIM + b"trainedAlgorithmicMedia",
        CLAIM + b"compositeWithTrainedAlgorithmicMedia",
        b'<TC260:AIGC>{"Label":"1","ContentProducer":"x"}',
        b"TC260:AIGC='{&quot;Label&quot;: &quot;1&quot;}'",
        b'{"AIGC":{"Label":"1"}}',
    ],
)
def test_pictures_of_other_systems_claim_to_be_synthetic(claim: bytes) -> None:
    file = encoded(astronaut())
    assert Verifier(SECRET).verify(file + claim, astronaut()).verdict == "claims_to_be_synthetic"


@pytest.mark.parametrize(
    "text", [CLAIM + b"digitalCapture", b'AIGC{"Label":"2"}', b"AIGC" + b" " * 50 + b"Label:1"]
)
def test_other_metadata_claim_nothing(text: bytes) -> None:
    assert Verifier(SECRET).verify(encoded(astronaut()) + text, astronaut()).verdict == "nothing_found"


@pytest.mark.parametrize(
    "text",
    [
        b"AIGC" * 2_000_000,
        b"AIGCLabel: " * 700_000,
        b"AIGC" * 9 + b"Label" + b" " * 8_000_000,
        CLAIM * 160_000,
        CLAIM + b"trainedAlgorithmicMedia " + b":AISystemUsed" * 600_000,
    ],
)
def test_texts_that_are_almost_claims_keep_nobody_waiting(text: bytes) -> None:
    verifier, picture = Verifier(SECRET), np.zeros((16, 16, 3), np.uint8)
    begin = time.thread_time()
    verifier.verify(text, picture)
    assert time.thread_time() - begin < 2  # unbounded, they take 14 s and more


def test_attributes_are_read_as_elements_are_and_texts_are_short() -> None:
    text = b'photoshop:AISystemUsed="A &amp; B \xff" ' + b"<xmp:CreateDate>" + b"9" * 400 + b"<"
    said = Verifier().verify(CLAIM + b"trainedAlgorithmicMedia " + text, astronaut()).metadata
    assert (said.system, said.created) == ("A & B \ufffd", "9" * 300)


def test_a_manifest_that_is_not_checked_is_told() -> None:
    found = Verifier().verify(encoded(astronaut(), "bmp") + b"jumdc2pa", astronaut())
    assert (found.verdict, found.signature.state) == ("nothing_found", "unchecked")
