"""The site of `make docs`: strict, whole, and without a request to any other machine."""

import functools
import http.server
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from browser import CHROMIUM, needs_chromium

ROOT = Path(__file__).resolve().parent.parent.parent
SITE = ROOT / "build" / "site"


@pytest.fixture(scope="module")
def site():
    (ROOT / "build").mkdir(exist_ok=True)
    for command in ([sys.executable, "tools/site.py"], ["mkdocs", "build", "--quiet", "-f", "build/mkdocs.yml"]):
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]  # strict: a broken link is an error
    return SITE


def test_every_notebook_has_a_page_in_the_menu(site):
    notebooks = [path for path in (ROOT / "nbs").rglob("*.ipynb") if path.name != "index.ipynb"]
    lacking = [path for path in notebooks if not (site / path.relative_to(ROOT)).with_suffix(".html").exists()]
    menu = (site / "index.html").read_text(encoding="utf-8")
    assert lacking == [] and all(path.stem in menu for path in notebooks)


def test_links_between_pages_hold(site):
    broken = []
    for page in site.rglob("*.html"):
        for target in re.findall(r'href="([^":#?]+\.html)', page.read_text(encoding="utf-8")):
            if not (page.parent / target).exists() and not target.startswith("/"):
                broken.append(f"{page.relative_to(site)}: {target}")
    assert broken == []


@needs_chromium
def test_pages_ask_no_other_machine(site):
    from playwright.sync_api import sync_playwright

    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=site)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    asked, errors = [], []
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        for name in ("index", "nbs/10_losses", "nbs/20_train", "docs/vm"):
            page.goto(f"{address}/{name}.html")
            page.wait_for_timeout(300)
        page.goto(f"{address}/nbs/10_losses.html")
        assert page.locator("svg[role=img]").count() > 10, "formulas are drawn"
        browser.close()
    server.shutdown()
    elsewhere = [url for url in asked if not url.startswith((address, "data:", "blob:"))]
    assert elsewhere == [] and errors == []
