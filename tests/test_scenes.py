"""Outlines (drawn by the tests, and real ones where they are here) over imagery made for their extents.

What comes out must lie where the outlines lie, and nothing may get lost on the way.
"""

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from pyproj import Transformer
from rasterio.transform import array_bounds, from_origin
from shapely.prepared import prep

from rts_nb.core.files import DataError
from rts_nb.tiles.checks import check_dataset
from rts_nb.tiles.cutting import tile_scenes
from rts_nb.tiles.layout import CRS, IGNORE, dataset_info, load_tiles, read_tile, tile_path
from rts_nb.tiles.outlines import load_outlines, read_outlines

PIXEL, SIZE = 12.0, 64  # metres, pixels: 768 m a tile


def ground(x, y):
    "The colour of a place (m, EPSG:3413): a pattern by which places can be told apart."
    waves = [np.sin(x / 700), np.sin(y / 900), np.sin((x + y) / 1500)]
    return 120 + 80 * np.stack(waves)


def shoot(path, bounds, crs):
    "A scene of the ground, in any projection."
    left, bottom, right, top = bounds
    transform = from_origin(left, top, PIXEL, PIXEL)
    cols, rows = np.meshgrid(np.arange((right - left) // PIXEL) + 0.5, np.arange((top - bottom) // PIXEL) + 0.5)
    x, y = Transformer.from_crs(crs, CRS, always_xy=True).transform(*(transform @ (cols, rows)))
    height, width = cols.shape
    profile = dict(driver="GTiff", count=3, height=height, width=width, dtype="uint8", crs=crs, transform=transform)
    with rasterio.open(path, "w", **profile) as f:
        f.write(np.round(ground(x, y)).astype("u1"))


def shoot_all(outlines, name, folder):
    "Scenes around the clusters of a layer's outlines, in its own projection, or in UTM if that is in degrees."
    if outlines.crs.is_geographic:
        outlines = outlines.to_crs(outlines.estimate_utm_crs())
    near = outlines.buffer(1500).union_all()
    for k, cluster in enumerate(getattr(near, "geoms", [near])):
        shoot(folder / f"{name}_{k}.tif", cluster.bounds, outlines.crs)


def layer(outline_set, name):
    return str(outline_set.folder / f"{name}.shp")


@pytest.fixture(scope="module")
def scenes(outline_set, tmp_path_factory):
    "A folder of scenes around all outlines."
    folder = tmp_path_factory.mktemp("scenes")
    for name in outline_set.outlines:
        outlines = gpd.read_file(layer(outline_set, name))
        if "site" in outlines:
            for site, of_site in outlines.groupby("site"):
                shoot_all(of_site, site, folder)
        elif len(outlines):
            shoot_all(outlines, name, folder)
    return folder


@pytest.fixture(scope="module")
def made(outline_set, scenes, tmp_path_factory):
    "The dataset of all layers together."
    root = tmp_path_factory.mktemp("made") / "rts"
    options = dict(tile_size=SIZE, pixel=PIXEL, negatives=0.5, region_km=40, all_positive=True)
    return tile_scenes(scenes, layer(outline_set, "*"), root, **options)


@pytest.fixture(scope="module")
def drawn(outline_set):
    "All outlines, of whatever year."
    return load_outlines(layer(outline_set, "*"), region_km=40, all_positive=True)[0]


@pytest.fixture(scope="module")
def kept(drawn):
    "The latest outline of every place."
    return drawn.query("kept")


def some_of(tiles, n):
    return tiles.sample(min(n, len(tiles)), random_state=0)


def transform_of(root, tile):
    with rasterio.open(tile_path(root, "rgb", tile)) as f:
        return f.transform


def test_no_outline_is_lost(outline_set):
    for name, n in outline_set.outlines.items():
        outlines, counts = read_outlines(layer(outline_set, name), all_positive=True)
        assert len(outlines) == counts["outlines read"] == n, name
        assert counts["outlines repaired"] == outline_set.repaired.get(name, 0), name
        assert outlines.geometry.is_valid.all() and outlines.uid.is_unique, name
        before = gpd.read_file(layer(outline_set, name)).to_crs(CRS)
        np.testing.assert_allclose(outlines.area, before.area, rtol=0.01, err_msg=f"{name}: repairing changes little")


def test_parts_regions_and_dates_stay(outline_set):
    site, _ = read_outlines(layer(outline_set, outline_set.one_site), all_positive=True)
    assert (site.geom_type == "MultiPolygon").sum() == 1, "one slump in several parts is one outline"
    dated, _ = read_outlines(layer(outline_set, outline_set.dated), all_positive=True)
    assert set(dated.region) == outline_set.regions
    assert dated.date.str.match("201[89]").all()


def test_latest_and_union(outline_set, kept):
    all_years, _ = load_outlines(layer(outline_set, outline_set.dated), years="union", all_positive=True)
    union = all_years.query("kept")
    latest = kept[kept.uid.isin(union.uid)]
    assert len(union) == outline_set.outlines[outline_set.dated]
    assert len(latest) == outline_set.latest, "most places were outlined again and again"
    gone = union[~union.uid.isin(latest.uid)]
    assert gone.intersects(latest.union_all()).mean() > 0.95, "what is left out has been outlined again"
    low, high = outline_set.ground
    share = latest.union_all().area / union.union_all().area
    assert low < share < high, "the ground of the latest outlines is most of the ground of all"
    last_dates = union.groupby("region").date.max()
    assert latest.groupby("region").date.max().equals(last_dates), "the last image of a region stays"


def test_layer_without_features(outline_set, scenes, tmp_path):
    empty = layer(outline_set, outline_set.empty)
    with pytest.raises(DataError, match=f"{outline_set.empty}.shp: no outline of a slump"):
        tile_scenes(scenes, empty, tmp_path / "rts")


def test_outlines_without_a_class_are_refused(outline_set, scenes, tmp_path):
    with pytest.raises(DataError, match="has no column TrainClass .*all_positive=true"):
        tile_scenes(scenes, layer(outline_set, outline_set.one_site), tmp_path / "rts")
    assert not (tmp_path / "rts").exists()


def test_a_single_site_is_split_too(outline_set, scenes, tmp_path):
    site = layer(outline_set, outline_set.one_site)
    options = dict(tile_size=SIZE, pixel=PIXEL, negatives=0.5, all_positive=True)
    root = tile_scenes(scenes, site, tmp_path / "rts", **options)
    tiles, report = load_tiles(root), dataset_info(root)["report"]
    assert check_dataset(root) == []
    assert report["km, side of the squares that too few regions were cut into"] < 100
    assert tiles[tiles.positive].split.value_counts(normalize=True)["train"] == pytest.approx(0.8, abs=0.1)


def test_dataset_is_sound(made):
    assert check_dataset(made) == []


def test_labels_cover_the_outlines(made, kept):
    tiles = load_tiles(made).query("positive")
    labelled = sum((read_tile(made, t)["label"] == 1).sum() for t in tiles.Tile_id) * PIXEL**2
    drawn = kept.union_all().area
    assert abs(labelled / drawn - 1) < 0.01, f"{labelled / 1e4:.0f} ha labelled, {drawn / 1e4:.0f} ha outlined"


def test_labels_lie_where_the_outlines_lie(made, kept):
    everything = prep(kept.union_all())
    for row in some_of(load_tiles(made).query("positive"), 60).itertuples():
        rows, cols = np.nonzero(read_tile(made, row.Tile_id)["label"] == 1)
        x, y = transform_of(made, row.Tile_id) @ (cols + 0.5, rows + 0.5)
        assert all(everything.covers(p) for p in shapely.points(x, y)), f"{row.Tile_id} has RTS outside of all outlines"


def test_tiles_show_their_ground(made):
    "A place that is 12 m off would differ by 1.4 on average."
    cols, rows = np.meshgrid(np.arange(SIZE) + 0.5, np.arange(SIZE) + 0.5)
    for row in some_of(load_tiles(made), 80).itertuples():
        tile = read_tile(made, row.Tile_id)
        x, y = transform_of(made, row.Tile_id) @ (cols, rows)
        difference = np.abs(tile["rgb"] - ground(x, y))[:, tile["label"] != IGNORE]
        assert difference.max() < 4, f"{row.Tile_id} shows another place"
        assert difference.mean() < 0.5, f"{row.Tile_id} shows another place"


def test_every_slump_is_in_metadata(made, kept):
    tiles = load_tiles(made)
    named = {uid for uids in tiles.UIDs[tiles.positive] for uid in uids.split(";")}
    assert not tiles.UIDs[~tiles.positive].any(), "a negative tile names a slump"
    assert named <= set(kept.uid)
    lacking = kept[~kept.uid.isin(named)]
    assert (lacking.area < 4 * PIXEL**2).all(), "only what is smaller than a few pixels may be in no tile"


def test_negatives_keep_away(made, drawn):
    negatives = load_tiles(made).query("not positive")
    footprints = [array_bounds(SIZE, SIZE, transform_of(made, tile)) for tile in negatives.Tile_id]
    boxes = [shapely.box(*footprint) for footprint in footprints]
    tree = shapely.STRtree(drawn.geometry.to_numpy())
    near = tree.query(boxes, predicate="dwithin", distance=0.999 * SIZE * PIXEL)
    assert not near.size, f"{len(set(near[0]))} negatives are within a tile of an outline, of whatever year"


def test_report_adds_up(outline_set, made, kept):
    tiles, report = load_tiles(made), dataset_info(made)["report"]
    n_outlines = sum(outline_set.outlines.values())
    assert report["outlines read"] == n_outlines
    assert report["outlines repaired"] == sum(outline_set.repaired.values())
    assert report["positive tiles"] == tiles.positive.sum()
    assert report["negative tiles"] == (~tiles.positive).sum()
    assert report["outlines of an earlier date (what no later one covers is ignored)"] == n_outlines - len(kept)
    assert report.get("outlines outside all scenes", 0) == 0
