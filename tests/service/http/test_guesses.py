"""Several faces of one eye: in JSON, as one picture, in batches, and what is refused."""

import base64
import io
import json
import zipfile
from pathlib import Path
from typing import Any, Final

import numpy as np
import PIL.Image
import pytest
from starlette.testclient import TestClient

from service.engine.worker_pool import WorkerPool
from service.http.app import create_app
from service.settings import Settings
from service.vision.images import Image
from tests.fakes import astronaut, encoded
from tests.service.shapes import check_problem

JPEG: Final = {"content-type": "image/jpeg"}
JSON: Final = JPEG | {"accept": "application/json"}


def pixels(file: bytes) -> Image:
    return np.asarray(PIL.Image.open(io.BytesIO(file)).convert("RGB"))


def faces_of(client: TestClient, photo: bytes, query: str) -> list[dict[str, Any]]:
    answer = client.post(f"/synthesize?{query}", content=photo, headers=JSON)
    assert answer.status_code == 200, answer.text
    faces: list[dict[str, Any]] = answer.json()["faces"]
    return faces


def images_of(face: dict[str, Any]) -> list[Image]:
    """The default face and its further guesses."""
    return [pixels(base64.b64decode(each["image"])) for each in (face, *face["guesses"])]


def test_json_lists_the_guesses_their_seed_and_their_spread(client: TestClient, photo: bytes) -> None:
    (face,) = faces_of(client, photo, "guesses=3&seed=4294967295&format=webp")
    (alone,) = faces_of(client, photo, "format=webp")
    assert set(face) == set(alone) | {"guesses", "spread"}
    assert [(each["guess"], each["seed"]) for each in face["guesses"]] == [(1, 2**32 - 1), (2, 2**32 - 1)]
    assert all(set(each) == {"guess", "seed", "image"} for each in face["guesses"])
    assert face["certainty"] == alone["certainty"] and face["spread"] > 1
    images = images_of(face)
    assert {each.shape for each in images} == {(128, 128, 3)} and len(
        {each.tobytes() for each in images}
    ) == 3
    assert base64.b64decode(face["guesses"][1]["image"])[8:12] == b"WEBP"
    np.testing.assert_array_equal(images[0], pixels(base64.b64decode(alone["image"])))


def test_the_same_seed_gives_the_same_faces_and_another_others(client: TestClient, photo: bytes) -> None:
    one, again, other, default = (
        images_of(faces_of(client, photo, f"guesses=2{seed}")[0])
        for seed in ("&seed=7", "&seed=7", "&seed=8", "")
    )
    np.testing.assert_array_equal(one, again)
    np.testing.assert_array_equal(one[0], other[0])
    assert len({each[1].tobytes() for each in (one, other, default)}) == 3
    np.testing.assert_array_equal(default, images_of(faces_of(client, photo, "guesses=2&seed=0")[0]))


def test_everybody_gets_their_guesses(client: TestClient) -> None:
    pair = encoded(np.hstack([astronaut(), astronaut()]), "jpeg")
    faces = faces_of(client, pair, "guesses=2&person=all")
    assert [len(face["guesses"]) for face in faces] == [1, 1]
    answer = client.post("/synthesize?guesses=16&person=all", content=pair, headers=JPEG)
    assert [len(face["guesses"]) for face in answer.json()["faces"]] == [15, 15]


def test_more_guesses_of_all_people_than_memory_is_kept_for_are_refused(client: TestClient) -> None:
    crowd = encoded(np.hstack([astronaut()[:256, 96:352]] * 5), "jpeg")
    answer = client.post("/synthesize?guesses=16&person=all", content=crowd, headers=JPEG)
    detail = check_problem(answer, 422, "invalid_parameter")["detail"]
    assert "guesses=16" in detail and "at most 64" in detail
    assert len(client.post("/synthesize?person=all", content=crowd, headers=JPEG).json()["faces"]) > 4


