"""The content of /metrics, and who may read it."""

import hashlib
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from service.http.app import create_app
from service.observability.metrics import Metrics
from service.settings import Settings
from tests.service.shapes import check_problem, check_standard_headers

JPEG = {"content-type": "image/jpeg"}


def read(client: TestClient) -> dict[tuple[str, ...], float]:
    """Every sample by its name and the values of its labels."""
    answer = client.get("/metrics")
    assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/plain")
    check_standard_headers(answer)
    families = text_string_to_metric_families(answer.text)
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
    }


def test_every_stage_wait_and_refusal_is_counted(model: Path, photo: bytes) -> None:
    with TestClient(create_app(Settings(model=str(model), device="cpu", num_threads=1))) as client:
        for _ in range(2):
            assert client.post("/synthesize", content=photo, headers=JPEG).status_code == 200
        client.post("/eyes", content=photo, headers=JPEG)
        client.post("/eyes", content=b"no photo", headers=JPEG)
        client.get("/a/path/that/somebody/makes/up")
        numbers = read(client)
    for stage, num_photos in {"decode": 3, "find": 3, "crop": 3, "infer": 2, "encode": 2}.items():
        assert numbers["eye2face_stage_seconds_count", stage] == num_photos
        assert numbers["eye2face_stage_seconds_sum", stage] > 0
    assert numbers["eye2face_queue_seconds_count",] == 4
    assert numbers["eye2face_batch_size_count",] == numbers["eye2face_batch_size_sum",] == 2
    assert numbers["eye2face_requests_total", "/synthesize", "200"] == 2
    assert numbers["eye2face_requests_total", "/eyes", "415"] == 1
    assert numbers["eye2face_requests_total", "other", "404"] == 1
    assert numbers["eye2face_request_seconds_count", "/synthesize"] == 2
    assert numbers["eye2face_problems_total", "not_an_image"] == 1
    assert numbers["eye2face_problems_total", "not_found"] == 1
    assert numbers["eye2face_queue_depth",] == numbers["eye2face_workers_busy",] == 0
    assert numbers["eye2face_workers",] == numbers["eye2face_inference_ok",] == 1
    assert any(key[0] == "eye2face_model_info" and {"cpu", "tiny"} <= set(key) for key in numbers)
    assert numbers["process_resident_memory_bytes",] > 1e6


def test_two_services_in_one_process_do_not_add_up() -> None:
    one, other = Metrics(), Metrics()
    one.count_problem("overloaded")
    assert b'code="overloaded"' in one.write() and b'code="overloaded"' not in other.write()


@pytest.mark.parametrize(
    ("setting", "without_key", "with_key"), [("off", 404, 404), ("key", 401, 200), ("open", 200, 200)]
)
def test_the_setting_says_who_may_read_the_numbers(
    model: Path, setting: str, without_key: int, with_key: int
) -> None:
    hashes = (hashlib.sha256(b"secret").hexdigest(),)
    settings = Settings(model=str(model), api_keys=hashes, metrics=setting)
    client = TestClient(create_app(settings))
    assert client.get("/metrics").status_code == without_key
    assert client.get("/metrics", headers={"X-API-Key": "secret"}).status_code == with_key
    if setting == "key":
        check_problem(client.get("/metrics"), 401, "unauthorized")
