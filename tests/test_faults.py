"""Thirty ways of breaking a dataset: each is made from a good one, and check_data.py names tile and fault and says no."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rasterio
import yaml
from affine import Affine

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
T, SIZE = "S00_0000", 32  # a positive tile of a region that is in train


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    from rts_nb.tiles.sample import make_sample

    return make_sample(
        tmp_path_factory.mktemp("sound") / "rts", tile_size=SIZE, n_regions=6, n_positive=18, n_negative=18, n_scenes=0
    )


def file(root, kind, tile=T):
    return root / {"rgb": "PLANET-RGB", "extra": "EXTRA", "label": "labels"}[kind] / f"{tile}.tif"


def rewrite(root, kind, change=lambda a: a, tile=T, **profile):
    "A tile's file written anew, with other pixels or another profile."
    with rasterio.open(file(root, kind, tile)) as f:
        array, old = change(f.read()), f.profile
    new = old | dict(count=array.shape[0], height=array.shape[1], width=array.shape[2], dtype=array.dtype) | profile
    with rasterio.open(file(root, kind, tile), "w", **new) as f:
        f.write(array)


def cell(root, tile, column, value):
    table = pd.read_csv(root / "metadata.csv", dtype=str, keep_default_na=False)
    table.loc[table.Tile_id == tile, column] = value
    table.to_csv(root / "metadata.csv", index=False)


def edit_yaml(root, change):
    splits = yaml.safe_load((root / "splits.yaml").read_text())
    change(splits)
    (root / "splits.yaml").write_text(yaml.safe_dump(splits))


def edit_json(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def put(value, band=0):
    def change(a):
        a = a.copy()
        a[band, 3, 4] = value
        return a

    return change


def negative(root):
    return next(
        t
        for t in pd.read_csv(root / "metadata.csv")
        .query('TrainClass == "Negative" and RegionName == "Sample 00"')
        .Tile_id
    )


def other_split(root):
    "A tile of another split than T's."
    splits = yaml.safe_load((root / "splits.yaml").read_text())
    mine = next(s for s, r in splits.items() if "Sample 00" in r)
    region = next(r[0] for s, r in splits.items() if s != mine)
    return next(iter(pd.read_csv(root / "metadata.csv").query("RegionName == @region").Tile_id))


def move_onto(root, tile, target):
    "A whole tile to the place of another one, in metadata.csv too."
    with rasterio.open(file(root, "rgb", target)) as f:
        place = f.transform
    for kind in ("rgb", "extra", "label"):
        rewrite(root, kind, tile=tile, transform=place @ Affine.translation(5, 5))
    table = pd.read_csv(root / "metadata.csv", dtype=str, keep_default_na=False).set_index("Tile_id")
    for column in ("centroid_lat", "centroid_lon"):
        cell(root, tile, column, table.loc[target, column])


def shift(root, kind):
    with rasterio.open(file(root, kind)) as f:
        transform = f.transform
    rewrite(root, kind, transform=transform @ Affine.translation(1, 0))


def repeat_line(root):
    lines = (root / "metadata.csv").read_text().splitlines()
    (root / "metadata.csv").write_text("\n".join([*lines, next(l for l in lines if l.startswith(T))]) + "\n")


def drop_line(root, tile):
    lines = (root / "metadata.csv").read_text().splitlines()
    (root / "metadata.csv").write_text("\n".join(l for l in lines if not l.startswith(tile)) + "\n")


def truncate(path):
    path.write_bytes(path.read_bytes()[: len(path.read_bytes()) // 2])


def empty_split(splits):
    splits["train"] += splits["val"]
    splits["val"] = []


FAULTS = {
    "truncated TIFF": (lambda r: truncate(file(r, "rgb")), f"{T}: PLANET-RGB/{T}.tif: cannot be read"),
    "truncated EXTRA": (lambda r: truncate(file(r, "extra")), f"{T}: EXTRA/{T}.tif: cannot be read"),
    "not a TIFF": (lambda r: file(r, "label").write_text("moved"), f"{T}: labels/{T}.tif: cannot be read"),
    "other CRS": (
        lambda r: rewrite(r, "rgb", crs="EPSG:32610"),
        f"{T}: PLANET-RGB/{T}.tif: found the CRS EPSG:32610, expected EPSG:3413",
    ),
    "no CRS": (lambda r: rewrite(r, "label", crs=None), f"{T}: labels/{T}.tif: found the CRS none, expected EPSG:3413"),
    "shifted label": (lambda r: shift(r, "label"), f"{T}: labels/{T}.tif: is not on the grid of the RGB tile"),
    "shifted EXTRA": (lambda r: shift(r, "extra"), f"{T}: EXTRA/{T}.tif: is not on the grid of the RGB tile"),
    "wrong size": (
        lambda r: rewrite(r, "rgb", lambda a: a[:, :, :30]),
        f"{T}: PLANET-RGB/{T}.tif: found 32 x 30 pixels, expected 32 x 32",
    ),
    "wrong dtype": (
        lambda r: rewrite(r, "rgb", lambda a: a.astype("u2")),
        f"{T}: PLANET-RGB/{T}.tif: found uint16, expected uint8",
    ),
    "wrong dtype of EXTRA": (
        lambda r: rewrite(r, "extra", lambda a: a.astype("f8")),
        f"{T}: EXTRA/{T}.tif: found float64, expected float32",
    ),
    "wrong band count": (
        lambda r: rewrite(r, "rgb", lambda a: a[[0, 1, 2, 2]]),
        f"{T}: PLANET-RGB/{T}.tif: found 4 bands, expected 3",
    ),
    "band missing in EXTRA": (
        lambda r: rewrite(r, "extra", lambda a: a[:3]),
        f"{T}: EXTRA/{T}.tif: found 3 bands, expected 4",
    ),
    "NaN in EXTRA": (
        lambda r: rewrite(r, "extra", put(np.nan)),
        f"{T}: EXTRA/{T}.tif: 1 values of ndvi are NaN or infinite",
    ),
    "infinity in EXTRA": (
        lambda r: rewrite(r, "extra", put(np.inf, 2)),
        f"{T}: EXTRA/{T}.tif: 1 values of re are NaN or infinite",
    ),
    "label 2": (
        lambda r: rewrite(r, "label", put(2)),
        f"{T}: labels/{T}.tif: found the values [2], expected 0, 1 or 255",
    ),
    "empty positive": (
        lambda r: rewrite(r, "label", np.zeros_like),
        f"{T}: labels/{T}.tif: a Positive tile without RTS pixels",
    ),
    "RTS in a negative": (lambda r: rewrite(r, "label", put(1), negative(r)), "a Negative tile with 1 RTS pixels"),
    "unknown class": (
        lambda r: cell(r, T, "TrainClass", "HardNegative"),
        f"{T}: metadata.csv: TrainClass is 'HardNegative', expected Positive or Negative",
    ),
    "missing RGB": (lambda r: file(r, "rgb").unlink(), f"{T}: PLANET-RGB/{T}.tif: is missing"),
    "missing label": (lambda r: file(r, "label").unlink(), f"{T}: labels/{T}.tif: is missing"),
    "missing EXTRA": (lambda r: file(r, "extra").unlink(), f"{T}: EXTRA/{T}.tif: is missing"),
    "orphan file": (
        lambda r: shutil.copy(file(r, "rgb"), file(r, "rgb", "X1")),
        "X1: PLANET-RGB/X1.tif: is not in metadata.csv",
    ),
    "orphan label": (
        lambda r: shutil.copy(file(r, "label"), file(r, "label", "X1")),
        "X1: labels/X1.tif: is not in metadata.csv",
    ),
    "tile taken from the table": (lambda r: drop_line(r, T), f"{T}: PLANET-RGB/{T}.tif: is not in metadata.csv"),
    "duplicate tile id": (repeat_line, f"{T}: metadata.csv: stands in it 2 times"),
    "tile elsewhere": (
        lambda r: cell(r, T, "centroid_lat", "71.5"),
        f"{T}: metadata.csv: centroid_lat, centroid_lon lie ",
    ),
    "pixels of another size": (
        lambda r: [rewrite(r, k, transform=Affine(4, 0, -1.5e6, 0, -4, -1.2e6)) for k in ("rgb", "label", "extra")],
        f"{T}: PLANET-RGB/{T}.tif: found pixels of 4 m, most tiles have 3 m",
    ),
    "region in two splits": (
        lambda r: edit_yaml(r, lambda s: [s[k].append("Sample 00") for k in s if "Sample 00" not in s[k]][:1]),
        "region Sample 00: splits.yaml: is in train and",
    ),
    "region in none": (
        lambda r: edit_yaml(r, lambda s: [s[k].remove("Sample 00") for k in s if "Sample 00" in s[k]]),
        "region Sample 00: splits.yaml: is in no split, and has 6 tiles",
    ),
    "overlapping footprints": (lambda r: move_onto(r, other_split(r), T), ": splits.yaml: is in train and overlaps S0"),
    "empty split": (lambda r: edit_yaml(r, empty_split), "split val: splits.yaml: has no positive tile"),
    "statistics of other tiles": (
        lambda r: edit_json(r / "normalization_stats.json", n_tiles_used=7),
        "normalization_stats.json: is of 7 other tiles than the ",
    ),
    "statistics of as many other tiles": (
        lambda r: edit_json(r / "normalization_stats.json", tiles_digest="0" * 16),
        "normalization_stats.json: is of 24 other tiles than the 24 ",
    ),
    "statistics of another version": (
        lambda r: edit_json(r / "version.json", dataset_version="2.1"),
        "normalization_stats.json is of dataset version 2.0, the data of 2.1",
    ),
    "counts of other labels": (
        lambda r: rewrite(r, "label", lambda a: np.where(a == 1, 1, 255).astype("u1")),
        "splits_summary.json: states ",
    ),
    "unreadable csv": (lambda r: (r / "metadata.csv").write_bytes(b"\xff\xfe\x00Tile"), "metadata.csv cannot be read"),
    "another table": (
        lambda r: (r / "metadata.csv").write_text("a,b\n1,2\n"),
        "metadata.csv lacks the columns Tile_id",
    ),
    "unreadable yaml": (lambda r: (r / "splits.yaml").write_text("train: [a\nval: b"), "splits.yaml is not readable"),
    "no coordinates": (
        lambda r: cell(r, T, "centroid_lon", ""),
        f"{T}: metadata.csv: centroid_lat, centroid_lon are not degrees",
    ),
    "all-nodata tile": (lambda r: rewrite(r, "rgb", np.zeros_like), f"{T}: PLANET-RGB/{T}.tif: no pixel has data"),
    "no version": (lambda r: (r / "version.json").unlink(), "version.json is missing"),
    "tiles of another size than said": (
        lambda r: edit_json(r / "version.json", tile_size=64),
        "has tiles of 64 pixels, data.tile_size is 32",
    ),
}


def check(root, tmp_path, capsys, *more):
    "Exit status and lines of check_data.py, called as a function to save its start."
    import argparse

    import check_data

    args = argparse.Namespace(
        config="configs/sample.yaml",
        root=str(root),
        batches=1,
        figure=str(tmp_path / "batch.png"),
        overrides=f"data.tile_size={SIZE} data.extra_channels=[ndvi,re] sampling.batch_size=8 loader.num_workers=0 predict.overlap=8",
    )
    status = check_data.main(args)
    return status, capsys.readouterr().out.splitlines()


def test_sound_dataset_passes(sound, tmp_path, capsys):
    status, lines = check(sound, tmp_path, capsys)
    assert status == 0 and (tmp_path / "batch.png").stat().st_size > 10_000, lines
    assert any(l.split() == ["faults", "0"] for l in lines) and any(
        "1 of 8 tiles, 4 of these positive" in l for l in lines
    )


@pytest.mark.parametrize("name", FAULTS)
def test_fault_is_found_and_named(sound, tmp_path, capsys, name):
    spoil, says = FAULTS[name]
    root = Path(shutil.copytree(sound, tmp_path / "rts"))
    spoil(root)
    status, lines = check(root, tmp_path, capsys)
    found = [l.strip() for l in lines if says in l]
    assert status == 1 and found, "\n".join(lines)
    print(f"{name}: {found[0]}")
