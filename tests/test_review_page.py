"""The page of a batch in a real browser, as reviewers use it: by keyboard, by mouse, on a phone, after a reload."""

import json
import re
import shutil

import geopandas as gpd
import pytest
from browser import needs_chromium, opened
from test_pages import CONTRAST
from test_report_pages import faults_of_markup

from rts_nb.core.files import DataError, RunError
from rts_nb.reviewing.examples import example_review, example_verdicts
from rts_nb.reviewing.page import batch_items, write_batch
from rts_nb.reviewing.verdicts import read_verdicts
from rts_nb.reviewing.worth import worth_of_review

HOSTILE = "<img src=x onerror=window.hacked=1>"
ITEMS = "JSON.parse(document.getElementById('data').textContent).items"

UNNAMED = """[...document.querySelectorAll('button, input, textarea')]
  .filter(e => !e.labels?.length && !e.ariaLabel && !e.textContent.trim()).length"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    "A review of two scenes in two batches, with the pages of both."
    place = example_review(tmp_path_factory.mktemp("review"))
    for batch in (1, 2):
        write_batch(place.map_dir, None, place.review_dir, batch)
    return place


def begin(page, name="Ada Lovelace"):
    "Waits for the page and enters a name, by keyboard; what the page got of its items."
    page.wait_for_selector("html[data-ready]")
    page.keyboard.type(name)
    page.keyboard.press("Enter")
    return page.evaluate(ITEMS)


def press(page, *keys):
    for key in keys:
        page.keyboard.press(key)


def save(page, folder):
    "The verdict file that the page saves, below a folder."
    with page.expect_download() as started:
        page.keyboard.press("s")
    path = folder / started.value.suggested_filename
    started.value.save_as(path)
    return path


def message(page):
    return page.locator("#message").inner_text()


def number(page):
    "The number of the item that is shown, from 1."
    return int(re.findall(r"\d+", page.locator("#item").inner_text())[0])


def go_to(page, wanted):
    while number(page) != wanted:
        press(page, "ArrowRight" if number(page) < wanted else "ArrowLeft")


def judge_by_keyboard(page, item, has_slump):
    "Judges the item shown, marks a slump or draws an outline where that belongs to it, and goes on."
    if item["square"] and has_slump:
        press(page, "c", "Shift+ArrowRight", "ArrowUp", "Space", "Escape")
    press(page, "r" if has_slump else "n")
    if item["ask"] and has_slump:
        corners = ["Space", "Shift+ArrowRight", "Space", "Shift+ArrowUp", "Shift+ArrowUp", "Space", "Enter"]
        press(page, "c", *corners, "Escape", "ArrowRight")


@needs_chromium
def test_a_batch_by_keyboard_alone(place, tmp_path):
    "With a reload in the middle of an outline; the saved file is what the worth of a map is estimated from."
    with opened(place.review_dir / "batch-01.html") as page:
        items = begin(page)
        middle = next(k for k, item in enumerate(items) if item["ask"] and k > 0)
        for k in range(middle):
            judge_by_keyboard(page, items[k], k % 2 == 0)
        press(page, "r", "c", "Space", "Shift+ArrowRight", "Space")
        page.reload()
        page.wait_for_selector("html[data-ready]")
        assert number(page) == middle + 1
        assert page.locator("#progress").inner_text() == f"{middle + 1} of {len(items)} judged, 1 outline missing"
        assert page.locator("#outlined").inner_text().startswith("2 corners")
        press(page, "c", "Shift+ArrowUp", "Space", "Enter", "Escape", "ArrowRight")
        unfinished = save(page, tmp_path)
        assert unfinished.name == "verdicts-01-ada-lovelace-unfinished.json"
        with pytest.raises(DataError, match=f"{len(items) - middle - 1} of {len(items)} items are not judged"):
            read_verdicts(unfinished, place.review_dir)
        for k in range(middle + 1, len(items)):
            judge_by_keyboard(page, items[k], k % 2 == 0)
        if page.locator("#done").is_visible():
            press(page, "Escape")
        finished = save(page, tmp_path)
        assert page.faults == []
    verdicts = read_verdicts([finished, unfinished], place.review_dir)
    expected = ["rts" if k % 2 == 0 or k == middle else "not" for k in range(len(items))]
    assert verdicts["item"].tolist() == batch_items(place.review_dir, 1)["item"].tolist()
    assert verdicts["verdict"].tolist() == expected
    assert set(verdicts["reviewer"]) == {"Ada Lovelace"}
    for item, row in zip(items, verdicts.itertuples(), strict=True):
        is_rts = row.verdict == "rts"
        assert len(row.points) == bool(item["square"] and is_rts)
        assert (row.outline is not None) == bool(item["ask"] and is_rts)
    worth = worth_of_review(place.review_dir, [finished, unfinished], partial=True)
    judged = verdicts["verdict"][batch_items(place.review_dir, 1)["kind"] == "detection"]
    assert worth.figures.users.value == pytest.approx((judged == "rts").mean())
    assert worth.batches.open == {1: 0, 2: (~batch_items(place.review_dir, 2)["replicate"]).sum()}
    with pytest.raises(RunError, match="batch"):
        worth_of_review(place.review_dir, [finished, unfinished])


@needs_chromium
def test_a_click_is_where_it_is_on_the_ground(place, tmp_path):
    "Marks in a block, taken away again by a click; an outline closed by a double click."
    with opened(place.review_dir / "batch-01.html") as page:
        items = begin(page)
        frame = page.locator("#view").bounding_box()

        def click(u, v, **how):
            page.mouse.click(frame["x"] + u * frame["width"], frame["y"] + v * frame["height"], **how)

        def ground(view, u, v):
            left, bottom, right, top = view["box"]
            return [left + u * (right - left), top - v * (top - bottom)]

        block = next(k for k, item in enumerate(items) if item["square"])
        go_to(page, block + 1)
        press(page, "r")
        assert message(page).startswith("Mark each slump in the square first")
        click(0.3, 0.4)
        click(0.7, 0.6)
        click(0.5, 0.5)
        click(0.5, 0.5)
        click(0.02, 0.5)
        assert message(page).startswith("That lies outside the square")
        press(page, "n")
        assert message(page).startswith("2 slumps marked in this square")
        press(page, "w")
        assert page.locator("#marks .rim").count() == 2
        press(page, "r")
        asked = next(k for k, item in enumerate(items) if item["ask"])
        go_to(page, asked + 1)
        press(page, "r")
        corners = [(0.4, 0.4), (0.6, 0.6), (0.6, 0.4), (0.4, 0.6)]
        for corner in corners:
            click(*corner)
        press(page, "Enter")
        assert message(page).startswith("The outline crosses itself")
        press(page, "Backspace")
        press(page, "Escape", "d")
        for corner in ((0.4, 0.4), (0.6, 0.4)):
            click(*corner)
        click(0.6, 0.6, click_count=2)
        assert message(page).startswith("Outline kept")
        path = save(page, tmp_path)
        assert page.faults == []
    verdicts = read_verdicts(path, place.review_dir, partial=True).set_index("item")
    pixel = (items[block]["views"]["tight"]["box"][2] - items[block]["views"]["tight"]["box"][0]) / frame["width"]
    tight = items[block]["views"]["tight"]
    for found, where in zip(verdicts["points"][items[block]["id"]], [(0.3, 0.4), (0.7, 0.6)], strict=True):
        assert found == pytest.approx(ground(tight, *where), abs=pixel)
    outline = verdicts["outline"][items[asked]["id"]]
    drawn = [ground(items[asked]["views"]["tight"], *corner) for corner in ((0.4, 0.4), (0.6, 0.4), (0.6, 0.6))]
    for found, where in zip(outline.exterior.coords[:-1], drawn, strict=True):
        assert found == pytest.approx(where, abs=1)


@needs_chromium
def test_files_are_taken_up_of_this_batch_only(place, tmp_path):
    def written(name, content):
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return path

    first, second = (example_verdicts(place.review_dir, batch) for batch in (1, 2))
    refused = {
        "other.json is of batch 2, this page is batch 1": written("other.json", second),
        "map.json is of another map": written("map.json", first | dict(map="ffffffffffff")),
        "sample.json is of another sample": written("sample.json", first | dict(sample="ffffffffffff")),
        "half.json is not a whole verdict file": written("half.json", json.dumps(first)[:500]),
        "no.json is no verdict file": written("no.json", dict(a=1)),
        "twice.json has twice": written("twice.json", first | dict(verdicts=first["verdicts"][:1] * 2)),
        "word.json has a faulty verdict": written(
            "word.json", first | dict(verdicts=[first["verdicts"][0] | dict(verdict="maybe")])
        ),
    }
    with opened(place.review_dir / "batch-01.html") as page:
        begin(page, "Ada")
        for text, path in refused.items():
            page.set_input_files("#file", path)
            page.wait_for_selector("#message.wrong")
            assert message(page).startswith(text)
            assert page.locator("#progress").inner_text().startswith("0 of")
            press(page, "w")
            page.click("#message")
        press(page, "u")
        page.set_input_files("#file", written("bo.json", first | dict(reviewer="Bo")))
        page.wait_for_selector("#message.wrong")
        assert "is by Bo, this page holds verdicts of Ada" in message(page)
        page.click("#message")
        page.set_input_files("#file", written("mine.json", first))
        page.wait_for_selector("#message:not(:empty)")
        n = len(first["verdicts"])
        assert message(page) == f"{n - 1} verdicts taken from mine.json; 1 of this page are as new and stay."
        saved = json.loads(save(page, tmp_path).read_text(encoding="utf-8"))
        assert page.faults == []
    assert saved["finished"] and saved["verdicts"][0]["verdict"] == "unsure"
    assert [v["verdict"] for v in saved["verdicts"][1:]] == [v["verdict"] for v in first["verdicts"][1:]]


@needs_chromium
def test_a_name_is_needed_to_save(place, tmp_path):
    with opened(place.review_dir / "batch-02.html") as page:
        begin(page, "")
        press(page, "u", "s")
        assert page.locator("#welcomewhy").inner_text().startswith("Enter your name first")
        press(page, "Enter")
        assert page.locator("#welcomewhy").inner_text().startswith("A name is needed")
        page.keyboard.type("Żofia O'Neil")
        with page.expect_download() as started:
            press(page, "Enter")
        assert started.value.suggested_filename == "verdicts-02-zofia-o-neil-unfinished.json"
        page.reload()
        page.wait_for_selector("html[data-ready]")
        assert page.locator("#who").inner_text() == "Żofia O'Neil"
        assert page.faults == []


@needs_chromium
def test_views_are_switched_by_keys(place):
    with opened(place.review_dir / "batch-01.html") as page:
        items = begin(page)
        east = next(k for k, item in enumerate(items) if item["scene"] == "east" and not item["square"])
        go_to(page, east + 1)
        picture = "document.getElementById('picture').getAttribute('{}')"
        shown = page.evaluate(picture.format("href"))
        assert shown == items[east]["views"]["tight"]["image"]
        assert page.evaluate(picture.format("filter")) == "url(#brightness)"
        stretched = page.evaluate("document.querySelector('feFuncR').getAttribute('slope')")
        press(page, "b")
        natural = page.evaluate("document.querySelector('feFuncR').getAttribute('slope')")
        views = items[east]["views"]["tight"]
        assert [float(stretched), float(natural)] == [views["stretched"][0], views["natural"][0]]
        press(page, "f")
        assert page.evaluate(picture.format("href")) == views["false"]
        press(page, "f", "w")
        assert page.evaluate(picture.format("href")) == items[east]["views"]["wide"]["image"]
        assert page.evaluate("document.getElementById('line').getAttribute('d')") != ""
        press(page, "o")
        assert page.evaluate("document.getElementById('line').getAttribute('d')") == ""
        assert page.locator("#scale span").inner_text() in ("200 m", "500 m")
        west = next(k for k, item in enumerate(items) if item["scene"] == "west")
        if "false" not in items[west]["views"]["tight"]:
            go_to(page, west + 1)
            press(page, "f")
            assert message(page) == "This scene has no near infrared."
        press(page, "?")
        assert page.locator("#help").is_visible() and page.locator("#helped").evaluate(
            "b => b === document.activeElement"
        )
        press(page, "Escape")
        assert not page.locator("#help").is_visible()
        assert page.faults == []


@needs_chromium
def test_hostile_names_do_nothing(tmp_path):
    place = example_review(tmp_path, names=[HOSTILE], n_batches=1, source=HOSTILE, licence="</script><script>hacked=1")
    with opened(write_batch(place.map_dir, None, place.review_dir, 1)) as page:
        begin(page, HOSTILE)
        assert page.locator("#scene").inner_text() == HOSTILE
        assert HOSTILE in page.locator(".facts").inner_text()
        assert page.locator("#who").inner_text() == HOSTILE
        assert page.evaluate("window.hacked") is None
        assert page.locator("img").count() == 0
        assert page.faults == []
        page.evaluate("document.body.append(Object.assign(new Image(), {src: 'https://example.org/a.png'}))")
        page.wait_for_timeout(200)
        assert len(page.faults) == 1 and "Content Security Policy" in page.faults[0]


@needs_chromium
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [390, 900, 1280])
def test_is_readable_at_any_width(place, width, dark):
    with opened(place.review_dir / "batch-01.html", width=width, height=844, dark=dark, touch=width < 800) as page:
        items = begin(page)
        go_to(page, 1 + next(k for k, item in enumerate(items) if item["ask"]))
        press(page, "r")
        n, least = page.evaluate(CONTRAST)
        assert n > 25 and least >= 4.5, least
        assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
        view = page.locator("#view").bounding_box()
        assert view["width"] == pytest.approx(view["height"], abs=1) and view["width"] >= min(width - 20, 480)
        for button in page.locator("#verdicts button").all():
            box = button.bounding_box()
            assert box["height"] >= 54 and box["y"] + box["height"] <= 844, "in sight, and large enough for a finger"
        assert page.evaluate(UNNAMED) == 0
        assert page.faults == []


@needs_chromium
def test_without_pixels_the_place_is_told(place, tmp_path):
    folder = tmp_path / "review"
    shutil.copytree(place.review_dir, folder)
    path = write_batch(place.map_dir, None, folder, 1, pixels=False)
    assert "data:image" not in path.read_text(encoding="utf-8")
    with opened(path) as page:
        items = begin(page)
        assert items[0]["place"] in page.locator("#blank").inner_text()
        assert re.match(r"\d+\.\d{5}° N, \d+\.\d{5}° W", page.locator("#place").inner_text())
        assert page.locator(".notes li").all_inner_texts()[0].startswith("Made without imagery")
        press(page, "u")
        assert page.locator("#progress").inner_text().startswith("1 of")
        assert page.faults == []


@needs_chromium
def test_the_pointer_tells_degrees(place):
    "Between the corners of a view that the page knows, to some metres."
    items = batch_items(place.review_dir, 1)
    with opened(place.review_dir / "batch-01.html") as page:
        begin(page)
        press(page, "c")
        told = [float(value) for value in re.findall(r"[\d.]+(?=°)", page.locator("#where").inner_text())]
    left, bottom, right, top = items.geometry.iloc[0].bounds
    centre = gpd.GeoSeries.from_xy([(left + right) / 2], [(bottom + top) / 2], crs=3413).to_crs(4326).iloc[0]
    assert told == pytest.approx([centre.y, -centre.x], abs=2e-5)


@pytest.mark.skipif(shutil.which("tidy") is None, reason="HTML Tidy is not installed: apt-get install tidy")
def test_batch_page_is_valid_html(place):
    assert faults_of_markup(place.review_dir / "batch-01.html") == []


def test_no_score_is_in_the_page(place):
    items = batch_items(place.review_dir, 1)
    text = (place.review_dir / "batch-01.html").read_text(encoding="utf-8")
    told = ["mean_prob", "max_prob", "conf_class", "stratum", "near miss", *items["stratum"].unique()]
    told += [f"{value:.6f}"[:7] for value in (*items["mean_prob"], *items["max_prob"])]
    assert [word for word in told if word in text] == []
