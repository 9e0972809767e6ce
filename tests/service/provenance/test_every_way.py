"""Every way in which a face leaves: routes, batches, command line; and that no other writes pictures."""

import ast
import base64
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
import pytest
from starlette.testclient import TestClient

import service
from service.cli.main import main
from service.provenance.marking import PUBLIC_SECRET
from service.provenance.signing import DIGITAL_SOURCE_TYPE
from service.provenance.watermark import WatermarkDetector
from tests.service.provenance.test_marking import pixels_of

Node = TypeVar("Node", bound=ast.AST)

DETECTOR: Final = WatermarkDetector(PUBLIC_SECRET)
JPEG: Final = {"content-type": "image/jpeg"}
FORMATS: Final = ("png", "jpeg", "webp")

ENCODE_FACES: Final = {"folder.draw", "http.responses", "http.routes.photos"}
"""Modules that let a marker write faces; all others take theirs from them."""

ENCODE_OTHER_PICTURES: Final = {"cli.doctor", "cli.main", "http.routes.photos", "provenance.signing"}
"""Modules that write photos with their eyes, or one to try out."""


def nodes(kind: type[Node]) -> Iterator[tuple[str, Node]]:
    """Each node of a kind in the service's code, and its module."""
    root = Path(service.__file__).parent
    for path in root.rglob("*.py"):
        name = ".".join(path.relative_to(root).with_suffix("").parts)
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, kind):
                yield name, node


def test_only_a_marker_writes_faces() -> None:
    called = {(module, ast.unparse(call.func)) for module, call in nodes(ast.Call)}
    writers = {
        (module, each.attr) for module, each in nodes(ast.Attribute) if "marker" in ast.dump(each.value)
    }
    encoders = {module for module, function in called if "imencode" in function}
    assert encoders == {"vision.images", "client.client"}  # photos to send
    assert {module for module, name in writers if name.startswith("encode")} == ENCODE_FACES
    plain = {module for module, function in called if function == "encode"} - {"decoding.decoder_main"}
    assert plain == {"provenance.marking", *ENCODE_OTHER_PICTURES}


def images_of(answer: dict[str, Any]) -> list[bytes]:
    """The files of one face: the default one and its further guesses."""
    (face,) = answer["faces"]
    return [base64.b64decode(each["image"]) for each in (face, *face["guesses"])]


def assert_marked(file: bytes) -> None:
    assert DIGITAL_SOURCE_TYPE.encode() in file
    assert DETECTOR.find(pixels_of(file)).is_found


@pytest.mark.parametrize("format", FORMATS)
def test_synthesize_marks(client: TestClient, photo: bytes, format: str) -> None:
    route = f"/synthesize?format={format}&guesses=3"
    for layout in ("", "&layout=grid"):
        assert_marked(client.post(f"{route}{layout}", content=photo, headers=JPEG).content)
    json = JPEG | {"accept": "application/json"}
    files = images_of(client.post(route, content=photo, headers=json).json())
    assert len(files) == 3
    for file in files:
        assert_marked(file)


@pytest.mark.parametrize("format", FORMATS)
def test_a_batch_marks(client: TestClient, photo: bytes, format: str) -> None:
    route, files = f"/synthesize/batch?format={format}&guesses=2", [("image", photo)] * 2
    answer = client.post(route, files=files).json()
    archive = client.post(route, files=files, headers={"accept": "application/zip"}).content
    with zipfile.ZipFile(io.BytesIO(archive)) as zipped:
        faces = [zipped.read(name) for name in zipped.namelist() if name != "results.json"]
    faces += [file for each in answer["results"] for file in images_of(each["answer"])]
    assert len(faces) == 8
    for face in faces:
        assert_marked(face)


def test_a_label_is_drawn_where_it_is_asked_for(client: TestClient, photo: bytes) -> None:
    plain, labeled = (
        pixels_of(client.post(f"/synthesize?label={label}", content=photo, headers=JPEG).content)
        for label in ("false", "true")
    )
    corner = np.abs(labeled[-8:, -12:].astype(int) - plain[-8:, -12:])
    assert corner.max() > 60
    route = "/synthesize/batch?label=true"
    archive = client.post(route, files=[("image", photo)], headers={"accept": "application/zip"}).content
    with zipfile.ZipFile(io.BytesIO(archive)) as zipped:
        np.testing.assert_array_equal(pixels_of(zipped.read("000.png")), labeled)
    (result,) = client.post(route, files=[("image", photo)]).json()["results"]
    file = base64.b64decode(result["answer"]["faces"][0]["image"])
    np.testing.assert_array_equal(pixels_of(file), labeled)


@pytest.mark.parametrize("format", FORMATS)
def test_the_command_line_marks(
    tmp_path: Path, model: Path, photo: bytes, format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EYE2FACE_MODEL", str(model))
    (tmp_path / "photo.jpg").write_bytes(photo)
    with pytest.raises(SystemExit) as ended:
        main(["synthesize", str(tmp_path / "photo.jpg"), "-o", str(tmp_path / "faces"), "--format", format])
    assert ended.value.code == 0
    (face,) = (tmp_path / "faces").glob("*.face.*")
    assert_marked(face.read_bytes())
