"""PlanetScope imagery as it is delivered, generated: 16 bits, blue first, two UTM zones, masks, outlines in degrees."""

import dataclasses
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import rasterio
from pyproj import Transformer
from rasterio.enums import ColorInterp
from rasterio.features import shapes
from rasterio.transform import from_origin
from shapely.geometry import shape

from rts_nb.tiles.sample import paint, palette_of

GAIN, OFFSET = 11, 120  # surface reflectance of a byte of the painter, times 10,000
SCALE = (OFFSET, OFFSET + 255 * GAIN)  # brings the scenes back to the painter's bytes
PALETTE = palette_of(np.random.default_rng(3))  # one landscape for all, or a few scenes teach too little
PLACES = [(69.8, 178.6), (70.1, 179.2), (69.5, 179.98), (69.9, -179.6), (70.2, -179.0), (69.6, -178.4)]  # lat, lon
REGIONS = ["Chaun", "Billings", "Severny", "Blossom", "Somnitelnaya", "Hawaii Bay"]


@dataclasses.dataclass
class PlanetData:
    "Where the imagery and the inventory are, and what was painted."

    scenes: Path  # a folder of scenes with their masks
    later: Path  # scenes that no outline is of
    outlines: Path  # a Shapefile in degrees
    truth: gpd.GeoDataFrame  # slumps of all scenes in EPSG:3413, with the scene's name


def _zone(lon: float) -> int:
    return 32660 if lon > 0 else 32601


def _cloud(rng, size: int) -> np.ndarray:
    "A round cloud, bool (size, size)."
    y, x = np.mgrid[:size, :size]
    centre = rng.uniform(0.2 * size, 0.8 * size, 2)
    return np.hypot(y - centre[0], x - centre[1]) < 0.06 * size


def _write(path: Path, bands: np.ndarray, crs: int, transform, names=None) -> None:
    count, height, width = bands.shape
    profile = dict(driver="GTiff", count=count, height=height, width=width, dtype=bands.dtype, compress="deflate")
    with rasterio.open(path, "w", crs=crs, transform=transform, **profile) as f:
        f.write(bands)
        if names:
            f.descriptions = names
            f.colorinterp = [getattr(ColorInterp, name, ColorInterp.undefined) for name in names]


def make_scene(folder: Path, name: str, place: tuple[float, float], seed: int, size: int, slumps: int):
    "Writes a scene and its usable data mask; its slumps as polygons in EPSG:3413."
    rng = np.random.default_rng([seed, 7])
    lat, lon = place
    crs = _zone(lon)
    x, y = Transformer.from_crs(4326, crs, always_xy=True).transform(lon, lat)
    transform = from_origin(round(x / 3) * 3, round(y / 3) * 3, 3, 3)
    rgb, extra, label = paint(rng, size, size, PALETTE, slumps, lookalikes=slumps, margin=0.1)
    red_to_blue = rgb.astype("u2") * GAIN + OFFSET
    nir = (extra[1] * 10_000).clip(1, 60_000).astype("u2")
    bands = np.stack([*red_to_blue[::-1], nir])
    cloud = _cloud(rng, size)
    bands[:, cloud] = 9000
    rows, columns = np.mgrid[:size, :size]
    collar = rows + columns < 0.25 * size
    bands[:, collar] = 0
    usable = np.zeros((8, size, size), "u1")
    usable[0] = ~cloud & ~collar
    usable[5] = cloud
    _write(folder / f"{name}_3B_AnalyticMS_SR.tif", bands, crs, transform, ("blue", "green", "red", "nir"))
    _write(folder / f"{name}_3B_udm2.tif", usable, crs, transform)
    is_slump = ((label == 1) & usable[0].astype(bool)).astype("u1")
    rings = [shape(ring) for ring, _ in shapes(is_slump, is_slump == 1, transform=transform)]
    found = gpd.GeoDataFrame(dict(scene=name), index=range(len(rings)), geometry=rings, crs=crs)
    return found[found.area > 300].to_crs(3413)


def make_planet(folder: Path, size: int = 800, slumps: int = 10, n_later: int = 2) -> PlanetData:
    "Six scenes with outlines, one for each region, three in each of two UTM zones, and some without."
    scenes, later = folder / "scenes", folder / "later"
    scenes.mkdir(parents=True)
    later.mkdir()
    drawn, unseen = [], []
    for k, (place, region) in enumerate(zip(PLACES, REGIONS, strict=True)):
        found = make_scene(scenes, f"2024070{k + 1}_2100_24b{k}", place, k, size, slumps)
        drawn.append(found.assign(RegionName=region))
    for k in range(n_later):
        lat, lon = PLACES[2 + k]
        unseen.append(make_scene(later, f"2025070{k + 1}_2200_24c{k}", (lat + 0.1, lon), 100 + k, size, slumps))
    inventory = pd.concat(drawn, ignore_index=True)
    inventory = inventory.assign(
        UID=[f"{region}-{k}" for k, region in enumerate(inventory.RegionName)],
        TrainClass="Positive",
        BaseMapDate="2024-07-01,2024-07-31",
    )
    outlines = folder / "arts.shp"
    inventory.drop(columns="scene").to_crs(4326).to_file(outlines)
    return PlanetData(scenes, later, outlines, pd.concat([*drawn, *unseen], ignore_index=True))
