"""Routes that take photos: guarded, described, and called without FastAPI's dependency injection."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response
from starlette.testclient import TestClient
from starlette.types import Message

from service.access.api_keys import hash_key
from service.http.app import create_app
from service.http.routes.photos import AdmittedRoute, photo_routes
from service.settings import Settings
from tests.service.shapes import check_problem

PATHS = ["/synthesize", "/synthesize/batch", "/eyes"]


@pytest.fixture(scope="module")
def app(model: Path) -> FastAPI:
    return create_app(Settings(model=str(model), device="cpu", api_keys=(hash_key("secret"),)))


@pytest.fixture(scope="module")
def client(app: FastAPI) -> Iterator[TestClient]:
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


def test_no_route_that_takes_photos_has_dependencies_that_nobody_would_resolve() -> None:
    routes = [route for route in photo_routes.routes if isinstance(route, AdmittedRoute)]
    assert [route.path for route in routes] == PATHS
    for route in routes:
        assert not route.dependant.dependencies and route.dependant.request_param_name == "request"
        assert not route.dependant.query_params and not route.dependant.body_params


@pytest.mark.parametrize("path", PATHS)
def test_a_key_is_required_and_described(app: FastAPI, client: TestClient, path: str) -> None:
    check_problem(client.post(path), 401, "unauthorized")
    check_problem(client.post(path, headers={"X-API-Key": "guessed"}), 401, "unauthorized")
    check_problem(client.post(path, headers={"Authorization": "Basic secret"}), 401, "unauthorized")
    for header in ({"X-API-Key": "secret"}, {"Authorization": "bearer  secret "}):
        assert client.post(path, headers=header).json()["code"] == "empty_body"
    described = app.openapi()["paths"]
    assert described[path]["post"]["security"] == described["/models"]["get"]["security"]


def test_the_routes_are_found_behind_a_prefix(app: FastAPI) -> None:
    client = TestClient(app, root_path="/faces")  # not started: who is not admitted needs no model
    for path in PATHS:
        check_problem(client.post(f"/faces{path}"), 401, "unauthorized")
        check_problem(client.post(path), 401, "unauthorized")
    check_problem(client.post("/faces/nothing"), 404, "not_found")


@pytest.mark.parametrize("path", PATHS)
def test_other_methods_are_refused(client: TestClient, path: str) -> None:
    problem = client.get(path)
    check_problem(problem, 405, "method_not_allowed")
    assert problem.headers["allow"] == "POST"


def test_an_error_that_nobody_expected_is_an_internal_error(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(request: Request) -> Response:
        raise ZeroDivisionError

    (route,) = (each for each in photo_routes.routes if getattr(each, "path", "") == "/eyes")
    monkeypatch.setattr(route, "endpoint", fail)
    problem = client.post("/eyes", headers={"X-API-Key": "secret"})
    check_problem(problem, 500, "internal_error")


@pytest.mark.parametrize("path", PATHS)
def test_a_body_that_was_answered_holds_no_memory(app: FastAPI, client: TestClient, path: str) -> None:
    image, key = {"image": ("a.png", b"no picture", "image/png")}, {"X-API-Key": "secret"}
    assert client.post(path, files=image, headers=key).status_code in (200, 415)
    assert client.post(path, content=b"no form", headers=key).status_code == 415
    assert app.state.uploads.num_held == 0


def test_a_response_holds_memory_until_its_last_byte_has_left(
    app: FastAPI, client: TestClient, photo: bytes
) -> None:
    counted = list[tuple[int, int]]()

    async def receive() -> Message:
        if request:
            return request.pop()
        await asyncio.Event().wait()  # a caller that stays
        raise AssertionError

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body":
            counted.append((app.state.uploads.num_held, len(message["body"])))

    request: list[Message] = [{"type": "http.request", "body": photo}]
    headers = [(b"x-api-key", b"secret"), (b"content-type", b"image/jpeg"), (b"content-length", b"1")]
    scope = {
        "type": "http", "method": "POST", "path": "/eyes", "query_string": b"overlay=true",
        "headers": headers, "state": client.app_state.copy(),
    }  # fmt: skip
    assert client.portal is not None
    client.portal.call(app, scope, receive, send)
    ((num_held, num_bytes),) = counted
    assert num_held == num_bytes > len(photo)
    assert app.state.uploads.num_held == 0


def test_a_response_without_room_is_refused(app: FastAPI, client: TestClient, photo: bytes) -> None:
    headers, before = {"X-API-Key": "secret", "content-type": "image/jpeg"}, app.state.uploads.most
    try:
        app.state.uploads.most = app.state.uploads.large = len(photo) + 1
        app.state.uploads.num_held = 1  # of another request
        check_problem(client.post("/eyes?overlay=true", content=photo, headers=headers), 503, "overloaded")
        assert client.post("/eyes", content=photo, headers=headers).status_code == 200
        assert app.state.uploads.num_held == 1
    finally:
        app.state.uploads.most, app.state.uploads.num_held = before, 0
