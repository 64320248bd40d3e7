"""One answer for one piece of ground: boxes agree with their raster, and overlapping scenes share their ground."""

import json

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from rasterio.windows import Window
from scipy import ndimage
from toy_map import PIXEL_M, SIDE, make_place

from rts_nb.calibration.thresholds import load_calibration
from rts_nb.core.files import write_json
from rts_nb.infer import infer
from rts_nb.mapping.area_cells import AreaCurve, AreaSums, record_rows, sum_of_pieces
from rts_nb.mapping.catalogue import finished_records
from rts_nb.mapping.examples import map_digests
from rts_nb.mapping.folder import raster_threshold
from rts_nb.mapping.merging import merge_maps
from rts_nb.mapping.records import read_records
from rts_nb.tiles.layout import write_raster


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    "A model and one scene of 600 x 300 pixels."
    return make_place(tmp_path_factory.mktemp("place"), rows=[2], slumps=6)


@pytest.fixture(scope="module")
def whole(place):
    "The map of that scene, mask and log."
    log = infer(place / "model", place / "scenes" / "s0.tif", place / "whole", min_area_m2=0)
    with rasterio.open(place / "whole" / "s0_mask.tif") as mask:
        return mask.read(1), log


def slumps_of(folder):
    return gpd.read_parquet(folder / "rts.parquet")


def cut(place, folder, name, top, bottom, **changes):
    "Writes rows of the scene as a scene of its own; `changes` are pixels that are made 0."
    folder.mkdir(exist_ok=True)
    with rasterio.open(place / "scenes" / "s0.tif") as f:
        rgb = f.read(window=Window(0, top, SIDE, bottom - top))
        transform = f.transform @ rasterio.Affine.translation(0, top)
    if "hole" in changes:
        rgb[:, changes["hole"]] = 0
    write_raster(folder / f"{name}.tif", rgb, transform)


def test_boxes_agree_with_their_raster(place, whole):
    mask, _ = whole
    with rasterio.open(place / "scenes" / "s0.tif") as f:
        left, top = f.bounds.left, f.bounds.top
    rows = ["tile_id, MinX, miny, maxx, maxy, path"]
    for k in range(4):  # the last one hangs over the lower edge
        box = (left, top - (k + 1) * 170 * PIXEL_M, left + SIDE * PIXEL_M, top - k * 170 * PIXEL_M)
        rows.append(", ".join([f"t{k}", *map(str, box), "scenes/s0.tif"]))
    (place / "boxes.csv").write_text("\n".join(rows), encoding="utf-8")
    infer(place / "model", place / "boxes.csv", place / "boxes", min_area_m2=0)
    parts = []
    for k in range(4):
        with rasterio.open(place / "boxes" / f"t{k}_mask.tif") as part:
            parts.append(part.read(1))
    assert np.array_equal(np.concatenate(parts)[: 2 * SIDE], mask), "bit for bit"
    assert (np.concatenate(parts)[2 * SIDE :] == 255).all(), "what hangs over is nodata"
    found, expected = slumps_of(place / "boxes"), slumps_of(place / "whole")
    assert np.allclose(sorted(found["area_m2"]), sorted(expected["area_m2"]), rtol=1e-6)


