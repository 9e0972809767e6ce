"""The Open Inference Protocol as its clients speak it: Triton's own client, and plain requests."""

import base64
import hashlib
import io
import json
import struct
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import PIL.Image
import pytest
from starlette.testclient import TestClient

from service.http.app import create_app
from service.settings import Settings
from tests.fakes import astronaut, encoded, failing_model, pixels_of
from tests.service.shapes import check_standard_headers

with warnings.catch_warnings(action="ignore"):
    from tritonclient import http as triton
    from tritonclient.utils import InferenceServerException

INFER = "/v2/models/tiny/infer"
KEY = "open sesame"


@pytest.fixture
def theirs(address: str) -> Iterator[Any]:
    """Triton's client of a real service."""
    with triton.InferenceServerClient(address.removeprefix("http://")) as client:
        yield client


def image(*files: bytes | str, binary: bool = True) -> Any:
    tensor = triton.InferInput("image", [len(files)], "BYTES")
    return tensor.set_data_from_numpy(np.array(files, np.object_), binary_data=binary)


def in_json(*files: bytes, **more: object) -> dict[str, Any]:
    data = [base64.b64encode(each).decode() for each in files]
    return {
        "inputs": [{"name": "image", "datatype": "BYTES", "shape": [len(files)], "data": data}],
        **more,
    }


def check_error(answer: Any, status: int, code: str) -> str:
    """Asserts the protocol's shape of errors, and returns the detail."""
    assert answer.status_code == status, answer.text[:1000]
    assert answer.headers["content-type"] == "application/json"
    check_standard_headers(answer)
    assert set(answer.json()) == {"error"}
    found, _, detail = answer.json()["error"].partition(": ")
    assert found == code and detail
    return str(detail)


def test_tritons_client_asks_for_health_and_metadata(theirs: Any) -> None:
    assert theirs.is_server_live() and theirs.is_server_ready()
    assert theirs.is_model_ready("tiny") and theirs.is_model_ready("tiny", "0.0.1")
    assert not theirs.is_model_ready("other") and not theirs.is_model_ready("tiny", "2")
    server = theirs.get_server_metadata()
    assert server["name"] == "eye2face" and server["extensions"] == ["binary_tensor_data"]
    tensor = {"datatype": "BYTES", "shape": [-1]}
    for version in ("", "0.0.1"):
        assert theirs.get_model_metadata("tiny", version) == {
            "name": "tiny", "versions": ["0.0.1"], "platform": "onnxruntime_onnx",
            "inputs": [{"name": "image"} | tensor],
            "outputs": [{"name": "face"} | tensor, {"name": "result"} | tensor],
        }  # fmt: skip


def test_tritons_client_gets_the_face_and_the_answer_of_synthesize(
    theirs: Any, address: str, photo: bytes
) -> None:
    as_jpeg = {"content-type": "image/jpeg"}
    url = f"{address}/synthesize?eye=left&format=jpeg"
    answer = httpx.post(url, content=photo, headers=as_jpeg | {"accept": "application/json"}).json()
    known = theirs.infer(
        "tiny",
        [image(photo)],
        request_id="42",
        parameters={"eye": "left", "format": "jpeg"},
        timeout=9_000_000,
    )
    assert (
        known.get_response().items() >= {"id": "42", "model_name": "tiny", "model_version": "0.0.1"}.items()
    )
    result = json.loads(known.as_numpy("result")[0])
    assert set(result) == set(answer)
    drawn, expected = result["faces"][0], answer["faces"][0]
    (face,) = known.as_numpy("face")
    assert face == base64.b64decode(drawn.pop("image")) and face.startswith(b"\xff\xd8")
    assert expected.pop("image") and drawn == expected


@pytest.mark.parametrize("outputs", [("face",), ("result", "face")])
def test_tritons_client_gets_guesses_after_the_default_face(
    theirs: Any, address: str, photo: bytes, outputs: tuple[str, ...]
) -> None:
    url = f"{address}/synthesize?guesses=3&seed=5"
    answer = httpx.post(
        url, content=photo, headers={"accept": "application/json", "content-type": "image/jpeg"}
    )
    (expected,) = answer.json()["faces"]
    wanted = [triton.InferRequestedOutput(name) for name in outputs]
    got = theirs.infer("tiny", [image(photo, photo)], outputs=wanted, parameters={"guesses": 3, "seed": 5})
    files = [base64.b64decode(each["image"]) for each in (expected, *expected["guesses"])]
    assert [*map(pixels_of, got.as_numpy("face"))] == [*map(pixels_of, files)] * 2
    if "result" in outputs:
        (face,) = json.loads(got.as_numpy("result")[0])["faces"]
        assert [each["guess"] for each in face["guesses"]] == [1, 2] and face["spread"] == expected["spread"]


