import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from service.errors import SigningFailed
from service.http.app import create_app
from service.provenance.marking import Marker
from service.provenance.signing import DIGITAL_SOURCE_TYPE, C2paReader, C2paSigner, describe_face
from service.provenance.verification import Verdict, Verifier
from service.settings import ConfigurationError, Settings
from service.vision.images import FaceFormat, encode
from tests.certificates import certify, certify_signer
from tests.fakes import astronaut, encoded
from tests.service.damaged_marks import count_verdicts
from tests.service.provenance.test_marking import (
    FORMATS,
    MODEL,
    SECRET,
    a_face,
    astronaut_face,
    pixels_of,
    xmp_of,
)

c2pa = pytest.importorskip("c2pa")


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    return certify_signer(tmp_path_factory.mktemp("ours"), "ours")


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    return certify_signer(tmp_path_factory.mktemp("theirs"), "theirs")


def sign(certificate: tuple[Path, Path, Path], format: FaceFormat = "png", secret: bytes = SECRET) -> bytes:
    chain, key, _ = certificate
    marker = Marker(MODEL, secret=secret, signer=C2paSigner(chain, key))
    return marker.encode(a_face(astronaut_face()), format)


def judge(file: bytes, root: Path | None, secret: bytes = SECRET) -> Verdict:
    return Verifier(secret, C2paReader(root)).verify(file, pixels_of(file)).verdict


def cut_manifest(file: bytes) -> bytes:
    """The chunk of a PNG that holds the manifest."""
    at = file.index(b"caBX") - 4
    return file[at : at + 12 + int.from_bytes(file[at : at + 4], "big")]


@pytest.mark.parametrize("format", FORMATS)
def test_a_signed_face_is_signed_here_where_its_root_is_trusted(
    ours: Any, theirs: Any, format: FaceFormat
) -> None:
    file = sign(ours, format)
    assert judge(file, ours[2]) == "signed_here"
    assert C2paReader(theirs[2]).read(file) == C2paReader().read(file) == "valid"
    assert judge(file, theirs[2]) == judge(file, None) == "bears_our_mark"
    assert DIGITAL_SOURCE_TYPE in xmp_of(file, format)
    unsigned = Marker(MODEL, secret=SECRET).encode(a_face(astronaut_face()), format)
    assert len(file) - len(unsigned) < 4096
    np.testing.assert_array_equal(pixels_of(file), pixels_of(unsigned))


def test_the_manifest_says_what_made_the_face_and_when(ours: Any) -> None:
    with c2pa.Reader("image/png", io.BytesIO(sign(ours))) as reader:
        document = json.loads(reader.json())
    manifest = document["manifests"][document["active_manifest"]]
    (actions,) = [each["data"] for each in manifest["assertions"] if each["label"].startswith("c2pa.actions")]
    (action,) = actions["actions"]
    assert (action["action"], action["digitalSourceType"]) == ("c2pa.created", DIGITAL_SOURCE_TYPE)
    assert action["softwareAgent"] == {"name": f"eye2face {MODEL.name}", "version": MODEL.version}
    assert action["when"].startswith("20")
    assert "thumbnail" not in manifest


def test_changed_pixels_are_tampered_with(ours: Any, theirs: Any) -> None:
    file = bytearray(sign(ours, "webp"))
    at = file.index(b"VP8 ") + 300
    file[at] ^= 1
    assert judge(bytes(file), ours[2]) == judge(bytes(file), theirs[2]) == "tampered"


def test_a_manifest_on_another_picture_is_tampered_with(ours: Any) -> None:
    photo = encode(astronaut(), "png")
    forged = photo[:33] + cut_manifest(sign(ours)) + photo[33:]
    found = Verifier(SECRET, C2paReader(ours[2])).verify(forged, astronaut())
    assert (found.verdict, found.signature.confidence) == ("tampered", "weak")


def test_another_certificate_proves_nothing(ours: Any, theirs: Any) -> None:
    assert judge(sign(theirs, secret=b"another"), ours[2]) == "claims_to_be_synthetic"


