"""Writes docs/page.png: `python -m tests.page_picture`, the page in Chromium with NASA's astronaut."""

import io
from pathlib import Path

import PIL.Image

from tests.browser import Watched, open_browser
from tests.fakes import astronaut, encoded
from tests.running import run_service


def write_page_picture(path: Path) -> None:
    """The page as it is after a photo was dropped on it, in 256 colors: a third of the bytes."""
    with run_service(eye_finder="learned") as address, open_browser() as browser:
        page = Watched(browser.new_page(viewport={"width": 1280, "height": 900}), address)
        page.drop(encoded(astronaut(), "jpeg", quality=92), "photo.jpg", "image/jpeg")
        page.wait_for_face_of("right eye")
        picture = PIL.Image.open(io.BytesIO(page.page.screenshot(full_page=True))).convert("RGB")
    picture.quantize(256).save(path, optimize=True)


if __name__ == "__main__":
    write_page_picture(Path(__file__).parent.parent / "docs" / "page.png")
