"""What a browser gets: all of it is shipped, nothing comes from elsewhere, no script stands in the page."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import pytest
from starlette.testclient import TestClient

from service import __version__
from service.http.app import create_app
from service.http.pages import WEB
from service.inference.eye_finder import read_finder_info
from service.inference.model_files import model_path
from service.settings import Settings
from tests.service.shapes import check_standard_headers

PAGES = ["/", "/docs"]


class Elements(HTMLParser):
    """Every element of a page with its attributes, and the text of its scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.all: list[tuple[str, dict[str, str | None]]] = []
        self.inline = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.all.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.all and self.all[-1][0] in ("script", "style"):
            self.inline += data.strip()


@pytest.mark.parametrize("path", PAGES)
def test_a_page_forbids_all_but_its_own_files(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy and "http" not in policy
    check_standard_headers(answer)


@pytest.mark.parametrize("path", PAGES)
def test_a_page_holds_no_script_or_style_of_its_own(client: TestClient, path: str) -> None:
    page = Elements(client.get(path).text)
    assert page.inline == ""
    for _, attributes in page.all:
        assert not any(name == "style" or name.startswith("on") for name in attributes)


@pytest.mark.parametrize("path", PAGES)
def test_every_file_that_a_page_names_is_served(client: TestClient, path: str) -> None:
    named = [each.get("src") or each.get("href") for _, each in Elements(client.get(path).text).all]
    files = [name for name in named if name]
    assert files
    for file in files:
        assert not file.startswith("/")  # a proxy may have put the service below a path of its own
        assert client.get(urljoin(path, file)).status_code == 200


def test_every_module_that_a_script_imports_is_served(client: TestClient) -> None:
    for script in WEB.glob("*.js"):
        for module in re.findall(r'from "\./([^"]+)"', script.read_text()):
            answer = client.get(f"/web/{module}")
            assert answer.status_code == 200, f"{script.name} imports {module}"
            assert answer.headers["content-type"].startswith("text/javascript")


def test_our_own_files_name_no_other_host() -> None:
    for file in WEB.glob("*.*"):
        for address in re.findall(r"https?://[^\s\"'<>]+", file.read_text()):
            assert address == "http://www.w3.org/2000/svg", file  # a name, not fetched


def test_the_page_says_that_the_face_is_a_guess(client: TestClient) -> None:
    assert "a guess and no identification" in client.get("/").text


def test_every_control_of_the_page_has_a_label(client: TestClient) -> None:
    page = Elements(client.get("/").text)
    labelled = {each["for"] for tag, each in page.all if tag == "label" and "for" in each}
    assert {each["id"] for tag, each in page.all if tag == "input" and "id" in each} == labelled
    assert all("alt" in each for tag, each in page.all if tag == "img")


def _facts(text: str) -> dict[str, Any]:
    """What the page tells its scripts."""
    (body,) = (attributes for tag, attributes in Elements(text).all if tag == "body")
    facts: dict[str, Any] = json.loads(body["data-service"] or "")
    return facts


def test_the_page_knows_what_is_asked_of_an_eye(model: Path) -> None:
    settings = Settings(model=str(model), min_eye_px=7, min_eye_sharpness=0.3)
    with TestClient(create_app(settings)) as client:
        facts = _facts(client.get("/").text)
    assert facts["thresholds"] == {"size_px": 7, "light": 0.05, "sharpness": 0.3}
    assert facts["needs_key"] is False


@pytest.mark.parametrize(("finder", "asks"), [("learned", True), ("haar", False)])
def test_the_page_asks_about_doubtful_eyes_where_scores_are_probabilities(
    model: Path, finder: str, asks: bool
) -> None:
    with TestClient(create_app(Settings(model=str(model), eye_finder=finder))) as client:
        assert _facts(client.get("/").text)["scores_are_probabilities"] is asks


def test_the_page_knows_that_a_key_is_needed(model: Path) -> None:
    settings = Settings(model=str(model), api_keys="0" * 64)
    with TestClient(create_app(settings)) as client:
        assert _facts(client.get("/").text)["needs_key"] is True


def test_the_footer_names_version_model_and_license(client: TestClient, model: Path) -> None:
    text = client.get("/").text
    assert f"eye2face {__version__}" in text
    assert f"model {model.stem} " in text
    assert f"eye finder {read_finder_info(model_path('eye_finder')).version}, for any use" in text
    assert "Nothing is stored, nothing is sent elsewhere." in text


def test_the_page_is_served_while_the_model_loads(model: Path) -> None:
    without_start = TestClient(create_app(Settings(model=str(model))))
    assert "the model is loading" in without_start.get("/").text


def test_the_page_links_to_the_documentation_only_where_it_is_served(model: Path) -> None:
    with TestClient(create_app(Settings(model=str(model), docs=False))) as client:
        text = client.get("/").text
    assert 'href="docs' not in text
    assert 'href="policy"' in text


@pytest.mark.parametrize("name", ["face", "drawn-1", "drawn-2"])
def test_a_shipped_face_is_marked_as_synthetic(name: str) -> None:
    assert b"trainedAlgorithmicMedia" in (WEB / "examples" / f"{name}.jpg").read_bytes()


def test_the_page_is_small() -> None:
    """All that a first visit loads; a change that doubles it should be meant."""
    files = [WEB / "index.html", WEB / "icon.svg", *WEB.glob("page.css"), *WEB.glob("examples/*")]
    scripts = [path for path in WEB.glob("*.js") if path.name != "docs.js"]
    assert sum(path.stat().st_size for path in files + scripts) < 140_000


def test_swagger_ui_comes_with_its_license(client: TestClient) -> None:
    assert "Apache License" in client.get("/web/swagger/LICENSE").text
    assert "SmartBear" in client.get("/web/swagger/NOTICE").text


@pytest.mark.parametrize("wanted", ["bytes=0-1", "bytes=0-1,3-4", "bytes=99999999-", "bytes=5-1", "lines=1"])
def test_a_file_is_served_whole(client: TestClient, wanted: str) -> None:
    for path in ("/web/swagger/LICENSE", "/docs"):
        answer = client.get(path, headers={"range": wanted})
        assert (answer.status_code, answer.content) == (200, client.get(path).content)
        assert answer.headers.get("accept-ranges", "none") == "none"