@pytest.mark.parametrize(
    ("guesses", "columns", "rows"), [(1, 1, 1), (2, 2, 1), (3, 2, 2), (5, 3, 2), (9, 3, 3), (16, 4, 4)]
)
def test_a_grid_shows_all_guesses_row_by_row(
    client: TestClient, photo: bytes, guesses: int, columns: int, rows: int
) -> None:
    query = f"/synthesize?layout=grid&label=true&guesses={guesses}&seed=3"
    grid = pixels(client.post(query, content=photo, headers=JPEG).content)
    assert grid.shape == (rows * 128, columns * 128, 3)
    cells = grid.reshape(rows, 128, columns, 128, 3).swapaxes(1, 2).reshape(-1, 128, 128, 3)
    (face,) = faces_of(client, photo, f"label=true&guesses={max(2, guesses)}&seed=3")
    np.testing.assert_array_equal(cells[:guesses], images_of(face)[:guesses])
    assert not cells[guesses:].any()


@pytest.mark.parametrize("format", ["png", "jpeg", "webp"])
def test_a_grid_has_the_format_that_is_asked_for(client: TestClient, photo: bytes, format: str) -> None:
    for query, accept in ((f"&format={format}", "*/*"), ("", f"image/{format}")):
        headers = JPEG | {"accept": accept}
        answer = client.post(f"/synthesize?layout=grid&guesses=2{query}", content=photo, headers=headers)
        assert answer.headers["content-type"] == f"image/{format}"
        assert PIL.Image.open(io.BytesIO(answer.content)).size == (256, 128)


def test_an_image_is_the_default_face_and_no_other_is_drawn_for_it(
    client: TestClient, photo: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def submit(pool: WorkerPool, work: Any, **given: Any) -> Any:
        asked.append(work.subject.options.guesses)
        return submitted(pool, work, **given)

    asked, submitted = list[int](), WorkerPool.submit
    monkeypatch.setattr(WorkerPool, "submit", submit)
    alone, first, *_ = (
        client.post(f"/synthesize?{query}", content=photo, headers=JPEG).content
        for query in ("", "guesses=9&seed=3", "guesses=9&layout=grid")
    )
    np.testing.assert_array_equal(pixels(first), pixels(alone))
    assert asked == [1, 1, 9]


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("guesses=0", "guesses='0' must be greater than or equal to 1."),
        ("guesses=17", "guesses='17' must be less than or equal to 16."),
        ("guesses=x", "guesses='x' must be a valid integer."),
        ("guesses=1.5", "guesses='1.5' must be a valid integer."),
        ("seed=-1", "seed='-1' must be greater than or equal to 0."),
        ("seed=4294967296", "seed='4294967296' must be less than or equal to 4294967295."),
        ("seed=x", "seed='x' must be a valid integer."),
        ("layout=foo", "layout='foo' must be 'first' or 'grid'."),
        ("layout=grid&person=all", "layout=grid is an image of one person"),
    ],
)
def test_impossible_guesses_are_refused(client: TestClient, photo: bytes, query: str, words: str) -> None:
    answer = client.post(f"/synthesize?{query}", content=photo, headers=JPEG)
    assert words in check_problem(answer, 422, "invalid_parameter")["detail"]


def test_a_grid_is_an_image(client: TestClient, photo: bytes) -> None:
    answer = client.post("/synthesize?layout=grid&guesses=2", content=photo, headers=JSON)
    detail = check_problem(answer, 406, "not_acceptable")["detail"]
    assert detail.endswith("image/png or image/jpeg or image/webp for layout=grid: JSON lists the guesses.")


def post_batch(client: TestClient, *photos: bytes, query: str, accept: str = "*/*") -> Any:
    files = [("image", (f"{index}.jpg", photo, "image/jpeg")) for index, photo in enumerate(photos)]
    return client.post(f"/synthesize/batch?{query}", files=files, headers={"accept": accept})


def test_a_batch_has_the_guesses_that_each_photo_has_alone(client: TestClient, photo: bytes) -> None:
    results = post_batch(client, photo, photo, query="guesses=3&seed=5").json()["results"]
    (alone,) = faces_of(client, photo, "guesses=3&seed=5")
    for each in results:
        (face,) = each["answer"]["faces"]
        np.testing.assert_array_equal(images_of(face), images_of(alone))
    refused = post_batch(client, photo, query="layout=grid")
    assert "no query parameter 'layout'" in check_problem(refused, 422, "invalid_parameter")["detail"]


