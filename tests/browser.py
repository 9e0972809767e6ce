"""Real Chromium, driven by Playwright, and a page in it that records its errors."""

import base64
import time
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, ConsoleMessage, FileChooser, Page, Request, expect, sync_playwright

from tests.real import require

PATIENCE_MS = 180_000
"""Other work on the machine is no failure."""

PRESSES, SECONDS_A_PRESS = 6, 20
"""A busy browser may take a key's down and up, seconds apart, for no press, and opens no dialogue."""

expect.set_options(timeout=PATIENCE_MS)


@contextmanager
def open_browser(*arguments: str) -> Iterator[Browser]:
    """Headless Chromium; as root it runs only without its own sandbox."""
    path = require("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox", *arguments], timeout=PATIENCE_MS
        )
        yield browser
        browser.close()


class Watched:
    """A page at `address`: every error on its console, and every address that it asked for."""

    def __init__(self, page: Page, address: str) -> None:
        self.page = page
        self.address = address
        self.errors: list[str] = []
        self.asked: list[str] = []
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", self._note)
        page.goto(address)

    def _hear(self, message: ConsoleMessage) -> None:
        # An answer of 4xx is told by the browser itself, whatever the page makes of it.
        if message.type in ("error", "warning") and "the server responded with a status" not in message.text:
            self.errors.append(message.text)

    def _note(self, request: Request) -> None:
        self.asked.append(request.url)

    def drop(self, data: bytes, name: str, media_type: str) -> None:
        """Drops a file on the page, by the event that a browser sends."""
        self._hand_over("drop", "dataTransfer", "DragEvent", data, name, media_type)

    def paste(self, data: bytes, name: str, media_type: str) -> None:
        """Pastes a file into the page."""
        self._hand_over("paste", "clipboardData", "ClipboardEvent", data, name, media_type)

    def _hand_over(self, event: str, holder: str, kind: str, data: bytes, name: str, media_type: str) -> None:
        self.page.evaluate(
            """([event, holder, kind, data, name, type]) => {
              const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
              const held = new DataTransfer();
              held.items.add(new File([bytes], name, { type }));
              window.droppedAt = performance.now();
              const options = { [holder]: held, bubbles: true, cancelable: true };
              document.querySelector("#drop").dispatchEvent(new globalThis[kind](event, options));
            }""",
            [event, holder, kind, base64.b64encode(data).decode(), name, media_type],
        )

    def press_for_a_file(self, key: str) -> FileChooser:
        """Presses `key` until the browser opens its file dialog."""
        choosers: list[FileChooser] = []
        self.page.on("filechooser", lambda chooser: choosers.append(chooser))
        for _ in range(PRESSES):
            self.page.keyboard.press(key)
            until = time.monotonic() + SECONDS_A_PRESS
            while time.monotonic() < until:
                if choosers:
                    return choosers[0]
                self.page.wait_for_timeout(50)
        raise AssertionError(f"{PRESSES} presses of {key} opened no dialogue")

    def wait_for_face(self) -> None:
        """Returns once the first face of the latest question is shown."""
        self.page.wait_for_selector('.person[aria-busy="false"] .face img', state="visible")

    def wait_for_face_of(self, eye: str) -> None:
        """Returns once the status says that a face is drawn from `eye` and all eyes are offered."""
        self.wait_for_status(f"Done: a face drawn from the {eye}.")

    def wait_for_status(self, text: str) -> None:
        """Returns once the status says `text` and all eyes are offered."""
        expect(self.page.locator("#status")).to_contain_text(text)
        expect(self.page.locator("#result")).to_have_attribute("aria-busy", "false")

    def choose(self, eye: str) -> None:
        """Chooses an eye of the first person, by its name."""
        self.page.get_by_role("radio", name=eye).first.check()

    def problem(self) -> str:
        """What went wrong, once the page says so."""
        expect(self.page.locator("#problem")).not_to_be_empty()
        return self.page.inner_text("#problem")
