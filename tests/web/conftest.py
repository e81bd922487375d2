"""A real browser in front of the real API. Where there is no Chromium, its tests are skipped, with the reason."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

from helpers.adapters.asgi_server import asgi_served
from helpers.adapters.metrics import ListenAddress
from lab.programs import NoProgram, find_program
from tests.manager.scene import ALICE
from tests.web.scene import WebScene

# As root in a container there is no sandbox to be had; the pages are our own. It talks to nobody but the test.
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
# What is expected live is due within two seconds; this is a bound against hanging.
BOUND_MS = 20_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One for a file's tests. While it is there, its event loop runs, and no other test may begin one of its own."""
    found = find_program("chromium")
    if isinstance(found, NoProgram):
        pytest.skip(f"no Chromium: {found.reason}")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(
            executable_path=found.path, args=ARGUMENTS, env={**os.environ, **found.env}
        )
        yield running
        running.close()


class Watched:
    """A page, and what its console complained about. A test that provokes refusals says what they `expects`.

    A refusal may be shown a moment after its effect, so they are looked at in the end.
    """

    def __init__(self, page: Page, url: str) -> None:
        self.page, self.url = page, url
        self.complaints: list[str] = []
        self.expects = ""
        page.on("console", self._heard)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def enter(self, token: str = ALICE) -> Page:
        """Opens the page, and gives the token as a person does."""
        self.page.goto(self.url)
        self.page.get_by_label("Token").fill(token)
        self.page.keyboard.press("Enter")
        return self.page


@pytest.fixture
def web(tmp_path: Path) -> Iterator[WebScene]:
    """A manager with a past and a present."""
    scene = WebScene(tmp_path)
    with asgi_served(scene.application, ListenAddress(), name="api", option="--address") as port:
        scene.url = f"http://127.0.0.1:{port}/"
        yield scene


@pytest.fixture
def watched(browser: Browser, web: WebScene) -> Iterator[Watched]:
    """A new browser profile; complaints at the end are a failure."""
    context = browser.new_context(viewport={"width": 1440, "height": 900}, reduced_motion="reduce")
    context.set_default_timeout(BOUND_MS)
    one = Watched(context.new_page(), web.url)
    yield one
    context.close()
    assert [text for text in one.complaints if not one.expects or one.expects not in text] == []
