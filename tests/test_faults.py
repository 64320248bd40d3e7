"""Sixty ways of breaking a dataset: each is made from a good one, and check_data.py names tile and fault."""

import argparse
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rasterio
import yaml
from affine import Affine
from programs import ROOT, read_json

from rts_nb.core.files import write_json
from rts_nb.tiles.layout import tile_path
from rts_nb.tiles.sample import make_sample

sys.path.insert(0, str(ROOT))
import check_data  # noqa: E402 (a script in the root)

TILE, REGION = "S00_0000", "Sample 00"  # a positive tile of a region that is in train
SIZE = 32
KINDS = ("rgb", "extra", "label")


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    "A dataset of 36 tiles without a fault."
    root = tmp_path_factory.mktemp("sound") / "rts"
    return make_sample(root, tile_size=SIZE, n_regions=6, n_positive=18, n_negative=18, n_scenes=0)


# Ways of changing files


def file_of(root, kind, tile=TILE):
    return Path(tile_path(root, kind, tile))


def remove(root, kind):
    file_of(root, kind).unlink()


def truncate(root, kind):
    path = file_of(root, kind)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def add_orphan(root, kind):
    shutil.copy(file_of(root, kind), file_of(root, kind, "X1"))


def unchanged(array):
    return array


def rewrite(root, kind, change=unchanged, tile=TILE, **profile):
    "Writes a tile's file anew, with other pixels or another profile."
    path = file_of(root, kind, tile)
    with rasterio.open(path) as f:
        array, old = change(f.read()), f.profile
    count, height, width = array.shape
    shape = dict(count=count, height=height, width=width, dtype=array.dtype)
    with rasterio.open(path, "w", **(old | shape | profile)) as f:
        f.write(array)


def set_pixel(value, band=0):
    "A change of pixels for `rewrite`."

    def change(array):
        array = array.copy()
        array[band, 3, 4] = value
        return array

    return change


def shift(root, kind):
    with rasterio.open(file_of(root, kind)) as f:
        transform = f.transform
    rewrite(root, kind, transform=transform @ Affine.translation(1, 0))


def enlarge_pixels(root):
    for kind in KINDS:
        rewrite(root, kind, transform=Affine(4, 0, -1.5e6, 0, -4, -1.2e6))


def read_table(root):
    return pd.read_csv(root / "metadata.csv", dtype=str, keep_default_na=False)


def set_cell(root, tile, column, value):
    table = read_table(root)
    table.loc[table.Tile_id == tile, column] = value
    table.to_csv(root / "metadata.csv", index=False)


def table_lines(root):
    return (root / "metadata.csv").read_text(encoding="utf-8").splitlines()