@pytest.mark.parametrize("newer", ["upper", "lower"])
def test_overlapping_scenes_share_their_ground(place, tmp_path, newer):
    "The mosaic, the outlines, their area and the km² tell of one map, the newer scene's where both have data."
    hole = np.zeros((360, SIDE), bool)
    hole[300:330, 40:90] = True  # no data in the upper scene
    cut(place, tmp_path / "scenes", "upper", 0, 360, hole=hole)
    cut(place, tmp_path / "scenes", "lower", 260, 600)
    dates = dict(upper="2024-07-01", lower="2024-07-01") | {newer: "2025-07-01"}
    rows = ["tile_id,path,date", *(f"{name},scenes/{name}.tif,{date}" for name, date in dates.items())]
    (tmp_path / "tiles.csv").write_text("\n".join(rows), encoding="utf-8")
    log = infer(place / "model", tmp_path / "tiles.csv", tmp_path / "map", min_area_m2=0)
    records = list(finished_records(tmp_path / "map"))
    assert records[0]["scene"] == newer

    canvas = {}
    for name, top in (("upper", 0), ("lower", 260)):
        with rasterio.open(tmp_path / "map" / f"{name}_mask.tif") as f:
            canvas[name] = np.full((600, SIDE), 255, "u1")
            canvas[name][top : top + f.height] = f.read(1)
    other = "lower" if newer == "upper" else "upper"
    owned = np.where(canvas[newer] != 255, canvas[newer], canvas[other])
    with rasterio.open(tmp_path / "map" / "mosaic.vrt") as mosaic:
        assert np.array_equal(mosaic.read(1) >= np.float32(log["threshold"]), owned == 1)

    slumps = slumps_of(tmp_path / "map")
    n = ndimage.label(owned == 1, np.ones((3, 3)))[1]
    assert len(slumps) == n, "one slump for each connected area"
    on_ground = log["km2"] * 1e6 / (owned != 255).sum()
    assert slumps["area_m2"].sum() == pytest.approx((owned == 1).sum() * on_ground, rel=1e-3)
    assert log["km2"] == pytest.approx(sum(record["owned_km2"] for record in records), abs=1e-4)
    assert log["km2"] < sum(record["km2"] for record in records), "the overlap counts once"


def sums_of(record):
    "The sums of a scene, from its record."
    sums = AreaSums({ratio: AreaCurve(*curve) for ratio, curve in record["curves"].items()})
    sums.add_rows(record_rows(record))
    return sums


def expected_m2(log):
    "Expected area of a map by ratio, m²."
    return {ratio: row["m2"] for ratio, row in log["expected_area"]["by_ratio"].items()}


def test_bytes_change_nothing_but_sums_of_shared_ground(place, tmp_path):
    """A map whose probabilities are kept in bytes has the masks, outlines and ground of one that keeps them whole.

    All sums are made before rounding, but for what two scenes share: that is told apart by values that were rounded."""
    for name, top, bottom in (("upper", 0, 360), ("lower", 260, 600)):
        cut(place, tmp_path / "scenes", name, top, bottom)
    maps = {kind: tmp_path / kind for kind in ("float32", "uint8")}
    logs = {
        kind: infer(place / "model", tmp_path / "scenes", folder, min_area_m2=0, probability_dtype=kind)
        for kind, folder in maps.items()
    }
    for name in ("upper", "lower"):
        masks = [(folder / f"{name}_mask.tif").read_bytes() for folder in maps.values()]
        assert masks[0] == masks[1], name
    exact, rounded = (slumps_of(folder) for folder in maps.values())
    assert exact.drop(columns="mean_prob").equals(rounded.drop(columns="mean_prob"))
    across = exact["scene"].str.contains(",")
    assert across.any() and exact["mean_prob"][~across].equals(rounded["mean_prob"][~across])
    assert (exact["mean_prob"] - rounded["mean_prob"]).abs().max() < 0.002
    assert logs["float32"]["km2"] == logs["uint8"]["km2"] < sum(r["km2"] for r in finished_records(maps["uint8"]))
    areas = {kind: expected_m2(log) for kind, log in logs.items()}
    by_scene = [sum_of_pieces(sums_of(record["expected_area"])) for record in read_records(maps["uint8"])]
    for k, (ratio, m2) in enumerate(areas["float32"].items(), 1):
        shared = sum(values[k] for values in by_scene) - m2
        assert shared > 0 and abs(areas["uint8"][ratio] - m2) < 0.05 * shared, ratio


