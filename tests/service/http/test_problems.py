"""Every error leaves the service in one shape, whoever raised it."""

import logging

import pytest
from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.testclient import TestClient

from service.errors import Eye2FaceError, MethodNotAllowed, NotFound
from service.http.middleware import RequestMiddleware
from service.http.problems import HANDLED_ERRORS, problem_response
from service.observability.metrics import Metrics
from tests.service.shapes import check_problem


def _all_below(kind: type[Eye2FaceError]) -> list[type[Eye2FaceError]]:
    return [kind, *(each for child in kind.__subclasses__() for each in _all_below(child))]


KINDS = {kind.__name__: kind for kind in _all_below(Eye2FaceError)}


@pytest.fixture(scope="module")
def failing() -> TestClient:
    """A service whose routes do nothing but fail, handled as the real one does it."""
    app = FastAPI()
    app.add_middleware(RequestMiddleware, metrics=Metrics())
    for handled in HANDLED_ERRORS:
        app.add_exception_handler(handled, problem_response)

    @app.get("/ours/{name}")
    async def _ours(name: str) -> None:
        raise KINDS[name]("something was found; do something else")

    @app.get("/http/{status}")
    async def _http(status: int) -> None:
        raise HTTPException(status, "the framework says so", {"X-Own": "kept"})

    @app.get("/crash")
    async def _crash() -> None:
        raise RuntimeError("secret of the inside")

    return TestClient(app, raise_server_exceptions=False)


@pytest.mark.parametrize("name", KINDS)
def test_every_error_of_the_tree_has_the_one_shape(failing: TestClient, name: str) -> None:
    kind = KINDS[name]
    problem = check_problem(failing.get(f"/ours/{name}"), kind.status, kind.code)
    assert problem["detail"].endswith("something was found; do something else")
    assert problem["title"] == kind.title


def test_every_error_that_is_raised_has_its_own_code() -> None:
    leaves = [kind for kind in KINDS.values() if kind.__module__ == Eye2FaceError.__module__]
    leaves = [kind for kind in leaves if not kind.__subclasses__()]
    assert len({kind.code for kind in leaves}) == len(leaves)


def test_a_path_that_is_not_served_has_the_one_shape(failing: TestClient) -> None:
    assert "/nowhere" in check_problem(failing.get("/nowhere"), 404, NotFound.code)["detail"]


def test_a_method_that_is_not_taken_has_the_one_shape_and_names_the_others(failing: TestClient) -> None:
    response = failing.delete("/crash")
    assert "GET" in check_problem(response, 405, MethodNotAllowed.code)["detail"]
    assert response.headers["allow"] == "GET"


@pytest.mark.parametrize("status", [400, 418, 429])
def test_an_error_of_the_framework_has_the_one_shape(failing: TestClient, status: int) -> None:
    response = failing.get(f"/http/{status}")
    assert check_problem(response, status, "bad_request")["detail"] == "the framework says so"
    assert response.headers["x-own"] == "kept"


def test_a_parameter_that_the_framework_refuses_has_the_one_shape(failing: TestClient) -> None:
    assert "status='high'" in check_problem(failing.get("/http/high"), 422, "invalid_parameter")["detail"]


def test_a_crash_tells_nothing_of_the_inside(failing: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "service"):
        response = failing.get("/crash")
    problem = check_problem(response, 500, "internal_error")
    assert "secret" not in response.text and "Traceback" not in response.text
    assert problem["request_id"] in caplog.text