def test_without_its_manifest_a_face_bears_our_mark(ours: Any) -> None:
    file = sign(ours)
    assert judge(file.replace(cut_manifest(file), b""), ours[2]) == "bears_our_mark"


def test_a_photo_has_no_manifest_and_one_in_a_bmp_is_not_checked(ours: Any) -> None:
    assert C2paReader(ours[2]).read(encoded(astronaut())) == "none"
    assert C2paReader(ours[2]).read(encoded(astronaut()) + b"jumdc2pa") == "none"
    assert C2paReader(ours[2]).read(encoded(astronaut(), "bmp") + b"jumdc2pa") == "unchecked"


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, 10**6), junk=st.binary(min_size=1, max_size=40))
def test_a_damaged_manifest_has_a_state(ours: Any, at: int, junk: bytes) -> None:
    for format in FORMATS:
        file = sign(ours, format) if (format, ours) not in _SIGNED else _SIGNED[format, ours]
        _SIGNED[format, ours] = file
        place = at % len(file)
        damaged = file[:place] + junk + file[place + len(junk) :]
        assert C2paReader(ours[2]).read(damaged) in ("none", "unchecked", "invalid", "trusted")


_SIGNED: dict[Any, bytes] = {}


def test_damaged_faces_get_a_verdict_or_an_error_of_the_sender_and_nothing_is_fetched(tmp_path: Path) -> None:
    told = count_verdicts(60, tmp_path)
    assert not any(code.startswith("5") for code in told["verdicts"]), told
    assert not told["fetched"]


@pytest.mark.parametrize("spoil", [
    lambda chain, key, other: (other, key),
    lambda chain, key, other: (chain, other),
    lambda chain, key, other: (key, chain),
    lambda chain, key, other: (chain, chain.with_name("gone")),
], ids=["not a certificate", "not a key", "swapped", "gone"])  # fmt: skip
def test_files_that_cannot_sign_are_a_mistake_of_the_settings(
    ours: Any, tmp_path: Path, spoil: Callable[..., tuple[Path, Path]]
) -> None:
    (tmp_path / "text").write_text("no PEM")
    chain, key = spoil(*ours[:2], tmp_path / "text")
    with pytest.raises(ConfigurationError, match=r"cannot sign|cannot be read"):
        Marker.open(Settings(c2pa_cert_file=chain, c2pa_key_file=key), MODEL)


def test_a_certificate_for_tls_cannot_sign(tmp_path: Path) -> None:
    chain, key = certify(tmp_path, "tls")
    with pytest.raises(ConfigurationError, match="cannot sign"):
        C2paSigner(chain, key)


def test_roots_that_are_none_are_a_mistake_of_the_settings(tmp_path: Path) -> None:
    (tmp_path / "roots").write_text("no PEM")
    with pytest.raises(ConfigurationError, match="C2PA_TRUST_FILE"):
        Verifier.open(Settings(c2pa_trust_file=tmp_path / "roots"))


def test_a_certificate_and_its_key_need_each_other(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="need each other"):
        Settings(c2pa_cert_file=tmp_path)


def test_a_face_that_cannot_be_signed_is_an_error_of_ours(ours: Any) -> None:
    with pytest.raises(SigningFailed, match="cannot be signed"):
        C2paSigner(*ours[:2]).sign(b"no picture", "png", describe_face("a", "1", "2026-01-01T00:00:00Z"))


def test_the_service_signs_and_says_so(ours: Any, model: Path, photo: bytes) -> None:
    chain, key, root = ours
    files = {"c2pa_cert_file": chain, "c2pa_key_file": key, "c2pa_trust_file": root}
    signing = Settings(model=str(model), device="cpu", **files)
    with TestClient(create_app(signing)) as client:
        assert client.get("/readyz").json()["signed"] is True
        face = client.post("/synthesize", content=photo, headers={"content-type": "image/jpeg"}).content
        found = client.post("/verify", content=face, headers={"content-type": "image/png"}).json()
    assert (found["verdict"], found["signature"]) == (
        "signed_here",
        {"state": "trusted", "confidence": "proof"},
    )
