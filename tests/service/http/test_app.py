"""The service over HTTP: three forms of body, two forms of answer, health, keys, and a real server."""

import asyncio
import base64
import hashlib
import io
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import PIL.Image
import pytest
from starlette.testclient import TestClient

from service.errors import ModelNotFound
from service.http.app import create_app
from service.settings import ConfigurationError, Settings
from service.system.memory import count_memory
from tests.fake_finders import seen_right, tiny_finder
from tests.fakes import ASTRONAUT_LEFT_EYE, ASTRONAUT_RIGHT_EYE, astronaut, encoded, turned
from tests.running import served_here
from tests.service.shapes import check_problem, check_standard_headers

JPEG = {"content-type": "image/jpeg"}
JSON = {"accept": "application/json"}


def opened(data: bytes) -> PIL.Image.Image:
    return PIL.Image.open(io.BytesIO(data))


def faces_of(answer: Any) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    faces: list[dict[str, Any]] = answer.json()["faces"]
    return faces


def test_the_three_forms_of_body_give_the_same_face(client: TestClient, photo: bytes) -> None:
    raw = client.post("/synthesize", content=photo, headers=JPEG)
    form = client.post("/synthesize", files={"image": ("p.jpg", photo, "image/jpeg")})
    in_json = client.post("/synthesize", json={"image": base64.b64encode(photo).decode()})
    for answer in (raw, form, in_json):
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == "image/png"
        assert answer.headers["x-device"] == "cpu"
        check_standard_headers(answer)
        assert opened(answer.content).size == (128, 128)
    assert len({opened(answer.content).tobytes() for answer in (raw, form, in_json)}) == 1


def test_json_holds_the_faces_their_eyes_and_how_they_were_made(client: TestClient, photo: bytes) -> None:
    answer = client.post("/synthesize", content=photo, headers=JPEG | JSON)
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-device"] == "cpu"
    document = answer.json()
    assert set(document) == {
        "faces", "refused", "input", "num_left_out", "model", "device", "timings_ms",
        "not_for_identification", "request_id",
    }  # fmt: skip
    assert document["not_for_identification"] is True
    assert document["request_id"] == answer.headers["x-request-id"]
    assert document["device"] == "cpu"
    assert {"name": "tiny", "version": "0.0.1", "licence_class": "open"}.items() <= document["model"].items()
    assert set(document["timings_ms"]) == {"decode", "find", "crop", "infer", "encode"}
    (face,) = document["faces"]
    assert set(face) == {"image", "format", "width", "height", "eye", "quality", "certainty"}
    assert 0 <= face["certainty"] <= 1
    assert (face["format"], face["width"], face["height"]) == ("png", 128, 128)
    assert set(face["eye"]) == {"x", "y", "size_px", "roll_deg", "side", "score", "person"}
    assert set(face["quality"]) == {"size_px", "sharpness", "brightness", "contrast", "light", "tilt_deg"}
    assert (document["refused"], document["input"]) == ([], "photo")
    as_image = client.post("/synthesize", content=photo, headers=JPEG)
    assert opened(base64.b64decode(face["image"])).tobytes() == opened(as_image.content).tobytes()


@pytest.mark.parametrize(("side", "truth"), [("right", ASTRONAUT_RIGHT_EYE), ("left", ASTRONAUT_LEFT_EYE)])
def test_the_eye_that_is_asked_for_is_taken_where_it_is(
    client: TestClient, photo: bytes, side: str, truth: tuple[float, float]
) -> None:
    answer = client.post(f"/synthesize?eye={side}", content=photo, headers=JPEG | JSON)
    eye = faces_of(answer)[0]["eye"]
    assert eye["side"] == side
    # The Haar cascade boxes the eye with its brow: a quarter of the eye's size is its usual error.
    assert np.hypot(eye["x"] - truth[0], eye["y"] - truth[1]) < 0.25 * eye["size_px"]


