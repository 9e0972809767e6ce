"""Routes that are called without FastAPI's resolving: described, guarded and answered as any other."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import APIRouter, Depends, FastAPI
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response
from starlette.testclient import TestClient
from starlette.types import Message, Receive, Scope, Send

from service.access.admission import require_key
from service.access.api_keys import hash_key
from service.http.app import create_app
from service.http.direct import DirectRoute, Shortcut
from service.http.middleware import Stamps, Watch
from service.http.problems import EXPECTED, answer_problem
from service.observability.metrics import Metrics
from service.settings import Settings
from tests.service.shapes import check_problem

ROUTES = {"/synthesize", "/synthesize/batch", "/eyes"}


def make_app(model: Path, *, tracing: bool = False) -> FastAPI:
    key = hash_key("secret")
    return create_app(Settings(model=str(model), device="cpu", api_keys=(key,), tracing=tracing))


@pytest.fixture(scope="module")
def app(model: Path) -> FastAPI:
    return make_app(model)


@pytest.fixture(scope="module")
def client(app: FastAPI) -> Iterator[TestClient]:
    with TestClient(app) as client:
        yield client


def direct_routes(app: FastAPI) -> list[DirectRoute]:
    return [route for route in app.routes if isinstance(route, DirectRoute)]


def test_every_route_that_takes_photos_is_direct(app: FastAPI) -> None:
    assert {route.path for route in direct_routes(app)} == ROUTES


def test_they_are_described_as_fastapi_itself_would(app: FastAPI) -> None:
    plain = APIRouter(tags=["photos"], route_class=APIRoute, dependencies=[Depends(require_key)])
    for route in direct_routes(app):
        plain.add_api_route(
            route.path,
            route.endpoint,
            methods=list(route.methods or ()),
            summary=route.summary,
            response_class=route.response_class,
            response_model=route.response_model,
            responses=route.responses,
            openapi_extra=route.openapi_extra,
        )
    resolved = FastAPI()
    resolved.include_router(plain)
    described = {path: each for path, each in app.openapi()["paths"].items() if path in ROUTES}
    assert described == resolved.openapi()["paths"]
    assert all(each["post"]["security"] for each in described.values())


@pytest.mark.parametrize("path", sorted(ROUTES))
def test_none_is_reached_without_a_key(client: TestClient, path: str) -> None:
    check_problem(client.post(path), 401, "unauthorized")
    check_problem(client.post(path, headers={"X-API-Key": "guessed"}), 401, "unauthorized")
    check_problem(client.post(path, headers={"Authorization": "Basic secret"}), 401, "unauthorized")
    for header in ({"X-API-Key": "secret"}, {"Authorization": "bearer  secret "}):
        assert client.post(path, headers=header).json()["code"] == "empty_body"


async def never(scope: Scope, receive: Receive, send: Send) -> None:
    raise AssertionError(f"{scope['path']} came to the router")


def test_photos_do_not_come_to_the_router_and_all_else_does(app: FastAPI) -> None:
    shortcut = Shortcut(never, app.routes, EXPECTED, answer_problem)
    around = Stamps(Watch(shortcut, Metrics()))

    async def served(scope: Scope, receive: Receive, send: Send) -> None:
        await around({**scope, "app": app}, receive, send)

    client = TestClient(served, raise_server_exceptions=True)
    for path in ROUTES:
        check_problem(client.post(path), 401, "unauthorized")
    for method, path in (("GET", "/synthesize"), ("POST", "/synthesize/"), ("GET", "/livez")):
        with pytest.raises(AssertionError, match="came to the router"):
            client.request(method, path)


def has_shortcut(app: FastAPI) -> bool:
    return "Shortcut" in repr(app.user_middleware)


def test_traced_requests_go_by_the_router(model: Path) -> None:
    assert has_shortcut(make_app(model))
    traced = make_app(model, tracing=True)
    assert not has_shortcut(traced)
    with TestClient(traced) as client:
        check_problem(client.post("/eyes"), 401, "unauthorized")


def test_behind_a_prefix_the_router_finds_them(model: Path) -> None:
    with TestClient(make_app(model), root_path="/faces") as client:
        for path in ROUTES:
            check_problem(client.post(f"/faces{path}"), 401, "unauthorized")
            check_problem(client.post(path), 401, "unauthorized")
        check_problem(client.post("/faces/nothing"), 404, "not_found")


def test_what_nobody_expected_goes_on_to_the_last_handler(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(request: Request) -> Response:
        raise ZeroDivisionError

    app = make_app(model)
    (route,) = (each for each in direct_routes(app) if each.path == "/eyes")
    monkeypatch.setattr(route, "endpoint", fail)
    with TestClient(app, raise_server_exceptions=False) as client:
        problem = client.post("/eyes", headers={"X-API-Key": "secret"})
    check_problem(problem, 500, "internal_error")


def test_another_server_that_cuts_a_request_off_is_not_answered() -> None:
    """Ray's does so when its caller has left; ours, when it stops: see test_server.py."""

    async def cut_off() -> list[Message]:
        sent: list[Message] = []

        async def send(message: Message) -> None:
            sent.append(message)

        async def fail(request: Request) -> Response:
            raise asyncio.CancelledError

        route = DirectRoute("/cut", fail, methods=["POST"])
        scope = {"type": "http", "method": "POST", "headers": [], "app": create_app(Settings())}
        with pytest.raises(asyncio.CancelledError):
            await route.handle(scope, never_more, send)
        return sent

    assert asyncio.run(cut_off()) == []


async def never_more() -> Message:
    raise AssertionError("nothing is left to be received")


@pytest.mark.parametrize("path", sorted(ROUTES))
def test_other_methods_are_refused_as_everywhere(client: TestClient, path: str) -> None:
    problem = client.get(path)
    check_problem(problem, 405, "method_not_allowed")
    assert problem.headers["allow"] == "POST"
