"""map.html in a real browser, as its readers use it: by mouse, by keyboard, on a phone, in the dark."""

import io
import json
import re
import time

import geopandas as gpd
import numpy as np
import pyproj
import pytest
import shapely
from browser import needs_chromium, opened
from PIL import Image
from toy_page import PLACE, change_slumps, draw_map, scatter

from rts_nb.mapping.figures import read_slumps
from rts_nb.mapping.geodesy import GEOD, to_degrees
from rts_nb.mapping.page import write_page

pytestmark = needs_chromium
HOSTILE = "<img src=x onerror=window.hacked=1>"
CENTRE = "rtsMap.getView().getCenter()"
GRATICULE = "rtsMap.getLayers().item(6).getSource().getFeatures()"
WINDOW = "rtsMap.getView().calculateExtent()"


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    "A map of two scenes 150 km apart; most detections are in the first."
    folder = draw_map(tmp_path_factory.mktemp("page"), {"s0": 40, "s1": 20})
    write_page(folder)
    return folder


def until(page, expression, seconds=20):
    "Waits until an expression is true; the page's own policy forbids what Playwright would put into it to wait."
    end = time.monotonic() + seconds
    while not page.evaluate(expression):
        assert time.monotonic() < end, f"still not true: {expression}"
        page.wait_for_timeout(30)


def wait(page):
    "Until the map is drawn and stands still."
    page.wait_for_selector("html[data-ready]", timeout=60_000)
    until(page, "!rtsMap.getView().getAnimating()")


def column(page, number):
    "The texts of a column of the table."
    return page.locator(f"tbody td:nth-child({number})").all_inner_texts()


def fly(page, act):
    "The centre of the map after what `act` does."
    before = page.evaluate(CENTRE)
    act()
    until(page, f"String({CENTRE}) !== '{before[0]},{before[1]}' && !rtsMap.getView().getAnimating()")
    return page.evaluate(CENTRE)


def test_opens_on_the_scene_with_most_detections(out):
    slumps = read_slumps(out)
    with opened(out / "map.html") as page:
        wait(page)
        left, bottom, right, top = page.evaluate(WINDOW)
        assert page.locator("h1").inner_text().startswith("60 slumps")
        assert page.locator("summary span").inner_text() == "the imagery is painted"
        page.click("#all")
        until(page, f"{WINDOW}[2] - {WINDOW}[0] > 150_000")
        assert page.faults == []
    first = slumps[slumps["scene"] == "s0"]
    assert min(right - left, top - bottom) >= 3000
    assert shapely.box(left, bottom, right, top).contains(shapely.box(*first.total_bounds))
    assert right - left < 20_000, "so near that outlines are seen"


def test_table_sorts_by_any_column(out):
    with opened(out / "map.html") as page:
        wait(page)
        assert page.locator("th[aria-sort=descending]").inner_text().startswith("mean p")
        for name, number, order in (("m²", 2, -1), ("m²", 2, 1), ("mean p", 3, -1), ("mean p", 3, 1)):
            page.get_by_role("button", name=name).click()
            values = np.array([float(text.replace(",", "")) for text in column(page, number)])
            assert len(values) == 60 and (order * np.diff(values) >= 0).all(), (name, order)
        page.get_by_role("button", name="detection", exact=True).click()
        assert column(page, 1) == sorted(read_slumps(out)["rts_id"])
        assert page.locator("th[aria-sort=ascending]").count() == 1