def write_lines(root, lines):
    (root / "metadata.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def repeat_line(root):
    lines = table_lines(root)
    of_tile = next(line for line in lines if line.startswith(TILE))
    write_lines(root, [*lines, of_tile])


def drop_line(root):
    write_lines(root, [line for line in table_lines(root) if not line.startswith(TILE)])


def read_splits(root):
    return yaml.safe_load((root / "splits.yaml").read_text(encoding="utf-8"))


def write_splits(root, splits):
    (root / "splits.yaml").write_text(yaml.safe_dump(splits), encoding="utf-8")


def split_of_region(splits):
    return next(split for split, regions in splits.items() if REGION in regions)


def put_region_into_another_split(root):
    splits = read_splits(root)
    other = next(split for split in splits if split != split_of_region(splits))
    splits[other].append(REGION)
    write_splits(root, splits)


def take_region_out_of_splits(root):
    splits = read_splits(root)
    splits[split_of_region(splits)].remove(REGION)
    write_splits(root, splits)


def empty_val(root):
    splits = read_splits(root)
    splits["train"] += splits["val"]
    splits["val"] = []
    write_splits(root, splits)


def fill_left_column(root, kind, value, tile=TILE):
    "Sets the left column of all bands of a file."
    rewrite(root, kind, lambda a: np.concatenate([np.full_like(a[:, :, :1], value), a[:, :, 1:]], axis=2), tile)


def cover_slumps(root):
    "RGB is 0 wherever the label has RTS."
    with rasterio.open(file_of(root, "label")) as f:
        label = f.read()
    rewrite(root, "rgb", lambda a: a * (label != 1))


def tag_white(root):
    "A tile whose RTS pixels hold its nodata tag."
    with rasterio.open(file_of(root, "label")) as f:
        label = f.read()
    rewrite(root, "rgb", lambda a: np.where(label == 1, 255, a).astype("u1"), nodata=255)


def add_mask_file(root):
    path = file_of(root, "rgb")
    shutil.copy(file_of(root, "label"), path.with_name(f"{path.name}.msk"))


def ignore_all_but_no_data(root):
    "A negative tile whose right half has no data, and whose left half is ignored."
    tile = a_negative(root)

    def right_half(array, value):
        return np.concatenate([array[..., : SIZE // 2], np.full_like(array[..., SIZE // 2 :], value)], axis=-1)

    rewrite(root, "rgb", lambda a: right_half(a, 0), tile)
    rewrite(root, "label", lambda a: right_half(np.full_like(a, 255), 0), tile)


def drop_elevation(root):
    "Relative elevation is 0 in all negative tiles."
    table = read_table(root)
    for tile in table.Tile_id[table.TrainClass == "Negative"]:
        rewrite(root, "extra", lambda a: np.stack([a[0], a[1], 0 * a[2], a[3]]), tile)


def share_slumps(root, n):
    "The first n slumps have tiles in another split too."
    uids = ";".join(f"shared {k}" for k in range(n))
    set_cell(root, TILE, "UIDs", uids)
    set_cell(root, tile_of_another_split(root), "UIDs", uids)


def save_table(root, separator=",", encoding="utf-8"):
    "metadata.csv as a spreadsheet may save it, with a region that is not ASCII."
    text = (root / "metadata.csv").read_text(encoding="utf-8").replace("Sample 05", "Øst")
    (root / "metadata.csv").write_text(text.replace(",", separator), encoding=encoding)


def type_splits(root, text):
    (root / "splits.yaml").write_text(text, encoding="utf-8")


def brighten_training_tile(root):
    "Another image of a training tile than statistics are of."
    rewrite(root, "rgb", lambda a: np.maximum(a, 200))


def make_fresh(root):
    "A dataset laid out by hand, without what check_data.py computes, and of 16 bits."
    for name in (STATISTICS, "splits_summary.json"):
        (root / name).unlink()
    for tile in read_table(root).Tile_id:
        rewrite(root, "rgb", lambda a: a.astype("u2") * 16, tile)


def set_keys(root, name, **changes):
    write_json(root / name, read_json(root / name) | changes)


def a_negative(root):
    table = read_table(root)
    return table.Tile_id[(table.TrainClass == "Negative") & (table.RegionName == REGION)].iloc[0]


def tile_of_another_split(root):
    splits = read_splits(root)
    other = next(split for split in splits if split != split_of_region(splits))
    table = read_table(root)
    return table.Tile_id[table.RegionName == splits[other][0]].iloc[0]


def overlap_another_split(root):
    "Moves a tile of another split onto TILE, in metadata.csv too."
    tile = tile_of_another_split(root)
    with rasterio.open(file_of(root, "rgb")) as f:
        place = f.transform
    for kind in KINDS:
        rewrite(root, kind, tile=tile, transform=place @ Affine.translation(5, 5))
    row = read_table(root).set_index("Tile_id").loc[TILE]
    for column in ("centroid_lat", "centroid_lon"):
        set_cell(root, tile, column, row[column])


# What is broken, how, and what is said of it

RGB, EXTRA, LABEL = (f"{TILE}: {folder}/{TILE}.tif" for folder in ("PLANET-RGB", "EXTRA", "labels"))
TABLE = f"{TILE}: metadata.csv"
STATISTICS = "normalization_stats.json"

FILE_FAULTS = {
    "truncated TIFF": (lambda root: truncate(root, "rgb"), f"{RGB}: cannot be read"),
    "truncated EXTRA": (lambda root: truncate(root, "extra"), f"{EXTRA}: cannot be read"),
    "not a TIFF": (
        lambda root: file_of(root, "label").write_text("moved", encoding="utf-8"),
        f"{LABEL}: cannot be read",
    ),
    "missing RGB": (lambda root: remove(root, "rgb"), f"{RGB}: is missing"),
    "missing label": (lambda root: remove(root, "label"), f"{LABEL}: is missing"),
    "missing EXTRA": (lambda root: remove(root, "extra"), f"{EXTRA}: is missing"),
    "orphan file": (lambda root: add_orphan(root, "rgb"), "X1: PLANET-RGB/X1.tif: is not in metadata.csv"),
    "orphan label": (lambda root: add_orphan(root, "label"), "X1: labels/X1.tif: is not in metadata.csv"),
}

GRID_FAULTS = {
    "other CRS": (
        lambda root: rewrite(root, "rgb", crs="EPSG:32610"),
        f"{RGB}: found the CRS EPSG:32610, expected EPSG:3413",
    ),
    "no CRS": (lambda root: rewrite(root, "label", crs=None), f"{LABEL}: found the CRS none, expected EPSG:3413"),
    "shifted label": (lambda root: shift(root, "label"), f"{LABEL}: is not on the grid of the RGB tile"),
    "shifted EXTRA": (lambda root: shift(root, "extra"), f"{EXTRA}: is not on the grid of the RGB tile"),
    "wrong size": (
        lambda root: rewrite(root, "rgb", lambda a: a[:, :, :30]),
        f"{RGB}: found 32 x 30 pixels, expected 32 x 32",
    ),
    "pixels of another size": (enlarge_pixels, f"{RGB}: found pixels of 4 m, most tiles have 3 m"),
    "overlapping footprints": (overlap_another_split, ": splits.yaml: is in train and overlaps S0"),
}

PIXEL_FAULTS = {
    "wrong dtype": (
        lambda root: rewrite(root, "rgb", lambda a: a.astype("u2")),
        f"{RGB}: found uint16, expected uint8",
    ),
    "wrong dtype of EXTRA": (
        lambda root: rewrite(root, "extra", lambda a: a.astype("f8")),
        f"{EXTRA}: found float64, expected float32",
    ),
    "wrong band count": (
        lambda root: rewrite(root, "rgb", lambda a: a[[0, 1, 2, 2]]),
        f"{RGB}: found 4 bands, expected 3",
    ),
    "band missing in EXTRA": (
        lambda root: rewrite(root, "extra", lambda a: a[:3]),
        f"{EXTRA}: found 3 bands, expected 4",
    ),
    "NaN in EXTRA": (
        lambda root: rewrite(root, "extra", set_pixel(np.nan)),
        f"{EXTRA}: 1 values of ndvi are NaN or infinite",
    ),
    "infinity in EXTRA": (
        lambda root: rewrite(root, "extra", set_pixel(np.inf, band=2)),
        f"{EXTRA}: 1 values of re are NaN or infinite",
    ),
    "all-nodata tile": (lambda root: rewrite(root, "rgb", np.zeros_like), f"{RGB}: no pixel has data"),
    "values of 0 and 1": (
        lambda root: rewrite(root, "rgb", lambda a: (a > 100).astype("u1")),
        f"{RGB}: found values 0 … 1, expected 0 … 255",
    ),
    "RTS without data": (cover_slumps, " RTS pixels where RGB has no data"),
    "RTS on tagged pixels": (tag_white, " RTS pixels where RGB has no data"),
    "mask beside a tile": (add_mask_file, f"{RGB}.msk: a mask in a file of its own is not read"),
    "all-ignored negative": (
        lambda root: rewrite(root, "label", lambda a: np.full_like(a, 255), a_negative(root)),
        ".tif: every pixel is ignored (255)",
    ),
    "all-ignored but no data": (ignore_all_but_no_data, ".tif: every pixel with data is ignored (255)"),
    "fill value by tag": (
        lambda root: rewrite(root, "extra", set_pixel(-1234.5, band=2), nodata=-1234.5),
        f"{EXTRA}: 1 values of re are the nodata value -1234.5 of the file",
    ),
    "fill value of elevation": (
        lambda root: fill_left_column(root, "extra", -9999),
        f"{EXTRA}: 32 values of re are outside of -3000 … 3000, such as -9999",
    ),
    "index in per cent": (
        lambda root: rewrite(root, "extra", set_pixel(47)),
        f"{EXTRA}: 1 values of ndvi are outside of -1 … 1, such as 47",
    ),
    "channel that tells the class": (
        drop_elevation,
        "EXTRA/: re has one value everywhere in 0% of the Positive and 100% of the Negative tiles",
    ),
    "label 2": (
        lambda root: rewrite(root, "label", set_pixel(2)),
        f"{LABEL}: found the values [2], expected 0, 1 or 255",
    ),
    "empty positive": (
        lambda root: rewrite(root, "label", np.zeros_like),
        f"{LABEL}: a Positive tile without RTS pixels",
    ),
    "RTS in a negative": (
        lambda root: rewrite(root, "label", set_pixel(1), a_negative(root)),
        "a Negative tile with 1 RTS pixels",
    ),
    "counts of other labels": (
        lambda root: rewrite(root, "label", lambda a: np.where(a == 1, 1, 255).astype("u1")),
        "splits_summary.json: states ",
    ),
}

TABLE_FAULTS = {
    "unknown class": (
        lambda root: set_cell(root, TILE, "TrainClass", "HardNegative"),
        f"{TABLE}: TrainClass is 'HardNegative', expected Positive or Negative",
    ),
    "tile taken from the table": (drop_line, f"{RGB}: is not in metadata.csv"),
    "duplicate tile id": (repeat_line, f"{TABLE}: stands in it 2 times"),
    "tile elsewhere": (
        lambda root: set_cell(root, TILE, "centroid_lat", "71.5"),
        f"{TABLE}: centroid_lat, centroid_lon lie ",
    ),
    "no coordinates": (
        lambda root: set_cell(root, TILE, "centroid_lon", ""),
        f"{TABLE}: centroid_lat, centroid_lon are not degrees",
    ),
    "unreadable csv": (
        lambda root: (root / "metadata.csv").write_bytes(b"\xff\xfe\x00Tile"),
        "metadata.csv is not UTF-8 (byte 0xff); save it as UTF-8",
    ),
    "csv in Latin-1": (
        lambda root: save_table(root, encoding="latin-1"),
        "metadata.csv is not UTF-8 (byte 0xd8); save it as UTF-8",
    ),
    "csv in UTF-16": (
        lambda root: save_table(root, encoding="utf-16"),
        "metadata.csv is not UTF-8 (byte 0xff); save it as UTF-8",
    ),
    "semicolons": (
        lambda root: save_table(root, ";"),
        "metadata.csv is separated by semicolons; save it with commas",
    ),
    "tabs": (lambda root: save_table(root, "\t"), "metadata.csv is separated by tabs; save it with commas"),
    "another table": (
        lambda root: (root / "metadata.csv").write_text("a,b\n1,2\n", encoding="utf-8"),
        "metadata.csv lacks the columns Tile_id",
    ),
}

SPLIT_FAULTS = {
    "region in two splits": (put_region_into_another_split, f"region {REGION}: splits.yaml: is in train and"),
    "region in none": (
        take_region_out_of_splits,
        f"region {REGION}: splits.yaml: is in no split, and has 6 tiles",
    ),
    "a slump in two splits": (
        lambda root: share_slumps(root, 1),
        "slump shared 0: metadata.csv: has tiles in train and",
    ),
    "many slumps in two splits": (
        lambda root: share_slumps(root, 7),
        "metadata.csv: 7 slumps in all have tiles in more than one split",
    ),
    "text in the place of a list": (
        lambda root: type_splits(root, "{train: banks, val: [], test: []}"),
        "splits.yaml: train is 'banks'; expected a list of regions",
    ),
    "empty split": (empty_val, "split val: splits.yaml: has no positive tile"),
    "unreadable yaml": (
        lambda root: (root / "splits.yaml").write_text("train: [a\nval: b", encoding="utf-8"),
        "splits.yaml is not readable",
    ),
}

VERSION_FAULTS = {
    "statistics of other tiles": (
        lambda root: set_keys(root, STATISTICS, n_tiles_used=7),
        f"{STATISTICS}: is of 7 other tiles than the ",
    ),
    "statistics of as many other tiles": (
        lambda root: set_keys(root, STATISTICS, tiles_digest="0" * 16),
        f"{STATISTICS}: is of 24 other tiles than the 24 ",
    ),
    "statistics of another version": (
        lambda root: set_keys(root, "version.json", dataset_version="2.1"),
        f"{STATISTICS} is of dataset version 2.0, the data of 2.1",
    ),
    "statistics of other pixels": (
        brighten_training_tile,
        f"{STATISTICS}: is of other pixels than the tiles have now; delete it",
    ),
    "fresh dataset of 16 bits": (make_fresh, f"{RGB}: found uint16, expected uint8"),
    "no version": (lambda root: (root / "version.json").unlink(), "version.json is missing"),
    "tiles of another size than said": (
        lambda root: set_keys(root, "version.json", tile_size=64),
        "has tiles of 64 pixels, data.tile_size is 32",
    ),
}

FAULTS = FILE_FAULTS | GRID_FAULTS | PIXEL_FAULTS | TABLE_FAULTS | SPLIT_FAULTS | VERSION_FAULTS
OVERRIDES = [
    f"data.tile_size={SIZE}",
    "data.extra_channels=[ndvi,re]",
    "sampling.batch_size=8",
    "loader.num_workers=0",
    "predict.overlap=8",
]


def check(root, figure, capsys):
    "Exit status and lines of check_data.py, called as a function to save its start."
    args = argparse.Namespace(
        config="configs/sample.yaml",
        root=str(root),
        batches=1,
        overlaps=False,
        figure=str(figure),
        overrides=" ".join(OVERRIDES),
    )
    status = check_data.main(args)
    return status, capsys.readouterr().out.splitlines()


def test_sound_dataset_passes(sound, tmp_path, capsys):
    figure = tmp_path / "batch.png"
    status, lines = check(sound, figure, capsys)
    assert status == 0, lines
    assert figure.stat().st_size > 10_000
    assert any(line.split() == ["faults", "0"] for line in lines), lines
    assert any("1 of 8 tiles, 4 of these positive" in line for line in lines), lines


@pytest.mark.parametrize("name", FAULTS)
def test_fault_is_found_and_named(sound, tmp_path, capsys, name):
    spoil, says = FAULTS[name]
    root = Path(shutil.copytree(sound, tmp_path / "rts"))
    spoil(root)
    status, lines = check(root, tmp_path / "batch.png", capsys)
    found = [line.strip() for line in lines if says in line]
    assert status == 1, lines
    assert found, "\n".join(lines)
    print(f"{name}: {found[0]}")
