"""Routes that are called without FastAPI's resolving: described, guarded and answered as any other."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import APIRouter, Depends, FastAPI
from fastapi.routing import APIRoute
from starlette.testclient import TestClient

from service.admission import require_key
from service.app import create_app
from service.auth import hash_key
from service.direct import DirectRoute
from service.settings import Settings
from tests.service.shapes import check_problem

ROUTES = {"/synthesize", "/synthesize/batch", "/eyes"}


@pytest.fixture(scope="module")
def app(model: Path) -> FastAPI:
    return create_app(Settings(model=str(model), device="cpu", api_keys=(hash_key("secret"),)))


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


@pytest.mark.parametrize("path", sorted(ROUTES))
def test_other_methods_are_refused_as_everywhere(client: TestClient, path: str) -> None:
    problem = client.get(path)
    check_problem(problem, 405, "method_not_allowed")
    assert problem.headers["allow"] == "POST"
