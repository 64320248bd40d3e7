"""A page in headless Chromium, for tests that look at pages as a reader does."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: apt-get install chromium")
FLAGS = ("--no-sandbox", "--disable-gpu", "--force-color-profile=srgb")


RUNNING = []  # the browser that the tests of a file share


@contextlib.contextmanager
def started() -> Iterator:
    "The browser that is running, or one for this block."
    from playwright.sync_api import sync_playwright

    if RUNNING:
        yield RUNNING[0]
        return
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield browser
        browser.close()


@contextlib.contextmanager
def shared() -> Iterator[None]:
    "A browser for all pages that are opened within; each still has storage and permissions of its own."
    with started() as browser:
        RUNNING.append(browser)
        try:
            yield
        finally:
            RUNNING.remove(browser)


@contextlib.contextmanager
def opened(path: Path, width=1280, height=900, dark=False, touch=False) -> Iterator:
    """The page of a file, loaded; its attribute `faults` lists script errors and requests that left the file.

    A page made to be sent to a colleague may ask for nothing outside itself, so each such request is refused."""
    faults: list[str] = []

    def refuse(route):
        faults.append(f"asked for {route.request.url}")
        route.abort()

    with started() as browser:
        scheme = "dark" if dark else "light"
        size = dict(width=width, height=height)
        context = browser.new_context(viewport=size, color_scheme=scheme, has_touch=touch, accept_downloads=True)
        context.route(lambda url: url.startswith("http"), refuse)
        page = context.new_page()
        page.on("pageerror", lambda error: faults.append(f"script error: {error}"))
        page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
        page.goto(Path(path).resolve().as_uri())
        page.faults = faults
        yield page
        context.close()
