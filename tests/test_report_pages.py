"""Executed reports as pages, in a browser: light and dark, desktop and phone, the keyboard, hostile names."""

import json
import re
import shutil
import subprocess

import bs4
import pytest
from browser import needs_chromium, opened
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from programs import ROOT, run_program, run_python
from toy_page import draw_map

from rts_nb.core.pages import report_pages, write_report_page
from rts_nb.mapping.page import write_page

CHECKS = (ROOT / "tests" / "report_page.js").read_text(encoding="utf-8")
REPORTS = ["00_data", "10_losses", "20_train", "30_calibrate", "40_infer", "45_review", "46_labels", "50_report"]
HOSTILE = "<img src=x onerror=\"document.title='taken'\"><script>document.title='taken'</script>"


def write_notebook(path, cells, **metadata):
    path.write_text(json.dumps(new_notebook(cells=cells, metadata=metadata)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    "The pages of the committed reports, in a folder of their own, by name."
    folder = tmp_path_factory.mktemp("reports")
    for name in REPORTS:
        (folder / f"{name}.ipynb").write_bytes((ROOT / "nbs" / f"{name}.ipynb").read_bytes())
    return {path.stem: path for path in report_pages(folder)}


def faults_of_markup(path) -> list[str]:
    "What HTML Tidy says of a page, but for empty elements, which scripts fill, and for fractions as sides of an SVG."
    told = subprocess.run(["tidy", "-errors", "-quiet", path], capture_output=True, text=True, check=False).stderr
    allowed = ("trimming empty", '<svg> attribute "height"', '<svg> attribute "width"')
    return [line for line in told.splitlines() if not any(text in line for text in allowed)]


@pytest.mark.skipif(shutil.which("tidy") is None, reason="HTML Tidy is not installed: apt-get install tidy")
def test_pages_are_valid_html(pages, tmp_path):
    for page in [*pages.values(), write_page(draw_map(tmp_path, {"s0": 2}))]:
        assert faults_of_markup(page) == [], page.name
    (tmp_path / "broken.html").write_text(
        "<!DOCTYPE html><title>x</title><p><b>bold</p><div></b></div></section>", encoding="utf-8"
    )
    assert faults_of_markup(tmp_path / "broken.html")


def test_every_report_has_a_page(pages):
    assert sorted(pages) == REPORTS


@needs_chromium
@pytest.mark.parametrize("width, dark", [(400, True), (1280, False)], ids=["phone, dark", "desktop, light"])
@pytest.mark.parametrize("name", REPORTS)
def test_page_is_readable(pages, name, width, dark):
    """No script error, no request, no image narrower than its text, no clipped table, no pale text."""
    with opened(pages[name], width=width, dark=dark) as page:
        found = page.evaluate(CHECKS)
        assert page.faults == []
        counts = found.pop("counts")
        assert found == dict(tables=[], images=[], labels=[], contrast=[], targets=[], sideways=0)
        source = bs4.BeautifulSoup(pages[name].read_text(encoding="utf-8"), "html.parser")
        assert counts["tables"] == len(source.find_all("table")) and counts["tables"] > 0
        assert counts["images"] == len(source.main.find_all("img")) and counts["images"] > 0
        assert counts["read"] > 100


@needs_chromium
@pytest.mark.parametrize("width", [400, 1280])
def test_figures_enlarge_by_keyboard_and_by_click(pages, width):
    with opened(pages["20_train"], width=width) as page:
        button = page.locator("button.enlarge").first
        button.focus()
        for way in (lambda: page.keyboard.press("Enter"), button.click):
            way()
            assert page.evaluate("document.querySelector('#enlarged').open")
            shown = page.evaluate("document.querySelector('#enlarged img').clientWidth")
            assert shown >= button.locator("img").evaluate("image => image.naturalWidth"), "in full size at least"
            assert page.locator("#enlarged img").get_attribute("alt").startswith("Figure under “")
            page.keyboard.press("Escape")
            assert not page.evaluate("document.querySelector('#enlarged').open")
            assert button.evaluate("button => button === document.activeElement"), "the focus comes back"
        assert page.faults == []


@needs_chromium
def test_contents_stand_open_on_a_desktop_and_fold_on_a_phone(pages):
    states = {}
    for width in (400, 1280):
        with opened(pages["30_calibrate"], width=width) as page:
            states[width] = page.evaluate("document.querySelector('details.contents').open")
            assert page.locator("details.code[open]").count() == 0, "code is folded away"
            page.keyboard.press("Tab")
            assert page.evaluate("document.activeElement.className") == "skip"
            page.keyboard.press("Enter")
            assert page.evaluate("document.activeElement.id") == "report"
            if width == 1280:
                page.locator("nav a").last.click()
                top = page.evaluate("document.querySelector('nav').getBoundingClientRect().top")
                assert page.evaluate("scrollY") > 1000 and 0 <= top < 100, "the list stays in sight"
    assert states == {400: False, 1280: True}


@needs_chromium
@pytest.mark.parametrize("name", REPORTS)
def test_printed_page_has_no_folds_and_no_contents(pages, name):
    "On paper 180 mm wide, A4 with margins, nothing is cut at the right."
    with opened(pages[name], width=680, dark=True) as page:
        page.emulate_media(media="print")
        for hidden in ("nav", "details.code", ".skip"):
            shown = [element for element in page.locator(hidden).all() if element.is_visible()]
            assert shown == [], hidden
        assert page.evaluate("document.documentElement.scrollWidth") <= 680
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert page.evaluate("getComputedStyle(document.querySelector('figure')).breakInside") == "avoid"


# ---------------------------------------------------------------- names of others


def hostile_notebook(path):
    "A report in which every text from elsewhere tries to run a script."
    outputs = [
        new_output(
            "execute_result", {"text/html": f"<table><tr><th>{HOSTILE}</th><td onclick='a()'>1</td></tr></table>"}
        ),
        new_output("display_data", {"text/html": HOSTILE, "text/plain": HOSTILE}),
        new_output("display_data", {"text/plain": HOSTILE}),
        new_output("display_data", {"text/markdown": HOSTILE, "application/javascript": "document.title='taken'"}),
        new_output("display_data", {"image/svg+xml": f"<svg xmlns='http://www.w3.org/2000/svg'>{HOSTILE}</svg>"}),
        new_output("stream", text=HOSTILE),
        new_output("error", ename="DataError", evalue=HOSTILE, traceback=[HOSTILE]),
    ]
    prose = f"# Title of {HOSTILE}\n\n## Part {HOSTILE}\n\n**{HOSTILE}** [a](javascript:document.title='taken') $<b>x$"
    cells = [new_markdown_cell(prose), new_code_cell(HOSTILE, outputs=outputs)]
    return write_notebook(path, cells, papermill=dict(parameters=dict(scenes=HOSTILE), duration=1.0))


@needs_chromium
def test_hostile_names_do_nothing(tmp_path):
    path = write_report_page(hostile_notebook(tmp_path / "a.ipynb"))
    with opened(path) as page:
        assert page.faults == []
        assert page.title().startswith("Title of <img")
        assert page.locator("main a[href^='javascript'], main [onerror], main [onclick], main script").count() == 0
        assert page.locator("main").inner_text().count("<script>") >= 6, "names are shown as they are"


@needs_chromium
def test_a_script_that_got_in_would_not_run(tmp_path):
    "The policy of the page is the second wall: here the first one is taken away."
    path = write_report_page(hostile_notebook(tmp_path / "a.ipynb"))
    html = path.read_text(encoding="utf-8")
    path.write_text(html.replace("</main>", f"{HOSTILE}<img src='https://x.org/a.png'></main>"), encoding="utf-8")
    with opened(path) as page:
        assert page.title() != "taken"
        refused = [fault for fault in page.faults if "Content Security Policy" in fault]
        assert len(refused) >= 3 and not [fault for fault in page.faults if fault.startswith("asked for")]
    path.write_text(path.read_text(encoding="utf-8").replace("Content-Security-Policy", "x"), encoding="utf-8")
    with opened(path) as page:
        assert page.title() == "taken", "without the policy it would have run"


# ---------------------------------------------------------------- failed and unexecuted notebooks


def test_a_failed_report_says_so_first(tmp_path):
    error = new_output("error", ename="RunError", evalue="runs/x is in use", traceback=["\x1b[31mRunError\x1b[0m: at"])
    mark = new_markdown_cell('<span style="color:red">An Exception was encountered</span>')
    mark.metadata["tags"] = ["papermill-error-cell-tag"]
    cells = [mark, new_markdown_cell("# Training\n> One run"), new_code_cell("train()", outputs=[error])]
    run = dict(start_time="2026-11-26T21:09:30+00:00", duration=7261, parameters={})
    page = write_report_page(write_notebook(tmp_path / "20_train.ipynb", cells, papermill=run))
    soup = bs4.BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")
    assert soup.find("p", "failure").text == "This report ended with an error: RunError: runs/x is in use"
    assert soup.find(id="error").find("strong").text == "RunError: runs/x is in use"
    assert "An Exception" not in soup.main.text and "\x1b" not in soup.main.text
    assert [item.text for item in soup.select(".facts li")] == [
        "executed 26 November 2026, 21:09 UTC",
        "took 2 h 1 min",
    ]


def test_command_says_in_one_line_what_is_wrong(tmp_path):
    unexecuted = write_notebook(tmp_path / "b.ipynb", [new_code_cell("1")])
    for path, says in [(unexecuted, "b.ipynb was not executed"), (ROOT / "README.md", "is not readable as a notebook")]:
        done = run_python("-m", "rts_nb.core.pages", path)
        assert done.returncode == 1 and says in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert not list(tmp_path.glob("*.html")), "no half-written page"


def test_make_writes_pages():
    "Which commands `make` would run; the environment is not touched."
    said = run_program("make", "-n", "html", "NOTEBOOK=out/20_train.ipynb").stdout
    assert "python -m rts_nb.core.pages 'out/20_train.ipynb'" in said
    for target in ("demo", "seeds", "folds"):
        told = run_program("make", "-n", target, "CONFIG=configs/test.yaml").stdout
        assert re.search(r"collect.*\n(.*\n)*.*python -m rts_nb.core.pages", told), target