def test_a_merge_of_merges_is_the_merge_of_all(place, tmp_path):
    "Chunks of a region are merged first, then regions: the same map as from all chunks at once."
    parts = []
    for name, top, bottom in (("upper", 0, 260), ("middle", 200, 420), ("lower", 380, 600)):
        cut(place, tmp_path / "scenes", name, top, bottom)
        parts.append(tmp_path / f"part_{name}")
        infer(place / "model", tmp_path / "scenes" / f"{name}.tif", parts[-1], min_area_m2=0)
    at_once, by_two = (tmp_path / name for name in ("at_once", "by_two"))
    merge_maps(parts, at_once, place / "model")
    merge_maps(parts[:2], tmp_path / "pair", place / "model")
    merge_maps([tmp_path / "pair", parts[2]], by_two, place / "model")
    assert len(slumps_of(at_once)) and map_digests(by_two) == map_digests(at_once)


def test_cut_slumps_are_flagged(place, tmp_path):
    "A detection at the border of all imagery is cut; one at a seam is not."
    for name, top, bottom in (("a", 0, 300), ("b", 300, 600)):
        cut(place, tmp_path / "scenes", name, top, bottom)
    infer(place / "model", tmp_path / "scenes", tmp_path / "map", min_area_m2=0)
    slumps = slumps_of(tmp_path / "map")
    with rasterio.open(tmp_path / "map" / "mosaic.vrt") as mosaic:
        left, bottom, right, top = mosaic.bounds
    bounds = slumps.bounds
    near = 0.75 * PIXEL_M  # outlines lie within half a pixel of their pixels
    at_edge = (bounds.minx < left + near) | (bounds.maxx > right - near)
    at_edge |= (bounds.miny < bottom + near) | (bounds.maxy > top - near)
    assert set(slumps["cut_by"]) == {"", "edge"}
    assert ((slumps["cut_by"] == "edge") == at_edge).all()
    assert slumps["scene"].str.contains(",").any() and (slumps[~at_edge]["cut_by"] == "").all()


def test_another_prior_tells_one_story(place, tmp_path):
    "With a shift of the prior, raster, tag, mask, mean probability and threshold of the log agree."
    model = tmp_path / "model"
    model.mkdir()
    for path in (place / "model").iterdir():
        if path.is_file():
            (model / path.name).write_bytes(path.read_bytes())
    calibration = json.loads((model / "calibration.json").read_text(encoding="utf-8"))
    plain = raster_threshold(load_calibration(model))
    write_json(model / "calibration.json", calibration | dict(prior_shift=dict(applied=-1.5)))
    log = infer(model, place / "scenes" / "s0.tif", tmp_path / "map", min_area_m2=0)
    assert log["threshold"] < plain
    with (
        rasterio.open(tmp_path / "map" / "s0_probability.tif") as p,
        rasterio.open(tmp_path / "map" / "s0_mask.tif") as m,
        rasterio.open(place / "whole" / "s0_mask.tif") as unshifted,
    ):
        assert p.tags()["THRESHOLD"] == m.tags()["THRESHOLD"]
        threshold = np.float32(p.tags()["THRESHOLD"])
        assert np.array_equal(p.read(1) >= threshold, m.read(1) == 1)
        assert np.array_equal(m.read(1), unshifted.read(1)), "the same pixels as without"
    assert (slumps_of(tmp_path / "map")["mean_prob"] >= log["threshold"] - 1e-6).all()


def test_caveats_stand_everywhere(place, tmp_path):
    "What is known of a map only when it is finished stands in its rasters too."
    cut(place, tmp_path / "scenes", "a", 0, 300)
    rows = ["tile_id,path,RegionName", "a,scenes/a.tif,Nowhere"]
    (tmp_path / "tiles.csv").write_text("\n".join(rows), encoding="utf-8")
    log = infer(place / "model", tmp_path / "tiles.csv", tmp_path / "map")
    caveats = "; ".join(log["warnings"])
    assert "Nowhere: no threshold of their own" in caveats
    for name in ("a_probability.tif", "a_mask.tif", "mosaic.vrt"):
        with rasterio.open(tmp_path / "map" / name) as raster:
            assert raster.tags()["CAVEATS"] == caveats, name