@pytest.mark.parametrize("binary", [False, True])
def test_tritons_client_sends_and_gets_either_form(theirs: Any, photo: bytes, binary: bool) -> None:
    sent = image(base64.b64encode(photo).decode(), binary=False)
    wanted = [triton.InferRequestedOutput(name, binary_data=binary) for name in ("result", "face")]
    got = theirs.infer("tiny", [sent], "0.0.1", outputs=wanted)
    assert [each["name"] for each in got.get_response()["outputs"]] == ["result", "face"]
    (face,), (result,) = got.as_numpy("face"), got.as_numpy("result")
    assert json.loads(result)["faces"][0]["image"] == (base64.b64encode(face).decode() if binary else face)
    assert "id" not in got.get_response()


def test_tritons_client_sends_in_the_background(theirs: Any, photo: bytes) -> None:
    sent = [theirs.async_infer("tiny", [image(photo)]) for _ in range(3)]
    assert all(each.get_result().as_numpy("face").shape == (1,) for each in sent)


def test_several_images_give_their_faces_in_order(client: TestClient, photo: bytes) -> None:
    got = client.post(INFER, json=in_json(photo, photo, parameters={"person": "all"}))
    face, result = got.json()["outputs"]
    assert face["shape"] == result["shape"] == [2]
    answers = [json.loads(each) for each in result["data"]]
    assert [each["faces"][0]["image"] for each in answers] == face["data"]
    assert got.headers["x-device"] == "cpu" and got.headers["content-type"] == "application/json"
    assert "inference-header-content-length" not in got.headers


def test_one_image_that_fails_is_named(client: TestClient, photo: bytes) -> None:
    black = encoded(np.zeros((60, 60, 3), np.uint8))
    got = client.post(INFER, json=in_json(photo, black, photo))
    assert check_error(got, 422, "no_eye_found").startswith("Element 1: ")


def test_everybody_in_an_image_is_in_both_outputs(client: TestClient) -> None:
    two = encoded(np.concatenate([astronaut(), astronaut()], axis=1), "jpeg")
    face, result = client.post(INFER, json=in_json(two, parameters={"person": "all"})).json()["outputs"]
    assert face["shape"] == [2] and result["shape"] == [1]


def test_the_face_alone_has_the_pixels_of_both(client: TestClient, photo: bytes) -> None:
    alone = client.post(INFER, json=in_json(photo, outputs=[{"name": "face"}])).json()["outputs"]
    both = client.post(INFER, json=in_json(photo)).json()["outputs"]
    assert [each["name"] for each in alone] == ["face"]
    files = [io.BytesIO(base64.b64decode(each["data"][0])) for each in (alone[0], both[0])]
    assert len({PIL.Image.open(file).tobytes() for file in files}) == 1


def test_errors_are_those_of_the_other_routes_in_the_protocols_shape(client: TestClient) -> None:
    black = encoded(np.zeros((60, 60, 3), np.uint8))
    check_error(client.post(INFER, json=in_json(black)), 422, "no_eye_found")
    check_error(client.post(INFER, json=in_json(b"no image")), 415, "not_an_image")
    check_error(client.post(INFER, json=in_json(b"")), 400, "empty_body")
    check_error(client.post(INFER), 400, "empty_body")
    check_error(client.post(INFER, content=b"{"), 400, "invalid_json")
    check_error(
        client.post(INFER, content=b"x", headers={"content-encoding": "gzip"}), 415, "unsupported_media_type"
    )
    check_error(client.post(INFER, json=in_json(black, parameters={"eye": "up"})), 422, "invalid_parameter")
    late = client.post(INFER, json=in_json(black, parameters={"timeout": 1}))
    check_error(late, 504, "deadline_exceeded")
    check_error(
        client.post(INFER, json=in_json(black), headers={"x-deadline-ms": "0"}), 422, "invalid_parameter"
    )
    check_error(client.get(INFER), 405, "method_not_allowed")
    for path in ("/v2/", "/v2/models", "/v2/models/tiny/config", "/v2/repository/index"):
        check_error(client.get(path), 404, "not_found")
    assert client.get("/v2x").headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("name", ["layout", "top_k"])
def test_parameters_that_the_service_does_not_have_are_refused_by_name(
    theirs: Any, photo: bytes, name: str
) -> None:
    with pytest.raises(InferenceServerException, match=f"invalid_parameter: There is no parameter '{name}'"):
        theirs.infer("tiny", [image(photo)], parameters={name: 1})


def test_options_in_the_query_are_refused(client: TestClient, photo: bytes) -> None:
    got = client.post(f"{INFER}?eye=left", json=in_json(photo))
    assert "'parameters'" in check_error(got, 422, "invalid_parameter")


@pytest.mark.parametrize("path", ["other", "tiny/versions/2", "TINY"])
def test_another_model_is_not_found(client: TestClient, photo: bytes, path: str) -> None:
    for answer in (
        client.get(f"/v2/models/{path}"),
        client.get(f"/v2/models/{path}/ready"),
        client.post(f"/v2/models/{path}/infer", json=in_json(photo)),
    ):
        assert "there is 'tiny' of version '0.0.1'" in check_error(answer, 404, "not_found")


