"""Maps without a model, for tests of map.html: imagery, probability, records and slumps as a finished map has them."""

import geopandas as gpd
import numpy as np
import rasterio
import shapely
from rasterio.transform import from_origin

from rts_nb.core.files import write_json
from rts_nb.mapping.columns import EXPECTED_COLUMNS, slump_layer
from rts_nb.mapping.figures import read_slumps
from rts_nb.mapping.geodesy import geodesic_size, to_degrees
from rts_nb.mapping.records import file_stamp
from rts_nb.tiles.layout import write_raster
from rts_nb.tiles.sample import paint, palette_of

PIXEL_M = 3
PLACE = (-2e6, -1e5)  # upper left corner of the first scene (m, EPSG:3413)


def draw_slump(rng, x, y):
    "A ragged outline around a point, 20 to 60 m wide."
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    radius = rng.uniform(10, 30) * rng.uniform(0.8, 1.2, len(angles))
    return shapely.Polygon(np.stack([x + radius * np.cos(angles), y + radius * np.sin(angles)], 1))


def draw_slumps(rng, name, box, n):
    "So many slumps of a scene in its box, as rows of the layer."
    left, bottom, right, top = box
    rows = []
    for k in range(n):
        polygon = draw_slump(rng, rng.uniform(left + 60, right - 60), rng.uniform(bottom + 60, top - 60))
        area, perimeter = geodesic_size(polygon)
        lon, lat = to_degrees(polygon.centroid.x, polygon.centroid.y)
        probability = rng.uniform(0.5, 0.98)
        row = dict(rts_id=f"{name}-{k + 1:04d}", scene=name, area_m2=area, perimeter_m=perimeter)
        row |= dict(centroid_lat=lat, centroid_lon=lon, mean_prob=probability, max_prob=probability + 0.01)
        row |= dict.fromkeys(EXPECTED_COLUMNS, np.nan) | dict(detection_scale=1.0, tile_ids=name, cut_by="")
        rows.append(row | dict(geometry=polygon))
    return rows


def write_scene(out, folder, name, corner, side, rng):
    "Imagery, rasters and record of a scene of `side` pixels; its box."
    transform = from_origin(*corner, PIXEL_M, PIXEL_M)
    rgb, *_ = paint(rng, side, side, palette_of(rng), slumps=3)
    write_raster(folder / f"{name}.tif", rgb, transform)
    probability = np.zeros((1, side, side), "f4")
    probability[:, : side // 2] = 0.8
    write_raster(out / f"{name}_probability.tif", probability, transform, nodata=-1)
    write_raster(out / f"{name}_mask.tif", (probability > 0.5).astype("u1"), transform, nodata=255)
    record = dict(scene=name, read=dict(bands=[1, 2, 3]), source=file_stamp(folder / f"{name}.tif"))
    write_json(out / "parts" / f"{name}.json", record)
    with rasterio.open(out / f"{name}_mask.tif") as mask:
        return mask.bounds


def draw_map(place, counts, corner=PLACE, apart_m=150_000, side=300, caveats=("the imagery is painted",)):
    "A finished map below a folder: scenes (name → number of slumps) so far apart, without any model; its folder."
    rng, out, folder = np.random.default_rng(3), place / "map", place / "scenes"
    (out / "parts").mkdir(parents=True)
    folder.mkdir()
    rows = []
    for k, (name, n) in enumerate(counts.items()):
        box = write_scene(out, folder, name, (corner[0] + k * apart_m, corner[1]), side, rng)
        rows += draw_slumps(rng, name, box, n)
    slump_layer(rows, EXPECTED_COLUMNS).to_parquet(out / "rts.parquet")
    write_json(out / "inference_log.json", dict(warnings=list(caveats)))
    return out


def scatter(out, n, reach_m=300_000):
    "Puts so many slumps all around into the layer of a map."
    rng = np.random.default_rng(4)
    box = (PLACE[0] - reach_m, PLACE[1] - reach_m, PLACE[0] + reach_m, PLACE[1] + reach_m)
    layer = slump_layer(draw_slumps(rng, read_slumps(out)["scene"].iloc[0], box, n), EXPECTED_COLUMNS)
    layer.to_parquet(out / "rts.parquet")


def change_slumps(out, **columns):
    "Sets columns of the layer of a map."
    slumps: gpd.GeoDataFrame = read_slumps(out).assign(**columns)
    slumps.to_parquet(out / "rts.parquet")
