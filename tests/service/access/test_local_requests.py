"""Which requests reach a service without API keys on this machine, and which pages cannot send any."""

from pathlib import Path

import httpx
import pytest

from service.access.local_requests import refuse_foreign
from service.errors import NotLocal
from service.settings import Settings
from tests.running import running_service
from tests.service.shapes import check_problem


def head(host: str, **others: str) -> list[tuple[bytes, bytes]]:
    fields = {"host": host} | {name.replace("_", "-"): value for name, value in others.items()}
    return [(name.encode(), value.encode()) for name, value in fields.items()]


@pytest.mark.parametrize(
    "host",
    ["localhost", "LocalHost:8000", "127.0.0.1", "127.0.0.1:8000", "127.8.9.1:80", "[::1]", "[::1]:8000"],
)
def test_a_loopback_name_is_taken(host: str) -> None:
    refuse_foreign("POST", head(host))
    refuse_foreign("GET", head(host, origin="https://elsewhere.example", sec_fetch_site="cross-site"))
    refuse_foreign("POST", head(host, origin=f"http://{host}", sec_fetch_site="same-origin"))
    refuse_foreign("POST", head(host, origin=f"http://{host}"))
    refuse_foreign("POST", head(host, sec_fetch_site="none"))  # the user's own doing, no page's


@pytest.mark.parametrize(
    "host",
    [
        "",
        "example.org",
        "localhost.example.org",
        "127.0.0.1.example.org:8000",
        "x@localhost",
        "10.0.0.1",
        "[::2]",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_another_name_is_refused(host: str, method: str) -> None:
    with pytest.raises(NotLocal, match=r"The Host is .*127\.0\.0\.1"):
        refuse_foreign(method, head(host))
    with pytest.raises(NotLocal):
        refuse_foreign(method, head("localhost") + head(host))


def test_a_program_may_send_no_host() -> None:
    refuse_foreign("GET", [])


@pytest.mark.parametrize(
    "others",
    [
        {"origin": "https://example.org"},
        {"origin": "null"},
        {"origin": "http://localhost:3000", "sec_fetch_site": "same-site"},
        {"sec_fetch_site": "cross-site"},
    ],
)
def test_a_page_of_another_site_cannot_post(others: dict[str, str]) -> None:
    with pytest.raises(NotLocal, match="another site"):
        refuse_foreign("POST", head("localhost:8000", **others))


@pytest.mark.parametrize("allowed", ["https://example.org", "*"])
def test_a_page_of_an_allowed_site_can(allowed: str) -> None:
    others = {"origin": "https://example.org", "sec_fetch_site": "cross-site"}
    refuse_foreign("POST", head("localhost", **others), allowed_origins=(allowed,))
    with pytest.raises(NotLocal):
        refuse_foreign(
            "POST", head("localhost", origin="https://b.example"), allowed_origins=("https://a.example",)
        )


def test_only_a_service_that_nobody_was_let_into_is_local_only() -> None:
    assert Settings().is_local_only
    for others in (
        Settings(api_keys=("0" * 64,)),
        Settings(api_keys_file="x"),
        Settings(allow_anonymous=True),
    ):
        assert not others.is_local_only


def test_a_service_without_keys_refuses_what_is_not_local(model: Path, tmp_path: Path) -> None:
    with running_service(tmp_path, model=model) as service:
        assert httpx.get(f"{service.address}/livez").status_code == 200
        answer = httpx.get(f"{service.address}/livez", headers={"host": "example.org"})
        check_problem(answer, 403, "not_local")
        answer = httpx.post(
            f"{service.address}/eyes", content=b"x" * 100_000, headers={"origin": "https://a.example"}
        )
        check_problem(answer, 403, "not_local")


@pytest.mark.slow
def test_a_service_for_everybody_takes_any_host(model: Path, tmp_path: Path) -> None:
    with running_service(tmp_path, model=model, allow_anonymous=True) as service:
        assert httpx.get(f"{service.address}/livez", headers={"host": "example.org"}).status_code == 200