def test_before_the_start_only_life_is_told() -> None:
    client = TestClient(create_app(Settings()))
    assert client.get("/v2/health/live").json() == {"live": True}
    for path in ("/v2/health/ready", "/v2/models/synthesizer", "/v2/models/synthesizer/ready"):
        check_error(client.get(path), 503, "not_ready")
    check_error(client.post("/v2/models/synthesizer/infer", content=b"{}"), 503, "not_ready")


def test_a_model_that_fails_is_not_ready(tmp_path: Path) -> None:
    failing = failing_model(tmp_path / "m.onnx")
    settings = Settings(model=str(failing), device="cpu", eye_finder="haar", min_eye_sharpness=0)
    with TestClient(create_app(settings)) as client:
        assert client.get("/v2/health/ready").json() == {"ready": True}
        assert client.get("/v2/models/failing/ready").status_code == 404
        white = encoded(np.full((60, 60, 3), 255, np.uint8))
        for path in ("/v2/health/ready", "/v2/models/tiny/ready"):
            for _ in range(3):
                failed = client.post(INFER, json=in_json(white, parameters={"input": "eye"}))
                check_error(failed, 503, "inference_failed")
            check_error(client.get(path), 503, "not_ready")


def test_keys_and_limits_are_those_of_the_other_routes(model: Path, photo: bytes) -> None:
    settings = Settings(
        model=str(model), device="cpu", api_keys=(hashlib.sha256(KEY.encode()).hexdigest(),),
        max_requests_per_minute=3, max_upload_bytes=200_000, max_batch_photos=2,
    )  # fmt: skip
    with TestClient(create_app(settings)) as client:
        assert client.get("/v2/health/live").status_code == client.get("/v2/health/ready").status_code == 200
        for path in ("/v2", "/v2/models/tiny", "/v2/models/tiny/ready"):
            check_error(client.get(path), 401, "unauthorized")
        refused = client.post(INFER, json=in_json(photo))
        check_error(refused, 401, "unauthorized")
        assert refused.headers["www-authenticate"] == "Bearer"
        client.headers["x-api-key"] = KEY
        assert client.get("/v2/models/tiny").status_code == 200
        check_error(client.post(INFER, content=bytes(200_001)), 413, "upload_too_large")
        assert client.post(INFER, json=in_json(photo, photo)).status_code == 200  # counts as two
        limited = client.post(INFER, json=in_json(photo))
        check_error(limited, 429, "rate_limited")
        assert int(limited.headers["retry-after"]) > 0


def test_too_many_images_are_refused(model: Path, photo: bytes) -> None:
    with TestClient(create_app(Settings(model=str(model), device="cpu", max_batch_photos=2))) as client:
        answer = client.post(INFER, json=in_json(photo, photo, photo))
        assert "more than 2 elements" in check_error(answer, 422, "invalid_parameter")


def in_binary(photo: bytes, **more: object) -> tuple[bytes, dict[str, str]]:
    """The body of a request, and its header."""
    data = struct.pack("<I", len(photo)) + photo
    sent = {"name": "image", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": len(data)}}
    told = json.dumps({"inputs": [sent], **more}).encode()
    return told + data, {"inference-header-content-length": str(len(told))}


def test_the_body_and_what_is_read_from_it_are_counted(model: Path, photo: bytes) -> None:
    app = create_app(Settings(model=str(model), device="cpu"))
    body, length = in_binary(photo)
    app.state.uploads.most = app.state.uploads.large = len(body) * 3 // 2
    app.state.uploads.num_held = 1  # of another request
    with TestClient(app) as client:
        check_error(client.post(INFER, content=body, headers=length), 503, "overloaded")
        app.state.uploads.most *= 2
        assert client.post(INFER, content=body, headers=length).status_code == 200
    assert app.state.uploads.num_held == 1


def test_a_binary_answer_says_where_its_json_ends(client: TestClient, photo: bytes) -> None:
    body, length = in_binary(photo, outputs=[{"name": "face", "parameters": {"binary_data": True}}])
    got = client.post(INFER, content=body, headers=length)
    assert got.headers["content-type"] == "application/octet-stream"
    end = int(got.headers["inference-header-content-length"])
    (output,) = json.loads(got.content[:end])["outputs"]
    assert output["parameters"]["binary_data_size"] == len(got.content) - end
    assert got.content[end + 4 :].startswith(b"\x89PNG")


def test_what_is_drawn_of_several_images_is_counted_while_the_others_are_awaited(client: TestClient) -> None:
    eye, limit = encoded(np.ascontiguousarray(astronaut()[90:112, 190:216])), client.app.state.uploads  # type: ignore[attr-defined]
    options = {"parameters": {"input": "eye", "guesses": 16}}
    alone = client.post(INFER, json=in_json(eye, **options))
    before = limit.most, limit.large
    try:
        limit.most = limit.large = len(alone.content) * 3 // 2
        limit.num_held = 1  # of another request
        refused = client.post(INFER, json=in_json(*[eye] * 4, **options))
    finally:
        (limit.most, limit.large), limit.num_held = before, 0
    assert check_error(refused, 503, "overloaded").startswith("Element ")