def test_rows_and_outlines_lead_to_each_other(out):
    slumps = read_slumps(out).set_index("rts_id")
    with opened(out / "map.html") as page:
        wait(page)
        for name in ("s1-0004", "s0-0031"):
            x, y = fly(page, page.locator("tr", has_text=name).click)
            assert shapely.Point(x, y).distance(slumps.geometry[name].centroid) < 60
            assert page.locator("tr[aria-current]").inner_text().startswith(name)
            page.wait_for_selector("#tip:visible")
            assert page.locator("#tip b").inner_text() == name
        fly(page, page.locator("#home").click)
        middle = slumps.geometry["s0-0005"].centroid
        x, y = page.evaluate(f"rtsMap.getPixelFromCoordinate([{middle.x}, {middle.y}])")
        page.locator("#map").hover(position=dict(x=x, y=y))
        until(page, "document.querySelector('#tip b').textContent === 's0-0005'")
        assert f"{slumps.area_m2['s0-0005']:,.0f} m²" in page.locator("#tip").inner_text()
        page.locator("#map").click(position=dict(x=x, y=y))
        until(page, "document.querySelector('tr[aria-current]').textContent.includes('s0-0005')")
        assert page.faults == []


def test_keyboard_is_enough(out):
    slumps = read_slumps(out).set_index("rts_id")
    with opened(out / "map.html") as page:
        wait(page)
        page.locator("#download").focus()
        for _ in range(6):  # five heads, the first row
            page.keyboard.press("Tab")
        page.keyboard.press("ArrowDown")
        name = page.evaluate("document.activeElement.textContent")
        assert name == slumps.sort_values("mean_prob", ascending=False).index[1]
        x, y = fly(page, lambda: page.keyboard.press("Enter"))
        assert shapely.Point(x, y).distance(slumps.geometry[name].centroid) < 60
        page.locator("#map").focus()
        assert fly(page, lambda: page.keyboard.press("ArrowLeft"))[0] < x


def test_filter_and_download(out, tmp_path):
    slumps = read_slumps(out).set_index("rts_id")
    kept = slumps[slumps["mean_prob"] >= 0.7]
    with opened(out / "map.html") as page:
        wait(page)
        page.get_by_label("unsure").uncheck()
        assert page.locator("#count").inner_text() == f"{len(kept)} of 60 detections"
        assert sorted(column(page, 1)) == sorted(kept.index)
        assert page.evaluate("rtsMap.getLayers().item(7).getSource().getFeatures().length") == len(kept)
        with page.expect_download() as download:
            page.click("#download")
        download.value.save_as(tmp_path / "some.geojson")
        assert (download.value.suggested_filename, page.faults) == ("rts.geojson", [])
    content = json.loads((tmp_path / "some.geojson").read_text(encoding="utf-8"))
    assert content["type"] == "FeatureCollection" and "crs" not in content
    found = gpd.read_file(tmp_path / "some.geojson").set_index("rts_id").loc[kept.index]
    assert len(content["features"]) == len(found) == len(kept) and found.is_valid.all()
    assert found.crs.to_epsg() == 4326
    near = GEOD.inv(found.centroid.x, found.centroid.y, kept["centroid_lon"], kept["centroid_lat"])[2]
    assert near.max() < 1, "metres"
    assert np.allclose(found["area_m2"], kept["area_m2"])


def test_probability_fades(out):
    with opened(out / "map.html") as page:
        wait(page)
        centre = dict(x=350, y=300, width=100, height=300)
        pictures = []
        for percent in (0, 100):
            page.locator("#opacity").fill(str(percent))
            page.wait_for_timeout(300)
            picture = Image.open(io.BytesIO(page.screenshot(clip=centre))).convert("RGB")
            pictures.append(np.asarray(picture).astype("i4"))
            assert page.locator("#percent").inner_text() == f"{percent} %"
        changed = np.abs(pictures[1] - pictures[0]).sum(-1) > 60
        assert 0.1 < changed.mean() < 0.9, "the northern half of the scene has a probability"
        page.get_by_label("probability of RTS").uncheck()
        page.wait_for_timeout(300)
        without = np.asarray(Image.open(io.BytesIO(page.screenshot(clip=centre))).convert("RGB")).astype("i4")
        assert np.abs(without - pictures[0]).max() < 30


