"""Checks of every HTTP response: standard headers, and the shape of problems."""

import re
from typing import Any, Protocol


class Answer(Protocol):
    """An answer of any HTTP client."""

    @property
    def status_code(self) -> int: ...
    @property
    def headers(self) -> Any: ...
    @property
    def text(self) -> str: ...
    def json(self) -> Any: ...


def check_standard_headers(answer: Answer) -> None:
    """Asserts the headers that all answers carry."""
    assert answer.headers["x-synthetic"] == "true"
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-request-id"])
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["link"] == '</policy>; rel="terms-of-service"'
    assert answer.headers["content-security-policy"].startswith("default-src 'none'; ")


def check_problem(answer: Answer, status: int, code: str, *members: str) -> dict[str, Any]:
    """Asserts the one shape of errors, with these members more, and returns the problem."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    check_standard_headers(answer)
    problem: dict[str, Any] = answer.json()
    keys = {"type", "title", "status", "detail", "code", "request_id", "not_for_identification"}
    assert set(problem) == keys | set(members)
    assert problem["code"] == code, problem
    assert problem["type"] == f"urn:eye2face:{code}"
    assert problem["status"] == status
    assert problem["title"] and problem["detail"]
    assert problem["request_id"] == answer.headers["x-request-id"]
    assert problem["not_for_identification"] is True
    return problem
