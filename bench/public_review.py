"""The whole review of a map of the held-out public images: drawn, judged in a browser, and held against the truth.

`python bench/public_review.py runs/public/seed-42` maps the images of the test regions as `bench/public_map.py` does
(or takes its map), draws a sample of it, opens each page in headless Chromium, judges every item there as the known
truth would (keys, marks by clicks, outlines by clicks), feeds the downloaded files to `worth`, and prints what was
estimated beside what is true. Needs the public images and Chromium.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import shapely

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from browser import opened
from public_map import write_scenes

from rts_nb.core.files import resolve
from rts_nb.infer import infer
from rts_nb.mapping.folder import LOG
from rts_nb.mapping.geodesy import geodesic_area
from rts_nb.reviewing.ground import list_ground
from rts_nb.reviewing.items import read_items
from rts_nb.reviewing.page import write_batch
from rts_nb.reviewing.reviewer import KnownGround, drawn_outline, known_ground, slumps_met, true_judgement
from rts_nb.reviewing.sample import Design, Goals, draw_review
from rts_nb.reviewing.showing import worth_table
from rts_nb.reviewing.worth import worth_of_review, write_worth
from rts_nb.settings.config import load_config
from rts_nb.tiles.layout import load_tiles
from rts_nb.tiles.public import image_of_tiles


def map_of_images(run: Path) -> tuple[Path, str]:
    "The map of the held-out images, made unless it is there, and its scenes."
    out, cfg = run / "public", load_config(run / "config.yaml")
    if not (out / "map" / LOG).is_file():
        tiles = load_tiles(cfg.data.root, cfg.data.block_km).query("split == 'test'")
        write_scenes(out / "scenes", sorted(set(image_of_tiles(tiles))))
        infer(run, str(out / "scenes"), out / "map")
    return out / "map", str(out / "scenes")


def fraction_of(box: list[float], point) -> tuple[float, float]:
    "Where a point (m) lies in a view: shares of its width and height, from the upper left."
    left, bottom, right, top = box
    return (point[0] - left) / (right - left), (top - point[1]) / (top - bottom)


def clickable(ring: list[list[float]]) -> list[list[float]]:
    "A ring with few enough corners to click, none on another: to 6 m, else its hull."
    simple = shapely.Polygon(ring).simplify(6.0)
    whole = simple if simple.geom_type == "Polygon" and simple.is_valid else shapely.Polygon(ring).convex_hull
    return [list(corner) for corner in whole.exterior.coords[:-1]]


def reaches_beyond(item: dict, judged: dict) -> bool:
    "Whether an outline is to be drawn that the tight view does not hold."
    left, bottom, right, top = item["views"]["tight"]["box"]
    return any(not (left < x < right and bottom < y < top) for x, y in judged["outline"] or [])


def judge_item(page, frame: dict, item: dict, judged: dict) -> None:
    "Judges the item that is shown, as a reviewer does."
    view = "wide" if reaches_beyond(item, judged) else "tight"
    box = item["views"][view]["box"]
    if view == "wide":
        page.keyboard.press("w")

    def click(point):
        u, v = fraction_of(box, point)
        page.mouse.click(frame["x"] + u * frame["width"], frame["y"] + v * frame["height"])

    for point in judged["points"]:
        click(point)
    page.keyboard.press({"rts": "r", "not": "n", "unsure": "u"}[judged["verdict"]])
    if judged["outline"]:
        for corner in judged["outline"]:
            click(corner)
        page.keyboard.press("Enter")


def judgement_of(known: KnownGround, row, item: dict) -> dict:
    "What the truth says of an item, with an outline inside of the wide view."
    judged = true_judgement(known, row)
    if judged["outline"]:
        inside = shapely.box(*item["views"]["wide"]["box"]).buffer(-8)
        judged["outline"] = clickable(drawn_outline(slumps_met(known, row.geometry), inside))
    return judged


def judge_page(path: Path, known: KnownGround, rows: pd.DataFrame, folder: Path, name: str) -> Path:
    "Judges a batch on its page; the verdict file that it saves."
    with opened(path) as page:
        page.wait_for_selector("html[data-ready]")
        page.keyboard.type(name)
        page.keyboard.press("Enter")
        items = page.evaluate("JSON.parse(document.getElementById('data').textContent).items")
        frame = page.locator("#view").bounding_box()
        for number, item in enumerate(items, 1):
            shown = int(page.locator("#item").inner_text().split()[1])
            for _ in range(abs(number - shown)):
                page.keyboard.press("ArrowRight" if shown < number else "ArrowLeft")
            judge_item(page, frame, item, judgement_of(known, rows.loc[item["id"]], item))
        if page.locator("#done").is_visible():
            page.keyboard.press("Escape")
        with page.expect_download() as started:
            page.keyboard.press("s")
        saved = folder / started.value.suggested_filename
        started.value.save_as(saved)
        assert page.faults == [], page.faults
    return saved


def true_figures_of(map_dir: Path, known: KnownGround) -> pd.Series:
    "What the truth says of all detections and of all slumps."
    ground = list_ground(map_dir)
    detections = ground.geometry[ground["kind"] == "detection"]
    touched = np.array([len(slumps_met(known, shape)) > 0 for shape in detections])
    found = np.zeros(len(known.slumps), bool)
    found[known.slumps.sindex.query(detections.to_numpy(), "intersects")[1]] = True
    hectares = sum(geodesic_area(shape) for shape in known.slumps) / 1e4
    facts = {
        "user's accuracy, by touch": f"{touched.mean():.2f} of {len(detections)} detections",
        "slumps": len(known.slumps),
        "slumps that a detection touches": f"{found.sum()} ({found.mean():.2f})",
        "area of slumps (ha)": f"{hectares:.1f}",
    }
    return pd.Series(facts, name="true")


def main(args) -> None:
    run = Path(resolve(args.run_dir))
    map_dir, scenes = map_of_images(run)
    review = run / "public" / "review"
    design = Design(replicates=0.0, batch_size=args.batch_size, outlines=0.5)
    plan = draw_review(map_dir, review, Goals(half_width=args.half_width, near=40, blocks=100), design)
    known = known_ground(map_dir, scenes)
    rows = read_items(review).set_index("item", drop=False)
    saved = []
    for batch in range(1, plan["batches"] + 1):
        page = write_batch(map_dir, scenes, review, batch)
        saved.append(judge_page(page, known, rows, review, f"Reviewer {batch}"))
        print(f"{saved[-1].name}: judged on {page.name}, {page.stat().st_size / 1e6:.1f} MB")
    worth = worth_of_review(review, saved)
    write_worth(review, worth)
    pd.options.display.max_colwidth = None
    print(worth_table(worth).to_string(), true_figures_of(map_dir, known).to_string(), sep="\n\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run_dir", help="such as runs/public/seed-42")
    parser.add_argument("--half-width", type=float, default=0.1, help="of the interval of precision that is wanted")
    parser.add_argument("--batch-size", type=int, default=100)
    main(parser.parse_args())
