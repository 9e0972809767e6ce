"""Several photos in one request: mixed outcomes in their order, as JSON and as a zip, within its limits."""

import base64
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from starlette.testclient import TestClient

from service.engine.worker_pool import WorkerPool
from service.errors import Overloaded
from service.http.app import create_app
from service.http.schemas import BatchAnswer
from service.pipeline import Pipeline
from service.settings import Settings
from tests.fakes import astronaut, encoded, pixels_of
from tests.service.shapes import check_problem, check_standard_headers

GRAY = encoded(np.full((100, 100, 3), 128, np.uint8))


def send(client: TestClient, *photos: bytes, query: str = "", accept: str = "*/*", **headers: str) -> Any:
    files = [("image", (f"{index}.jpg", photo, "image/jpeg")) for index, photo in enumerate(photos)]
    return client.post("/synthesize/batch" + query, files=files, headers={"accept": accept} | headers)


def test_each_photo_has_its_own_outcome_in_order(client: TestClient, photo: bytes) -> None:
    answer = send(client, GRAY, photo, b"no photo", b"", photo[: len(photo) // 2], photo)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-device"] == "cpu"
    check_standard_headers(answer)
    document = answer.json()
    BatchAnswer.model_validate_json(answer.text)
    assert set(document) == {"results", "not_for_identification", "request_id"}
    assert document["request_id"] == answer.headers["x-request-id"]
    results = document["results"]
    assert [each["index"] for each in results] == list(range(6))
    assert [each["file"] for each in results] == [f"{index}.jpg" for index in range(6)]
    assert [each["status"] for each in results] == [422, 200, 415, 400, 422, 200]
    codes = [each["problem"] and each["problem"]["code"] for each in results]
    assert codes == ["no_eye_found", None, "not_an_image", "empty_body", "image_corrupt", None]
    assert [each["answer"] is None for each in results] == [True, False, True, True, True, False]
    alone = client.post("/synthesize", content=photo, headers={"content-type": "image/jpeg"}).content
    for each in (results[1], results[5]):
        assert pixels_of(base64.b64decode(each["answer"]["faces"][0]["image"])) == pixels_of(alone)


def test_a_problem_is_that_which_the_photo_has_alone(client: TestClient) -> None:
    (result,) = send(client, GRAY).json()["results"]
    alone = client.post("/synthesize", content=GRAY, headers={"content-type": "image/png"}).json()
    assert result["problem"] | {"request_id": ""} == alone | {"request_id": ""}


def test_an_answer_has_the_shape_that_it_has_alone(client: TestClient, photo: bytes) -> None:
    (result,) = send(client, photo).json()["results"]
    form = {"content-type": "image/jpeg", "accept": "application/json"}
    alone = client.post("/synthesize", content=photo, headers=form).json()
    assert set(result["answer"]) == set(alone)
    (face,), (face_alone,) = result["answer"]["faces"], alone["faces"]
    assert face | {"image": ""} == face_alone | {"image": ""}


def test_the_query_holds_for_every_photo(client: TestClient, photo: bytes) -> None:
    results = send(client, photo, photo, query="?eye=left&format=webp").json()["results"]
    for each in results:
        (face,) = each["answer"]["faces"]
        assert (face["eye"]["side"], face["format"]) == ("left", "webp")
    check_problem(send(client, photo, query="?eye=middle"), 422, "invalid_parameter")


def test_a_zip_holds_the_faces_and_what_became_of_each_photo(client: TestClient, photo: bytes) -> None:
    answer = send(client, photo, GRAY, photo, query="?format=jpeg", accept="application/zip")
    assert answer.headers["content-type"] == "application/zip"
    check_standard_headers(answer)
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["000.jpg", "002.jpg", "results.json"]
        with PIL.Image.open(io.BytesIO(archive.read("002.jpg"))) as face:
            assert (face.format, face.size) == ("JPEG", (128, 128))
        assert b"trainedAlgorithmicMedia" in archive.read("000.jpg")
        told = json.loads(archive.read("results.json"))
    assert told["not_for_identification"] is True
    assert [each["faces"] for each in told["results"]] == [["000.jpg"], [], ["002.jpg"]]
    assert told["results"][1]["problem"]["code"] == "no_eye_found"


def test_several_faces_of_a_photo_are_numbered_in_the_zip(client: TestClient) -> None:
    pair = encoded(np.hstack([astronaut(), astronaut()]))
    answer = send(client, pair, query="?person=all", accept="application/zip")
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.namelist() == ["000-0.png", "000-1.png", "results.json"]


def test_the_same_photos_give_the_same_zip_but_for_its_request_id_and_the_time_of_faces(
    client: TestClient, photo: bytes
) -> None:
    one, two = (send(client, photo, GRAY, accept="application/zip") for _ in range(2))
    ids = [answer.headers["x-request-id"].encode() for answer in (one, two)]
    with (
        zipfile.ZipFile(io.BytesIO(one.content)) as first,
        zipfile.ZipFile(io.BytesIO(two.content)) as second,
    ):
        assert [each.date_time for each in first.infolist()] == [each.date_time for each in second.infolist()]
        assert first.namelist() == second.namelist() == ["000.png", "results.json"]
        assert pixels_of(first.read("000.png")) == pixels_of(second.read("000.png"))
        results = (each.read("results.json") for each in (first, second))
        one_result, other_result = (text.replace(id, b"") for text, id in zip(results, ids, strict=True))
        assert one_result == other_result


def test_a_photo_that_crashes_the_service_fails_alone_and_is_logged(
    client: TestClient, photo: bytes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def crash(self: object, photos: Any) -> Any:
        if any(request.data == GRAY for request, _ in photos):
            raise ZeroDivisionError
        return read(self, photos)

    read: Any = Pipeline.read
    monkeypatch.setattr(Pipeline, "read", crash)
    results = send(client, photo, GRAY).json()["results"]
    assert [each["status"] for each in results] == [200, 500]
    assert results[1]["problem"]["code"] == "internal_error"
    assert "ZeroDivisionError" not in str(results[1])
    assert caplog.text.count("Traceback") == 1 and caplog.text.count("raise ZeroDivisionError") == 1


@pytest.mark.parametrize("accept", ["application/json", "application/zip"])
def test_a_photo_that_is_refused_for_now_says_when_to_come_back(
    client: TestClient, photo: bytes, monkeypatch: pytest.MonkeyPatch, accept: str
) -> None:
    def refuse(self: WorkerPool, work: Any, **given: Any) -> Any:
        raise Overloaded("full", retry_after_s=7)

    monkeypatch.setattr(WorkerPool, "submit", refuse)
    answer = send(client, photo, accept=accept)
    if accept == "application/zip":
        with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
            (result,) = json.loads(archive.read("results.json"))["results"]
    else:
        (result,) = answer.json()["results"]
    assert (result["status"], result["problem"]["code"]) == (503, "overloaded")
    assert result["problem"]["retry_after_s"] == 7


@pytest.mark.parametrize("name", ["ä\u2028€.jpg", 'a"b\\.jpg', "../../etc/passwd", "x" * 300])
def test_whatever_a_file_is_called_the_answer_is_json(client: TestClient, name: str) -> None:
    body = (
        b'--x\r\nContent-Disposition: form-data; name="image"; filename="'
        + name.replace("\\", "\\\\").replace('"', '\\"').encode()
        + b'"\r\n\r\nno photo\r\n--x--\r\n'
    )
    form = {"content-type": "multipart/form-data; boundary=x"}
    (result,) = client.post("/synthesize/batch", content=body, headers=form).json()["results"]
    assert result["file"] == name
    form["accept"] = "application/zip"
    zipped = client.post("/synthesize/batch", content=body, headers=form)
    with zipfile.ZipFile(io.BytesIO(zipped.content)) as archive:
        assert archive.namelist() == ["results.json"]


def test_what_is_no_form_of_photos_is_refused(client: TestClient, photo: bytes) -> None:
    form = {"content-type": "multipart/form-data; boundary=x"}

    def post(**kind: Any) -> Any:
        return client.post("/synthesize/batch", **kind)

    jpeg = post(content=photo, headers={"content-type": "image/jpeg"})
    check_problem(jpeg, 415, "unsupported_media_type")
    check_problem(post(), 400, "empty_body")
    check_problem(post(content=b"--x--\r\n", headers=form), 422, "missing_field")
    check_problem(post(content=b"--x", headers=form), 400, "invalid_form")
    check_problem(post(files=[("photo", ("a", photo))]), 422, "missing_field")
    check_problem(post(files=[("image", ("a", photo)), ("eye", (None, b"left"))]), 422, "invalid_parameter")
    check_problem(send(client, photo, accept="image/png"), 406, "not_acceptable")


def test_the_limits_of_a_batch_and_of_each_photo(model: Path, photo: bytes) -> None:
    settings = Settings(
        model=str(model),
        device="cpu",
        max_batch_photos=3,
        max_batch_bytes=len(photo) + 5000,
        max_upload_bytes=len(photo) - 1,
        max_requests_per_minute=5,
    )
    with TestClient(create_app(settings)) as client:
        results = send(client, photo, GRAY).json()["results"]  # 2 of this minute's 5
        assert [each["status"] for each in results] == [413, 422]
        assert results[0]["problem"]["code"] == "upload_too_large"
        check_problem(send(client, photo, photo), 413, "upload_too_large")  # 3
        many = send(client, *[GRAY] * 4)  # 4
        assert "files is 3" in check_problem(many, 400, "invalid_form")["detail"]
        limited = send(client, GRAY, GRAY)  # would be 5 and 6
        check_problem(limited, 429, "rate_limited")
        assert int(limited.headers["retry-after"]) >= 1


def test_a_batch_wants_a_key(model: Path) -> None:
    with TestClient(create_app(Settings(model=str(model), api_keys=("0" * 64,)))) as client:
        check_problem(send(client, GRAY), 401, "unauthorized")
