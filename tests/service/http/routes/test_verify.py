import base64
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from service.http.app import create_app
from service.http.routes.about import REFUSED_USES
from service.settings import Settings
from service.system.host import count_cores
from tests.service.shapes import check_problem, check_standard_headers

JPEG = {"content-type": "image/jpeg"}
KEY = "open sesame"
KEY_HASH = "41ef4bb0b23661e66301aac36066912dac037827b4ae63a7b1165a5aa93ed4eb"


def test_a_face_bears_our_mark_in_each_form_of_body(client: TestClient, photo: bytes) -> None:
    face = client.post("/synthesize", content=photo, headers=JPEG).content
    answers = [
        client.post("/verify", content=face, headers={"content-type": "image/png"}),
        client.post("/verify", files={"image": ("face.png", face, "image/png")}),
        client.post("/verify", json={"image": base64.b64encode(face).decode()}),
    ]
    for answer in answers:
        assert answer.status_code == 200, answer.text
        check_standard_headers(answer)
        document = answer.json()
        assert set(document) == {
            "not_for_identification", "verdict", "signature", "watermark", "metadata", "request_id",
        }  # fmt: skip
        assert document["verdict"] == "bears_our_mark"
        assert document["watermark"]["confidence"] == "weak"
        assert document["metadata"]["system"] == "eye2face tiny"


def test_a_photo_bears_nothing(client: TestClient, photo: bytes) -> None:
    assert client.post("/verify", content=photo, headers=JPEG).json()["verdict"] == "nothing_found"


def test_what_is_no_picture_is_refused(client: TestClient) -> None:
    check_problem(client.post("/verify", content=b"GIF89a", headers=JPEG), 415, "unsupported_format")
    check_problem(client.post("/verify?x=1", content=b"-", headers=JPEG), 422, "invalid_parameter")
    check_problem(client.post("/verify", content=b"-"), 415, "unsupported_media_type")


def test_the_detector_is_free_unless_a_key_is_wanted(model: Path, photo: bytes) -> None:
    with_keys = Settings(model=str(model), device="cpu", api_keys=(KEY_HASH,))
    with TestClient(create_app(with_keys)) as client:
        assert client.post("/verify", content=photo, headers=JPEG).status_code == 200
        check_problem(client.post("/synthesize", content=photo, headers=JPEG), 401, "unauthorized")
    with TestClient(create_app(with_keys.model_copy(update={"verify": "key"}))) as client:
        check_problem(client.post("/verify", content=photo, headers=JPEG), 401, "unauthorized")
        key = {"x-api-key": KEY}
        assert client.post("/verify", content=photo, headers=JPEG | key).status_code == 200


def test_the_limit_of_the_detector_is_its_own(model: Path, photo: bytes) -> None:
    limits: dict[str, Any] = {"max_verifications_per_minute": 2, "max_requests_per_minute": 1}
    with TestClient(create_app(Settings(model=str(model), device="cpu", **limits))) as client:
        for _ in range(2):
            assert client.post("/verify", content=photo, headers=JPEG).status_code == 200
        check_problem(client.post("/verify", content=photo, headers=JPEG), 429, "rate_limited")
        assert client.post("/synthesize", content=photo, headers=JPEG).status_code == 200
        check_problem(client.post("/synthesize", content=photo, headers=JPEG), 429, "rate_limited")


def test_only_a_part_of_the_cores_verifies_at_once(client: TestClient, photo: bytes) -> None:
    others = client.app.state.access.verifications  # type: ignore[attr-defined]
    with ExitStack() as running:

        def upload() -> Iterator[bytes]:
            for _ in range(max(1, count_cores() // 2)):
                running.enter_context(others.enter("everybody"))
            yield photo

        check_problem(client.post("/verify", content=upload(), headers=JPEG), 429, "too_many_requests")
        check_problem(client.post("/verify", content=b"-"), 429, "too_many_requests")  # before it is read
    assert client.post("/verify", content=photo, headers=JPEG).status_code == 200


def test_uploads_of_a_caller_are_refused_before_their_body(client: TestClient) -> None:
    own = client.app.state.access.verification.concurrency  # type: ignore[attr-defined]
    with ExitStack() as running:
        for _ in range(4):
            running.enter_context(own.enter("testclient"))
        check_problem(client.post("/verify", content=b"-", headers=JPEG), 429, "too_many_requests")
    check_problem(client.post("/verify", content=b"-", headers=JPEG), 415, "not_an_image")
    assert not own._num_running


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(cut=st.integers(0, 20_000), junk=st.binary(max_size=200), at=st.integers(0, 20_000))
def test_damaged_files_give_a_verdict_or_a_problem(
    damaged_faces: tuple[TestClient, list[bytes]], cut: int, junk: bytes, at: int
) -> None:
    client, faces = damaged_faces
    for face in faces:
        place = at % len(face)
        damaged = face[:place] + junk + face[place + len(junk) :]
        damaged = damaged[: max(1, len(damaged) - cut % len(face) // 2)]
        answer = client.post("/verify", content=damaged, headers=JPEG)
        assert answer.status_code in (200, 413, 415, 422), answer.text


@pytest.fixture(scope="module")
def damaged_faces(model: Path, photo: bytes) -> Iterator[tuple[TestClient, list[bytes]]]:
    unlimited = Settings(model=str(model), device="cpu", max_verifications_per_minute=0)
    with TestClient(create_app(unlimited)) as client:
        faces = [
            client.post(f"/synthesize?format={format}", content=photo, headers=JPEG).content
            for format in ("png", "jpeg", "webp")
        ]
        yield client, faces


def test_the_policy_says_who_answers_and_what_is_refused(model: Path) -> None:
    named = Settings(model=str(model), operator_name="Museum", operator_contact="faces@example.org")
    answer = TestClient(create_app(named)).get("/policy")
    check_standard_headers(answer)
    policy = answer.json()
    assert (policy["operator_name"], policy["operator_contact"]) == ("Museum", "faces@example.org")
    assert policy["refused_uses"] == REFUSED_USES
    assert policy["not_for_identification"] is True
    assert "Nobody can be unmasked" in policy["unmasking"]