def test_a_zip_holds_the_guesses_after_their_face(client: TestClient, photo: bytes) -> None:
    pair = encoded(np.hstack([astronaut(), astronaut()]), "jpeg")
    query = "guesses=2&seed=5&person=all&format=jpeg"
    answer = post_batch(client, photo, pair, query=query, accept="application/zip")
    names = [
        ["000.jpg", "000.guess-1.jpg"],
        ["001-0.jpg", "001-0.guess-1.jpg", "001-1.jpg", "001-1.guess-1.jpg"],
    ]
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.namelist() == [*names[0], *names[1], "results.json"]
        assert [each["faces"] for each in json.loads(archive.read("results.json"))["results"]] == names
        (alone,) = faces_of(client, photo, "guesses=2&seed=5&format=jpeg")
        zipped = [pixels(archive.read(name)) for name in names[0]]
    np.testing.assert_array_equal(zipped, images_of(alone))


def test_four_guesses_count_as_a_photo(model: Path, photo: bytes) -> None:
    settings = Settings(model=str(model), device="cpu", max_requests_per_minute=20)
    with TestClient(create_app(settings)) as client:
        faces_of(client, photo, "guesses=4")  # 1
        for query in ("guesses=16", "guesses=5&layout=grid"):  # 2: of one face; 4
            assert client.post(f"/synthesize?{query}", content=photo, headers=JPEG).status_code == 200
        assert post_batch(client, photo, photo, query="guesses=9").status_code == 200  # 10
        element = base64.b64encode(photo).decode()
        image = {"name": "image", "datatype": "BYTES", "shape": [2], "data": [element] * 2}
        asked = {"inputs": [image], "parameters": {"guesses": 13}}
        assert client.post("/v2/models/tiny/infer", json=asked).status_code == 200  # 18
        check_problem(post_batch(client, photo, query="guesses=9"), 429, "rate_limited")
        faces_of(client, photo, "guesses=4")  # 20: the refused batch counts as the request that it is
        check_problem(client.post("/eyes", content=photo, headers=JPEG), 429, "rate_limited")


@pytest.mark.parametrize("way", ["photo", "batch", "inference"])
def test_the_guesses_of_everybody_count(model: Path, way: str) -> None:
    pair = encoded(np.hstack([astronaut(), astronaut()]), "jpeg")
    image = {"name": "image", "datatype": "BYTES", "shape": [1], "data": [base64.b64encode(pair).decode()]}
    asked = {"inputs": [image], "parameters": {"guesses": 8, "person": "all"}}
    settings = Settings(model=str(model), device="cpu", max_requests_per_minute=4)
    with TestClient(create_app(settings)) as client:
        if way == "photo":
            faces_of(client, pair, "guesses=8&person=all")
        elif way == "batch":
            assert post_batch(client, pair, query="guesses=8&person=all").status_code == 200
        else:
            assert client.post("/v2/models/tiny/infer", json=asked).status_code == 200
        check_problem(client.post("/eyes", content=pair, headers=JPEG), 429, "rate_limited")


def test_a_batch_counts_what_it_holds_for_its_answer(client: TestClient) -> None:
    eye = encoded(np.ascontiguousarray(astronaut()[90:112, 190:216]))
    query, limit = "input=eye&guesses=16", client.app.state.uploads  # type: ignore[attr-defined]
    alone = post_batch(client, eye, query=query)
    before = limit.most, limit.large
    try:
        limit.most = limit.large = len(alone.content) * 3 // 2
        limit.num_held = 1  # of another request
        results = post_batch(client, *[eye] * 4, query=query).json()["results"]
    finally:
        (limit.most, limit.large), limit.num_held = before, 0
    assert sorted(each["status"] for each in results) == [200, 503, 503, 503]
    assert {each["problem"]["code"] for each in results if each["problem"]} == {"overloaded"}