@pytest.mark.parametrize(
    ("query", "accept", "expected"),
    [
        ("", "*/*", "image/png"),
        ("", "image/jpeg", "image/jpeg"),
        ("", "image/webp, image/png;q=0.5", "image/webp"),
        ("?format=jpeg", "*/*", "image/jpeg"),
        ("?format=webp", "image/*", "image/webp"),
        ("?format=webp", "application/json;q=0.9, image/png", "application/json"),
        ("?person=all", "*/*", "application/json"),
        ("?person=all", "image/*, application/json;q=0.1", "application/json"),
    ],
)
def test_the_form_of_the_answer_follows_format_and_accept(
    client: TestClient, photo: bytes, query: str, accept: str, expected: str
) -> None:
    answer = client.post("/synthesize" + query, content=photo, headers=JPEG | {"accept": accept})
    assert answer.headers["content-type"] == expected
    if expected.startswith("image/"):
        assert PIL.Image.MIME[opened(answer.content).format or ""] == expected


def test_in_json_the_face_has_the_format_that_is_asked_for(client: TestClient, photo: bytes) -> None:
    face = faces_of(client.post("/synthesize?format=webp", content=photo, headers=JPEG | JSON))[0]
    assert face["format"] == "webp"
    assert opened(base64.b64decode(face["image"])).format == "WEBP"


def test_a_picture_of_an_eye_needs_no_finder(client: TestClient) -> None:
    eye = encoded(np.ascontiguousarray(astronaut()[90:112, 190:216]), "png")
    answer = client.post("/synthesize?input=eye", content=eye, headers={"content-type": "image/png"} | JSON)
    assert faces_of(answer)[0]["eye"] | {"score": 1.0} == {
        "x": 12.5, "y": 10.5, "size_px": 22.0, "roll_deg": 0.0, "side": "right", "score": 1.0, "person": 0,
    }  # fmt: skip


def test_all_eight_orientations_of_a_photo_give_the_same_face(client: TestClient) -> None:
    answers = [
        client.post(
            "/synthesize",
            content=turned(astronaut(), orientation, "png"),
            headers={"content-type": "image/png"},
        )
        for orientation in range(1, 9)
    ]
    assert all(answer.status_code == 200 for answer in answers), [answer.text for answer in answers]
    assert len({opened(answer.content).tobytes() for answer in answers}) == 1


@pytest.mark.parametrize("quality", [98, 85])
def test_all_eight_orientations_of_a_jpeg_show_the_same_eye(client: TestClient, quality: int) -> None:
    for orientation in range(1, 9):
        body = turned(astronaut(), orientation, "jpeg", quality=quality, subsampling=0)
        answer = client.post("/synthesize", content=body, headers=JPEG | JSON)
        eye = faces_of(answer)[0]["eye"]
        assert eye["side"] == "right"
        # A JPEG's blocks lie differently in each turn; the finder's boxes follow by a pixel or two.
        assert np.hypot(eye["x"] - ASTRONAUT_RIGHT_EYE[0], eye["y"] - ASTRONAUT_RIGHT_EYE[1]) < 4


def test_eyes_are_told_in_pixels_of_the_upright_photo(client: TestClient) -> None:
    answer = client.post("/eyes", content=turned(astronaut()[:400], 6), headers=JPEG)
    assert answer.status_code == 200, answer.text
    check_standard_headers(answer)
    document = answer.json()
    assert set(document) == {"width", "height", "eyes", "not_for_identification", "request_id"}
    assert (document["width"], document["height"]) == (512, 400)
    assert {eye["side"] for eye in document["eyes"]} == {"left", "right"}
    right = next(eye for eye in document["eyes"] if eye["side"] == "right")
    assert abs(right["x"] - ASTRONAUT_RIGHT_EYE[0]) < 0.25 * right["size_px"]


def test_every_eye_comes_with_its_quality(client: TestClient, photo: bytes) -> None:
    for eye in client.post("/eyes", content=photo, headers=JPEG).json()["eyes"]:
        assert set(eye) == {"x", "y", "size_px", "roll_deg", "side", "score", "person", "quality"}
        assert eye["quality"]["size_px"] == eye["size_px"]
        assert 0.4 < eye["quality"]["sharpness"] < 1 and 0.4 < eye["quality"]["light"] < 1


