"""The pages in a real browser, under the policy they are sent with; skipped where there is no Chromium."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.http.app import create_app
from service.settings import Settings
from tests.running import serving

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed"),
]


@pytest.fixture(scope="module")
def address(model: Path) -> Iterator[str]:
    with serving(create_app(Settings(model=str(model), device="cpu"))) as address:
        yield address


def browse(url: str, home: Path) -> tuple[str, str]:
    """What the page is once its scripts have run, and what the browser's console says."""
    done = subprocess.run(
        [
            str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            "--no-first-run", "--disable-background-networking", "--disable-component-update",
            "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
            f"--user-data-dir={home}", "--virtual-time-budget=20000",
            "--enable-logging=stderr", "--dump-dom", url,
        ],
        capture_output=True, text=True, timeout=180, check=True,
    )  # fmt: skip
    return done.stdout, "\n".join(re.findall(r"^.*CONSOLE.*$", done.stderr, flags=re.M))


def test_the_documentation_is_drawn_and_breaks_no_rule_of_its_policy(address: str, tmp_path: Path) -> None:
    page, console = browse(f"{address}/docs", tmp_path)
    assert "swagger-ui" in page
    for path in ("/synthesize", "/eyes", "/readyz"):
        assert f'data-path="{path}"' in page
    assert console == ""


def test_the_page_is_drawn_and_breaks_no_rule_of_its_policy(address: str, tmp_path: Path) -> None:
    page, console = browse(f"{address}/", tmp_path)
    assert "Choose a photo" in page
    assert console == ""


def test_a_broken_rule_would_be_seen(address: str, tmp_path: Path) -> None:
    """The two tests above see what they look for: here a script runs where the policy forbids all."""
    file = tmp_path / "page.html"
    file.write_text(
        "<meta http-equiv='Content-Security-Policy' content=\"default-src 'none'\"><script>1</script>"
    )
    _, console = browse(file.as_uri(), tmp_path / "home")
    assert "Content Security Policy" in console
