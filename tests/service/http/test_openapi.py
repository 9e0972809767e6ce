"""The description of the interface: it names all that callers can send and get."""

from typing import Any

import pytest
from starlette.testclient import TestClient

from service import errors

ROUTES = ["/synthesize", "/eyes"]


@pytest.fixture(scope="module")
def document(client: TestClient) -> dict[str, Any]:
    answer: dict[str, Any] = client.get("/openapi.json").json()
    return answer


@pytest.mark.parametrize("route", ROUTES)
def test_the_three_forms_of_body_are_described(document: dict[str, Any], route: str) -> None:
    body = document["paths"][route]["post"]["requestBody"]
    assert set(body["content"]) == {"multipart/form-data", "image/*", "application/json"}
    assert body["required"]
    for form in ("multipart/form-data", "application/json"):  # what stands beside the photo is refused
        assert body["content"][form]["schema"]["additionalProperties"] is False


@pytest.mark.parametrize("route", ROUTES)
def test_every_error_of_a_route_is_a_problem(document: dict[str, Any], route: str) -> None:
    responses = document["paths"][route]["post"]["responses"]
    failures = {status: each for status, each in responses.items() if status != "200"}
    assert {"400", "401", "403", "406", "408", "413", "415", "422", "429", "431", "503", "504"} == set(
        failures
    )
    for each in failures.values():
        assert set(each["content"]) == {"application/problem+json"}


def test_a_batch_is_described_with_its_form_its_two_answers_and_its_errors(document: dict[str, Any]) -> None:
    route = document["paths"]["/synthesize/batch"]["post"]
    form = route["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert form["properties"]["image"]["type"] == "array"
    assert set(route["responses"]["200"]["content"]) == {"application/json", "application/zip"}
    failures = {"400", "401", "403", "406", "408", "413", "415", "422", "429", "431", "503"}
    assert failures | {"200"} == set(route["responses"])


NOT_OF_A_PHOTO = {
    errors.NotFound,
    errors.MethodNotAllowed,
    errors.ModelNotFound,
    errors.ModelContractUnknown,
    errors.ModelSelfTestFailed,
    errors.RuntimeMissing,
    errors.DeviceUnavailable,
}
"""Errors of another route or method, and of the start."""


def leaves(kind: type[errors.Eye2FaceError]) -> list[type[errors.Eye2FaceError]]:
    """The kinds of the tree that are raised."""
    return [leaf for each in kind.__subclasses__() for leaf in leaves(each)] or [kind]


def test_every_code_that_a_photo_can_meet_is_described(document: dict[str, Any]) -> None:
    text = str(document["paths"]["/synthesize"]["post"]["responses"])
    ours = [each for each in leaves(errors.Eye2FaceError) if each.__module__ == "service.errors"]
    assert [each.code for each in ours if each not in NOT_OF_A_PHOTO and f"`{each.code}`" not in text] == []
    assert not [each.code for each in NOT_OF_A_PHOTO if f"`{each.code}`" in text]


def test_the_query_is_described_with_its_values(document: dict[str, Any]) -> None:
    parameters = {each["name"]: each for each in document["paths"]["/synthesize"]["post"]["parameters"]}
    options = {"eye", "person", "input", "format", "label", "guesses", "seed", "layout"}
    assert set(parameters) == options | {"X-Deadline-Ms"}
    assert parameters["eye"]["schema"]["enum"] == ["auto", "left", "right"]
    assert all(each["description"] for each in parameters.values())


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    shapes = document["components"]["schemas"]

    def references(node: Any) -> list[str]:
        if isinstance(node, dict):
            own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
            return own + [each for child in node.values() for each in references(child)]
        return [each for child in node for each in references(child)] if isinstance(node, list) else []

    names = {name.removeprefix("#/components/schemas/") for name in references(document)}
    assert {"Problem", "SynthesisAnswer", "EyesAnswer"} <= names <= set(shapes)
    assert "HTTPValidationError" not in shapes


def test_the_faces_in_json_and_as_an_image_are_both_described(document: dict[str, Any]) -> None:
    content = document["paths"]["/synthesize"]["post"]["responses"]["200"]["content"]
    assert set(content) == {"image/png", "image/jpeg", "image/webp", "application/json"}


def test_only_photos_need_a_key(document: dict[str, Any]) -> None:
    assert document["paths"]["/synthesize"]["post"]["security"]
    assert "security" not in document["paths"]["/livez"]["get"]