def test_an_eye_that_is_refused_is_a_problem_with_its_code(client: TestClient) -> None:
    dark = encoded(np.asarray(np.rint(astronaut() * 0.05), np.uint8)[90:112, 190:216])
    answer = client.post("/synthesize?input=eye", content=dark, headers={"content-type": "image/png"})
    problem = check_problem(answer, 422, "eye_too_dark")
    assert "EYE2FACE_MIN_EYE_LIGHT=0" in problem["detail"]


def test_the_refused_are_listed_beside_the_faces(model: Path) -> None:
    pair = np.hstack([astronaut(), np.asarray(np.rint(astronaut() * 0.4), np.uint8)])
    settings = Settings(model=str(model), device="cpu", min_eye_light=0.5, eye_finder="haar")
    with TestClient(create_app(settings)) as client:
        answer = client.post(
            "/synthesize?person=all", content=encoded(pair), headers={"content-type": "image/png"}
        )
    document = answer.json()
    assert len(document["faces"]) == 1
    assert {each["code"] for each in document["refused"]} == {"eye_too_dark"}
    for each in document["refused"]:
        assert set(each) == {"code", "detail", "eye"}
        assert each["eye"]["x"] > 512 and each["eye"]["person"] != document["faces"][0]["eye"]["person"]


@pytest.fixture
def doubting(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    """A service whose learned finder sees one eye that it is not sure of in every picture."""
    path = tiny_finder(tmp_path / "eye_finder.onnx", [seen_right(100, 100, 40, logit=-1.0)])
    monkeypatch.setattr("service.inference.eye_finder.model_path", lambda name: path)
    settings = Settings(model=str(model), device="cpu", eye_finder="learned")
    with TestClient(create_app(settings)) as client:
        yield client


def test_no_eye_found_counts_what_scored_too_low(doubting: TestClient, photo: bytes) -> None:
    answer = doubting.post("/synthesize", content=photo, headers=JPEG)
    problem = check_problem(answer, 422, "no_eye_found", "num_below_threshold")
    assert problem["num_below_threshold"] >= 1
    assert f"{problem['num_below_threshold']} candidates scored below" in problem["detail"]


def test_what_scored_too_low_is_told_only_to_who_asks(doubting: TestClient, photo: bytes) -> None:
    plain, every = (
        doubting.post(path, content=photo, headers=JPEG).json() for path in ("/eyes", "/eyes?all=1")
    )
    assert plain["eyes"] == every["eyes"] == []
    assert "below_threshold" not in plain
    assert set(every["below_threshold"][0]) == {"x", "y", "size_px", "roll_deg", "side", "score"}


def test_the_overlay_shows_what_scored_too_low(doubting: TestClient, photo: bytes) -> None:
    drawn = np.asarray(opened(doubting.post("/eyes?overlay=true", content=photo, headers=JPEG).content))
    assert (abs(drawn.astype(int) - astronaut()).max(axis=2) > 60).any()


def test_a_photo_without_eyes_has_an_empty_list_of_them(client: TestClient) -> None:
    gray = encoded(np.full((200, 300, 3), 128, np.uint8))
    answer = client.post("/eyes", content=gray, headers={"content-type": "image/png"})
    assert answer.json()["eyes"] == []


def test_the_overlay_is_the_photo_with_its_eyes_drawn(client: TestClient, photo: bytes) -> None:
    answer = client.post("/eyes?overlay=true", content=photo, headers=JPEG)
    assert answer.headers["content-type"] == "image/png"
    check_standard_headers(answer)
    drawn = np.asarray(opened(answer.content), dtype=int)
    assert drawn.shape == (512, 512, 3)
    changed = abs(drawn - astronaut()).max(axis=2) > 60
    assert 0 < changed.mean() < 0.1


def test_a_service_that_marks_has_no_header_of_it(client: TestClient) -> None:
    assert "x-marking" not in client.get("/livez").headers
    assert client.get("/readyz").json()["marking"] == "required"


def test_life_is_answered_with_the_stamps_of_every_answer(client: TestClient) -> None:
    answer = client.get("/livez")
    assert answer.json() == {"status": "alive", "not_for_identification": True}
    check_standard_headers(answer)


def test_a_service_that_does_not_mark_says_so_in_every_answer(model: Path, photo: bytes) -> None:
    with TestClient(create_app(Settings(model=str(model), device="cpu", marking="off"))) as off:
        answers = [off.get("/livez"), off.get("/none"), off.post("/synthesize", content=photo, headers=JPEG)]
        assert [answer.headers.get("x-marking") for answer in answers] == ["off"] * 3
        assert off.get("/readyz").json()["marking"] == "off"


def test_without_a_model_the_service_lives_but_is_not_ready_and_says_why(model: Path, photo: bytes) -> None:
    not_started = TestClient(create_app(Settings(model=str(model))))  # no `with`: its start never runs
    assert not_started.get("/livez").status_code == 200
    assert "not loaded" in check_problem(not_started.get("/readyz"), 503, "not_ready")["detail"]
    check_problem(not_started.post("/synthesize", content=photo, headers=JPEG), 503, "not_ready")


def test_a_service_whose_model_is_missing_does_not_start(tmp_path: Path) -> None:
    app = create_app(Settings(model=str(tmp_path / "none.onnx")))
    with pytest.raises(ModelNotFound), TestClient(app):
        pass


@pytest.fixture(scope="module")
def guarded(model: Path) -> Iterator[TestClient]:
    hashes = tuple(hashlib.sha256(key).hexdigest() for key in (b"first", b"second"))
    with TestClient(create_app(Settings(model=str(model), host="0.0.0.0", api_keys=hashes))) as client:
        yield client


@pytest.mark.parametrize(
    "headers",
    [{"Authorization": "Bearer first"}, {"authorization": "bearer second"}, {"X-API-Key": "second"}],
)
def test_a_key_opens(guarded: TestClient, photo: bytes, headers: dict[str, str]) -> None:
    for path in ("/synthesize", "/eyes"):
        assert guarded.post(path, content=photo, headers=JPEG | headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [{}, {"Authorization": "Bearer third"}, {"Authorization": "Basic Zmlyc3Q6"}, {"X-API-Key": ""}],
)
def test_without_a_key_nothing_is_read(guarded: TestClient, headers: dict[str, str]) -> None:
    for path in ("/synthesize", "/eyes?overlay=maybe"):
        answer = guarded.post(path, content=b"not even a photo", headers=headers)
        check_problem(answer, 401, "unauthorized")
        assert answer.headers["www-authenticate"] == "Bearer"


def test_health_and_pages_need_no_key(guarded: TestClient) -> None:
    for path in ("/livez", "/readyz", "/", "/docs", "/openapi.json"):
        assert guarded.get(path).status_code == 200


def test_the_documentation_is_taken_away_by_its_setting(model: Path) -> None:
    with TestClient(create_app(Settings(model=str(model), docs=False))) as client:
        for path in ("/docs", "/openapi.json"):
            assert "/docs lists" not in check_problem(client.get(path), 404, "not_found")["detail"]
        page = client.get("/")
        check_standard_headers(page)
        links = re.findall(r'(?:href|src)="([^"]*)"', page.text)
        assert {client.get(link).status_code for link in links} == {200}


def test_every_answer_forbids_browsers_what_it_does_not_need(client: TestClient, photo: bytes) -> None:
    for answer in (
        client.post("/synthesize", content=photo, headers=JPEG),
        client.get("/livez"),
        client.get("/openapi.json"),
        client.get("/nowhere"),
        client.get("/web/page.js"),
    ):
        check_standard_headers(answer)
        assert answer.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"


ORIGIN = {"origin": "https://good.example"}
PREFLIGHT = {"access-control-request-method": "POST", "access-control-request-headers": "x-api-key"}


def test_pages_of_other_sites_are_kept_out_by_default(client: TestClient, photo: bytes) -> None:
    answer = client.post("/synthesize", content=photo, headers=JPEG | ORIGIN)
    assert not [name for name in answer.headers if name.startswith("access-control")]
    check_problem(client.options("/synthesize", headers=ORIGIN | PREFLIGHT), 405, "method_not_allowed")


def test_pages_of_allowed_sites_are_let_in_and_no_others(model: Path) -> None:
    hashes = (hashlib.sha256(b"first").hexdigest(),)
    settings = Settings(model=str(model), api_keys=hashes, cors_origins=("https://good.example",))
    with TestClient(create_app(settings)) as client:
        asked = client.options("/synthesize", headers=ORIGIN | PREFLIGHT)  # a browser sends no key with it
        assert (asked.status_code, asked.headers["access-control-allow-origin"]) == (200, ORIGIN["origin"])
        assert "X-API-Key" in asked.headers["access-control-allow-headers"]
        assert "access-control-allow-credentials" not in asked.headers
        check_standard_headers(asked)
        refused = client.post("/synthesize", headers=ORIGIN)
        check_problem(refused, 401, "unauthorized")  # which the page may read
        assert refused.headers["access-control-allow-origin"] == ORIGIN["origin"]
        assert "X-Request-Id" in refused.headers["access-control-expose-headers"]
        other = {"origin": "https://bad.example"}
        preflight = client.options("/synthesize", headers=other | PREFLIGHT)
        check_standard_headers(preflight)
        assert "does not allow its origin." in check_problem(preflight, 400, "bad_request")["detail"]
        odd = client.options(
            "/synthesize", headers=ORIGIN | PREFLIGHT | {"access-control-request-headers": "x-odd"}
        )
        assert "does not allow its headers." in check_problem(odd, 400, "bad_request")["detail"]
        assert odd.headers["access-control-allow-origin"] == ORIGIN["origin"]
        for answer in (
            client.options("/synthesize", headers=other | PREFLIGHT),
            client.post("/synthesize", headers=other),
        ):
            assert "access-control-allow-origin" not in answer.headers


def test_a_service_that_everybody_could_reach_is_refused(model: Path) -> None:
    with pytest.raises(ConfigurationError, match="EYE2FACE_ALLOW_ANONYMOUS"):
        create_app(Settings(model=str(model), host="0.0.0.0"))


def test_a_caller_who_hangs_up_in_the_middle_leaves_no_trace(client: TestClient, photo: bytes) -> None:
    messages = [
        {"type": "http.request", "body": photo[:1000], "more_body": True},
        {"type": "http.disconnect"},
    ]
    sent: list[Any] = []

    async def receive() -> Any:
        return messages.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": "POST", "path": "/synthesize", "query_string": b"", "http_version": "1.1",
        "headers": [(b"content-type", b"image/jpeg"), (b"content-length", str(len(photo)).encode())],
        "state": dict(client.app_state),
    }  # fmt: skip

    async def ask() -> None:
        await client.app(scope, receive, send)  # raises nothing

    asyncio.run(ask())
    assert not any(message.get("status") == 500 for message in sent)
    assert client.post("/synthesize", content=photo, headers=JPEG).status_code == 200