@pytest.mark.parametrize("corner", [PLACE, (-3_200_000, -1_000_000), (-1_000, 1_000)], ids=["72 N", "60 N", "pole"])
def test_places_lengths_and_north_are_true(tmp_path, corner):
    "Against PROJ; at 60° N a length in the projection is 4 % more than that on the ground."
    folder = draw_map(tmp_path, {"s0": 2}, corner=corner)
    with opened(write_page(folder)) as page:
        wait(page)
        x, y = page.evaluate(CENTRE)
        lon, lat = to_degrees(x, y)
        width, height = page.evaluate("rtsMap.getSize()")
        page.locator("#map").hover(position=dict(x=width / 2, y=height / 2))
        until(page, "document.getElementById('where').textContent")
        shown = re.findall(r"([\d.]+)° ([NSWE])", page.locator("#where").inner_text())
        latitude, longitude = (float(value) * (-1 if side in "SW" else 1) for value, side in shown)
        assert GEOD.inv(longitude, latitude, lon, lat)[2] < 10, "metres: a pixel of the screen and a table"

        bar = page.locator(".ol-scale-line-inner")
        value, unit = bar.inner_text().split()
        metres = float(value) * (1000 if unit == "km" else 1)
        projected = bar.bounding_box()["width"] * page.evaluate("rtsMap.getView().getResolution()")
        assert abs(GEOD.inv(lon, lat, *to_degrees(x + projected, y))[2] / metres - 1) < 0.01, "whole pixels"

        turned = float(re.search(r"rotate\(([-\d.]+)\)", page.locator("#north g").get_attribute("transform"))[1])
        north = pyproj.Transformer.from_crs(4326, 3413, always_xy=True).transform(lon, lat + 1e-4)
        expected = np.degrees(np.arctan2(north[0] - x, north[1] - y))
        assert abs((turned - expected + 180) % 360 - 180) < 0.1
        names = page.evaluate(f"{GRATICULE}.map(line => line.getStyle()?.getText().getText()).filter(Boolean)")
        assert len(names) >= 4 and {name[-1] for name in names} >= {"N"}, names
        assert page.faults == []


def test_hostile_names_do_nothing(tmp_path):
    caveat = "</script><script>window.hacked = 1</script><!--"
    folder = draw_map(tmp_path, {HOSTILE: 3}, caveats=[caveat, HOSTILE])
    change_slumps(folder, rts_id=[HOSTILE, "</script><script>window.hacked = 1</script>", "-->"], conf_class=HOSTILE)
    with opened(write_page(folder)) as page:
        wait(page)
        page.click("tbody tr:nth-child(1) td:nth-child(2)")
        page.wait_for_selector("#tip:visible")
        page.click("summary:has-text('caveats')")
        assert HOSTILE in page.locator("#tip").inner_text()
        assert sorted(column(page, 1)) == sorted(read_slumps(folder)["rts_id"])
        assert HOSTILE in page.locator("#classes").inner_text()
        assert page.locator(".caveats li").all_inner_texts() == [caveat, HOSTILE]
        assert page.locator("img[src=x]").count() == 0
        assert page.evaluate("window.hacked") is None
        assert page.faults == []


def test_own_policy_stops_what_is_not_the_page(out):
    "A script that got in all the same, and a request, are refused by the page itself."
    with opened(out / "map.html") as page:
        wait(page)
        page.evaluate("document.body.append(Object.assign(document.createElement('script'), {text: 'hacked = 1'}))")
        page.evaluate("document.body.append(Object.assign(new Image(), {src: 'https://example.org/a.png'}))")
        page.wait_for_timeout(300)
        assert page.evaluate("window.hacked") is None
        assert len(page.faults) == 2 and all("Content Security Policy" in fault for fault in page.faults)


