"""A real browser for tests of the web page: whichever Chromium the machine has."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from playwright.async_api import Browser, Page, async_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
GIVEN_UP = "net::ERR_ABORTED"
ARGUMENTS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


def find_chromium() -> str | None:
    """Return the path of a Chromium; None where there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@asynccontextmanager
async def open_browser(path: str) -> AsyncIterator[Browser]:
    """Run a browser while the context lasts."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        try:
            yield browser
        finally:
            await browser.close()


class Complaints(list[str]):
    """What a page has complained of: errors, warnings, what its policy forbade, lost requests.

    Not a request that was given up, by the page or because the page was left.
    """

    def listen_to(self, page: Page) -> None:
        """Note the complaints of a page from now on."""
        page.on("pageerror", lambda error: self.append(str(error)))
        page.on(
            "console",
            lambda message: (
                self.append(message.text) if message.type in ("error", "warning") else None
            ),
        )
        page.on(
            "requestfailed",
            lambda request: (
                self.append(f"{request.url}: {request.failure}")
                if request.failure != GIVEN_UP
                else None
            ),
        )