def test_bodies_and_responses_have_an_eighth_of_the_memory(client: TestClient) -> None:
    assert client.app.state.uploads.most == count_memory() // 8  # type: ignore[attr-defined]


def test_a_real_server_answers_as_curl_would_ask(model: Path, photo: bytes) -> None:
    settings = Settings(model=str(model), device="cpu", max_upload_bytes=300_000)
    with served_here(create_app(settings)) as (address, _), httpx.Client(base_url=address) as caller:
        assert caller.get("/readyz").json()["status"] == "ready"
        form = caller.post("/synthesize", files={"image": ("p.jpg", photo, "image/jpeg")})
        raw = caller.post("/synthesize", content=photo, headers=JPEG)
        in_json = caller.post("/synthesize", json={"image": base64.b64encode(photo).decode()})
        assert len({opened(answer.content).tobytes() for answer in (form, raw, in_json)}) == 1
        assert opened(raw.content).size == (128, 128)
        check_standard_headers(raw)

        announced = caller.post("/synthesize", content=bytes(300_001), headers=JPEG)
        check_problem(announced, 413, "upload_too_large")
        endless = caller.post("/synthesize", content=(bytes(10_000) for _ in range(10_000)), headers=JPEG)
        check_problem(endless, 413, "upload_too_large")
        check_problem(caller.get("/nowhere"), 404, "not_found")
        with socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2]))) as rude:
            rude.sendall(b"POST /synthesize HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\n")
            rude.sendall(b"Content-Length: 1000\r\n\r\nonly a part")
        assert caller.get("/livez").json()["status"] == "alive"