def test_phone(out):
    with opened(out / "map.html", width=400, height=800, touch=True) as page:
        wait(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= 400
        assert page.locator("#map").bounding_box()["height"] >= 320
        row = page.locator("tbody tr:nth-child(5)")
        row.scroll_into_view_if_needed()
        assert row.bounding_box()["height"] >= 30, "a finger hits it"
        assert row.bounding_box()["width"] <= 400
        fly(page, row.tap)
        until(page, "document.getElementById('map').getBoundingClientRect().top < 400")
        assert page.faults == []


CONTRAST = """() => {
  const light = colour => {
    const [r, g, b] = colour.match(/[\\d.]+/g).slice(0, 3).map(v => v / 255)
      .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = element => {
    const colour = getComputedStyle(element).backgroundColor;
    return /, 0\\)$/.test(colour) && element.parentElement ? behind(element.parentElement) : colour;
  };
  const texts = [...document.querySelectorAll('body *')].filter(element => element.checkVisibility()
    && !element.disabled && [...element.childNodes].some(node => node.nodeType === 3 && node.textContent.trim())
    && !element.closest('svg, script, select'));
  const ratios = texts.map(element => {
    const [low, high] = [getComputedStyle(element).color, behind(element)].map(light).sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  });
  return [texts.length, Math.min(...ratios)];
}"""


@pytest.mark.parametrize("dark", [False, True])
def test_text_is_readable(out, dark):
    with opened(out / "map.html", dark=dark) as page:
        wait(page)
        page.click("tbody tr:nth-child(3)")
        page.wait_for_selector("#tip:visible")
        n, least = page.evaluate(CONTRAST)
        red = int(re.findall(r"\d+", page.evaluate("getComputedStyle(document.body).backgroundColor"))[0])
        assert n > 200 and least >= 4.5, least
        assert (red < 60) == dark


def test_many_detections_are_counted(tmp_path):
    folder = draw_map(tmp_path, {"s0": 1})
    scatter(folder, 6000)
    path = write_page(folder)
    slumps = read_slumps(folder).sort_values("mean_prob", ascending=False)
    with opened(path) as page:
        wait(page)
        ready_ms = int(page.evaluate("document.documentElement.dataset.ready"))
        frame_ms = page.evaluate("""() => {
          const start = performance.now();
          for (let k = 0; k < 10; k++) { rtsMap.getView().setResolution(900 + k); rtsMap.renderSync(); }
          return (performance.now() - start) / 10;
        }""")
        print(f"{path.stat().st_size / 1e6:.1f} MB, ready after {ready_ms} ms, a frame of all takes {frame_ms:.0f} ms")
        assert "the other 1,000 are counted in squares of 10 km" in page.locator(".note").inner_text()
        assert page.locator("#count").inner_text() == "5,000 of 5,000 detections"
        features = page.evaluate("rtsMap.getLayers().item(4).getSource().getFeatures().map(cell => cell.get('n'))")
        assert sum(features) == 1000
        assert column(page, 1)[0] == slumps["rts_id"].iloc[0]
        page.get_by_role("button", name="mean p").click()
        assert column(page, 1)[0] == slumps["rts_id"].iloc[4999]
        page.locator("#rows").evaluate("rows => { rows.scrollTop = rows.scrollHeight; }")
        until(page, "document.querySelectorAll('tbody tr').length > 200")
        assert page.faults == []
    assert ready_ms < 15_000 and frame_ms < 200, "with room for a busy machine"


def test_map_without_detections_opens(tmp_path):
    folder = draw_map(tmp_path, {"s0": 0})
    with opened(write_page(folder)) as page:
        wait(page)
        assert page.locator("#count").inner_text() == "No slump was found on this map."
        assert page.locator("#download").is_disabled()
        assert page.faults == []


def test_without_pixels_nothing_of_the_imagery_is_in_the_page(out, tmp_path):
    folder = draw_map(tmp_path, {"s0": 2})
    text = write_page(folder, pixels=False).read_text(encoding="utf-8")
    assert "data:image/webp" not in text and "data:image/png" in text
    with opened(folder / "map.html") as page:
        wait(page)
        assert page.locator(".note").all_inner_texts() == ["Made without imagery."]
        assert page.locator("[data-layer=imagery]").count() == 0
        assert page.faults == []
    assert "data:image/webp" in (out / "map.html").read_text(encoding="utf-8")
