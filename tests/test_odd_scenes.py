"""Scenes as users have them: mapped, or refused by name with the way out; none ends the map of the others."""

import os
import re

import numpy as np
import pytest
import rasterio
from pyproj import Transformer
from rasterio import Affine
from rasterio.control import GroundControlPoint
from rasterio.transform import from_origin
from toy_map import cut_off, make_place

from rts_nb.core.files import DataError
from rts_nb.infer import infer
from rts_nb.mapping.catalogue import finished_records
from rts_nb.mapping.log import check_complete
from rts_nb.mapping.records import read_scene_record, record_path, recorded_names

LON, LAT = -135.0, 69.0
SIDE = 80  # pixels


def picture(bands=3, seed=3):
    "A picture of smooth noise, uint8."
    rng = np.random.default_rng(seed)
    coarse = rng.integers(20, 250, (bands, SIDE // 8, SIDE // 8))
    return coarse.repeat(8, 1).repeat(8, 2).astype("u1")


def place_of(crs):
    "Where the test ground lies in a CRS."
    return Transformer.from_crs(4326, crs, always_xy=True).transform(LON, LAT)


def write(path, crs="EPSG:3413", transform=None, rgb=None, **more):
    "Writes a scene at the test ground."
    rgb = picture() if rgb is None else rgb
    transform = transform or from_origin(*place_of(crs), 3, 3)
    size = dict(count=len(rgb), height=rgb.shape[1], width=rgb.shape[2], dtype=rgb.dtype.name)
    with rasterio.open(path, "w", driver="GTiff", crs=crs, transform=transform, **size, **more) as f:
        f.write(rgb)


def at(crs, matrix):
    "A transform at the test ground: `matrix` is (a, b, d, e)."
    x, y = place_of(crs)
    a, b, d, e = matrix
    return Affine(a, b, x, d, e, y)


def turned_over(a, e):
    "The transform of the same ground for a picture that is mirrored (a < 0) or upside down (e > 0)."
    x, y = place_of("EPSG:3413")
    return Affine(a, 0, x + 3 * SIDE * (a < 0), 0, e, y - 3 * SIDE * (e > 0))


def degrees(path):
    write(path, "EPSG:4326", Affine(8e-5, 0, LON, 0, -2.7e-5, LAT))


def with_points_only(path):
    x, y = place_of("EPSG:32608")
    points = [GroundControlPoint(r, c, x + 3 * c, y - 3 * r) for r, c in ((0, 0), (0, SIDE), (SIDE, 0), (SIDE, SIDE))]
    with rasterio.open(path, "w", driver="GTiff", count=3, height=SIDE, width=SIDE, dtype="uint8") as f:
        f.write(picture())
        f.gcps = (points, rasterio.CRS.from_epsg(32608))


def link_to_itself(path):
    path.symlink_to(path.name)


def half(path):
    write(path)
    cut_off(path)


MAPPED = {
    "utm": lambda p: write(p, "EPSG:32608"),
    "polar": lambda p: write(p, "EPSG:3995"),
    "degrees": degrees,
    "plain": write,
    "mirrored": lambda p: write(p, transform=turned_over(-3, -3), rgb=picture()[:, :, ::-1]),
    "south_up": lambda p: write(p, transform=turned_over(3, 3), rgb=picture()[:, ::-1]),
    "turned": lambda p: write(p, transform=at("EPSG:3413", (2.6, 1.5, 1.5, -2.6))),
    "sheared": lambda p: write(p, transform=at("EPSG:3413", (3, 0.9, 0, -3))),
    "coarser": lambda p: write(p, transform=at("EPSG:3413", (6, 0, 0, -6))),
    "oblong": lambda p: write(p, transform=at("EPSG:3413", (3, 0, 0, -4))),
    "one_pixel": lambda p: write(p, rgb=np.full((3, 1, 1), 90, "u1")),
    "narrow": lambda p: write(p, rgb=picture()[:, :5]),
    "alpha": lambda p: write(p, rgb=np.concatenate([picture(), np.full((1, SIDE, SIDE), 255, "u1")]), alpha="yes"),
    "a,comma": write,
    "ünïcode": write,
    "nothing_there": lambda p: write(p, rgb=np.zeros((3, SIDE, SIDE), "u1")),
}
REFUSED = {
    "antarctic": (lambda p: write(p, "EPSG:3031", from_origin(-2e6, 1e6, 3, 3)), r"lies at .*° S.*anywhere"),
    "utm_south": (lambda p: write(p, "EPSG:32733", from_origin(5e5, 2.3e6, 3, 3)), r"lies at .*° S.*anywhere"),
    "metres_as_degrees": (
        lambda p: write(p, "EPSG:4326", from_origin(-2e6, -1e5, 3, 3)),
        r"lies nowhere on the Earth.*is its CRS right",
    ),
    "swapped": (
        lambda p: write(p, "EPSG:4326", Affine(3e-5, 0, LAT, 0, -3e-5, LON)),
        r"lies nowhere on the Earth.*is its CRS right",
    ),
    "lost": (lambda p: write(p, None, from_origin(0, 0, 3, 3)), r"has no georeference"),
    "points_only": (with_points_only, r"ground control points.*gdalwarp"),
    "deep": (lambda p: write(p, rgb=picture().astype("u2")), r"uint16, expected uint8"),
    "grey": (lambda p: write(p, rgb=picture()[:1]), r"has 1 band\(s\), expected R, G, B"),
    "half": (half, r"rows .* cannot be read"),
    "note": (lambda p: p.write_text("no raster", encoding="utf-8"), r"cannot be opened"),
    "itself": (link_to_itself, r"cannot be opened"),
    "n" * 235: (write, r"239|235 bytes.*at most 200"),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    "A model, and a folder of odd scenes beside two good ones."
    place = make_place(tmp_path_factory.mktemp("odd"), rows=[1, 1], slumps=2)
    odd = place / "odd"
    odd.mkdir()
    for name, make in MAPPED.items():
        make(odd / f"{name}.tif")
    for name, (make, _) in REFUSED.items():
        make(odd / f"{name}.tif")
    with open(os.fsencode(odd) + b"/lat\xedn.tif", "wb") as f:  # a name in Latin-1
        f.write((odd / "utm.tif").read_bytes())
    (odd / "._utm.tif").write_bytes(b"\0\5\26\7")
    (odd / "folder.tif").mkdir()
    return place


@pytest.fixture(scope="module")
def log(place):
    "The log of their map."
    return infer(place / "model", place / "odd", place / "map", device="cpu")


def test_none_ends_the_map(place, log):
    assert set(recorded_names(place / "map")) == {name.replace(",", "_") for name in MAPPED}
    n = len(REFUSED) + 1  # and the one whose name is not UTF-8
    with pytest.raises(DataError, match=f"{n} of {n + len(MAPPED)} scenes failed"):
        check_complete(log)
    assert not (place / "map" / "inference_errors.log").exists(), "none of them is a defect"


@pytest.mark.parametrize("name", REFUSED)
def test_is_refused_by_name(log, name):
    (reason,) = [reason for failed, reason in log["scenes_failed"].items() if failed[:20] == name[:20]]
    assert re.search(REFUSED[name][1], reason), reason
    assert "\n" not in reason


def test_latin_name_is_told(log):
    (reason,) = [reason for failed, reason in log["scenes_failed"].items() if failed.startswith("lat")]
    assert "not UTF-8" in reason


@pytest.mark.parametrize("name", sorted(set(MAPPED) - {"nothing_there", "one_pixel", "narrow"}))
def test_ground_and_mask_agree(place, log, name):
    name = name.replace(",", "_")
    record = read_scene_record(record_path(place / "map", name))
    assert record["km2"] == pytest.approx(record["footprint_km2"], rel=0.06), "all of its footprint was looked at"
    with (
        rasterio.open(place / "map" / f"{name}_probability.tif") as p,
        rasterio.open(place / "map" / f"{name}_mask.tif") as m,
    ):
        probability, mask = p.read(1), m.read(1)
        threshold = np.float32(m.tags()["THRESHOLD"])
    assert np.array_equal(mask == 255, probability == -1)
    assert np.array_equal(mask == 1, probability >= threshold)


@pytest.mark.parametrize("name", ["mirrored", "south_up"])
def test_turned_over_is_the_same_map(place, log, name):
    with (
        rasterio.open(place / "map" / "plain_mask.tif") as plain,
        rasterio.open(place / "map" / f"{name}_mask.tif") as m,
    ):
        assert m.transform.almost_equals(plain.transform, 1e-3)
        assert np.array_equal(m.read(1), plain.read(1))


def test_where_nothing_is_there_nothing_is_claimed(place, log):
    (record,) = [record for record in finished_records(place / "map") if record["scene"] == "nothing_there"]
    assert record["km2"] == 0 < record["footprint_km2"]
    assert record["owned_km2"] == 0


def test_alone_each_failure_says_why(place):
    with pytest.raises(DataError, match="no scene could be mapped: .*has no georeference"):
        infer(place / "model", place / "odd" / "lost.tif", place / "alone", device="cpu")
