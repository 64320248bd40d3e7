"""Small data that tests draw themselves: outlines of slumps in layers, and images laid out like the public ones."""

import json

import cv2
import geopandas as gpd
import numpy as np
import pandas as pd
from pyproj import Transformer
from shapely import affinity
from shapely.geometry import MultiPolygon, Polygon

SITES = {"Peel": (-135.0, 67.5), "Lena": (125.0, 72.0), "Kolguev": (49.0, 69.0)}  # degrees


def slump(x, y, rng, radius=220.0):
    "A lobed outline around a place (m)."
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    lobes = radius * (1 + 0.2 * np.sin(3 * angle + rng.uniform(0, 6)) + 0.1 * rng.standard_normal(40))
    return Polygon(np.stack([x + lobes * np.cos(angle), y + lobes * np.sin(angle)], 1))


def with_loop(polygon):
    "The outline with a small loop at its first corner, as a pen makes it: its ring crosses itself."
    (x, y), *others = list(polygon.exterior.coords)[:-1]
    loop = [(x + 4, y + 4), (x - 4, y + 4), (x, y - 2)]
    return Polygon([(x, y), *loop, *others])


def write_layer(folder, name, outlines, crs):
    outlines.to_crs(crs).to_file(folder / f"{name}.shp")


def two_years(rng):
    "Two slumps in each of three regions, drawn in 2018 and, grown and moved a little, in 2019; two rings are invalid."
    to_grid = Transformer.from_crs(4326, 3413, always_xy=True)
    rows = []
    for region, place in SITES.items():
        x, y = to_grid.transform(*place)
        for k in range(2):
            later = slump(x + 3000 * k, y + 500 * k, rng)
            earlier = affinity.translate(affinity.scale(later, 0.8, 0.8), 60, 0)
            rows += [(region, region, "2018-07-03", earlier), (region, region, "2019-08-01", later)]
    table = pd.DataFrame(rows, columns=["region", "site", "image_date", "geometry"])
    table.loc[[0, 5], "geometry"] = [with_loop(table["geometry"][k]) for k in (0, 5)]
    return gpd.GeoDataFrame(table, geometry="geometry", crs=3413)


def one_site(rng):
    "Twelve slumps within ten kilometres; the last is in two parts."
    x, y = -1_925_000, -495_000
    shapes = [slump(x + 2500 * (k % 4), y + 2500 * (k // 4), rng) for k in range(12)]
    shapes[-1] = MultiPolygon([shapes[-1], affinity.translate(affinity.scale(shapes[-1], 0.4, 0.4), 500, 0)])
    return gpd.GeoDataFrame(dict(Slump_ID=range(12)), geometry=shapes, crs=3413)


def draw_outlines(folder):
    "Writes four layers in four projections; the folder."
    rng = np.random.default_rng(1)
    dated, site = two_years(rng), one_site(rng)
    pair = [with_loop(slump(-720_000, -840_000, rng)), slump(-717_000, -840_000, rng)]
    write_layer(folder, "two_years", dated, 4326)
    write_layer(folder, "one_site", site, 32610)
    write_layer(folder, "stereographic", gpd.GeoDataFrame(dict(Id=[1, 2]), geometry=pair, crs=3413), 3995)
    write_layer(folder, "empty", gpd.GeoDataFrame(dict(id=[1]), geometry=pair[1:], crs=3413)[:0], 4326)
    return folder


def draw_image(rng, height, width, corners):
    "(BGR image, mask) of bright squares of 40 pixels on dark ground."
    image = rng.integers(40, 90, (height, width, 3)).astype("u1")
    mask = np.zeros((height, width), "u1")
    for y, x in corners:
        image[y : y + 40, x : x + 40] += 100
        mask[y : y + 40, x : x + 40] = 255
    return image, mask


def draw_public_images(folder):
    """Writes images/, masks/ and a COCO file of three images, each of another region; the folder.

    The first has eight slumps, the others one each, so that 8 : 1 : 1 is the best split."""
    rng = np.random.default_rng(2)
    corners = {
        "train_yg_000": [(y + 40, x + 40) for y in range(0, 512, 128) for x in (0, 256)],
        "train_yg_010": [(40, 40)],
        "train_yg_020": [(40, 40)],
    }
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    images, annotations = [], []
    for number, (name, places) in enumerate(corners.items()):
        height, width = (512, 512) if number == 0 else (128, 256)
        image, mask = draw_image(rng, height, width, places)
        cv2.imwrite(str(folder / "images" / f"{name}.jpg"), image)
        cv2.imwrite(str(folder / "masks" / f"{name}.jpg"), mask)
        images.append(dict(id=number, file_name=f"{name}.jpg"))
        for y, x in places:
            ring = [x, y, x + 40, y, x + 40, y + 40, x, y + 40]
            annotations.append(dict(id=len(annotations), image_id=number, segmentation=[ring]))
    (folder / "coco_drawn.json").write_text(json.dumps(dict(images=images, annotations=annotations)), encoding="utf-8")
    return folder
