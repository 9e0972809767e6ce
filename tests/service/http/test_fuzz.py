"""Damaged pictures of every format: each answer is a documented one, none a crash, none late.

300 pictures here; `python -m tests.service.damaged` sends 20,000 to a running service.
"""

import time
from pathlib import Path
from typing import Final

import httpx
import pytest
from starlette.testclient import TestClient

from tests.service.damaged import ANY, FILES, LIMIT_S, Answers, damage, documented_statuses, send
from tests.service.shapes import check_problem

pytestmark = pytest.mark.slow

NUM: Final = 300


@pytest.fixture(scope="module")
def documented(client: TestClient) -> dict[str, set[int]]:
    return documented_statuses(client.get("/openapi.json").json())


@pytest.mark.parametrize("name", FILES)
def test_every_file_is_what_its_name_says_before_it_is_damaged(client: TestClient, name: str) -> None:
    answer = client.post("/eyes", content=FILES[name], headers=ANY)
    refused = name in ("gif", "tiff")
    assert answer.status_code == (415 if refused else 200), answer.text


@pytest.mark.parametrize("name", FILES)
def test_damaged_pictures_get_documented_answers_in_time(
    client: TestClient, documented: dict[str, set[int]], tmp_path: Path, name: str
) -> None:
    for sent in damage(name, -(-NUM // len(FILES))):
        begin = time.monotonic()
        (tmp_path / "last").write_bytes(sent.data)
        answer = client.post(sent.path, content=sent.data, headers=ANY)
        about = f"{sent.about}, kept in {tmp_path}/last: {answer.text[:200]}"
        assert answer.status_code in documented[sent.path.partition("?")[0]], about
        assert time.monotonic() - begin < LIMIT_S, about
        if answer.status_code != 200:
            code = answer.json()["code"]
            members = ["num_below_threshold"] if code == "no_eye_found" else []
            check_problem(answer, answer.status_code, code, *members)


def test_what_a_running_service_answers_to_damaged_pictures_is_counted(address: str) -> None:
    answers = send(address, 2 * len(FILES), num_connections=3)
    assert answers.by_code.total() == 2 * len(FILES) and len(answers.by_code) > 1
    assert not answers.wrong and 0 < answers.slowest_s < LIMIT_S


@pytest.mark.parametrize(("status", "seconds"), [(500, 0.1), (413, 0.1), (200, LIMIT_S + 1)])
def test_an_answer_that_must_not_be_is_told(status: int, seconds: float) -> None:
    answers, (sent,) = Answers(), damage("png", 1)
    answers.note(sent, httpx.Response(status, json={"code": "any"}), seconds, {200, 415})
    assert answers.wrong == [f"png 0 flip_bytes: {status}{' any' * (status != 200)} after {seconds:.1f} s"]
