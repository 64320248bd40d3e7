"""Preparing a dataset survives kill -9 at any moment, and the data card runs from the command line."""

import os
import random
import signal
import subprocess
import sys
import time

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
import rasterio.features
from programs import ROOT, cells_of, outputs_of, papermill, read_json
from rasterio.transform import from_origin
from shapely.geometry import shape

import rts_nb.data
from rts_nb.core.files import DataError, RTSError, write_json
from rts_nb.data import check_dataset, make_sample, open_dataset, prepare
from rts_nb.runs.directory import open_run_data
from rts_nb.scores.objects import label_objects
from rts_nb.scores.slumps import pieces_of, slumps_of
from rts_nb.settings.config import load_config
from rts_nb.tiles.layout import CRS, DataConfig, load_tiles, read_tile
from rts_nb.tiles.sample import paint, palette_of
from rts_nb.tiles.slumps import longest_on_ground, slump_records


def start_making(root):
    "A process that makes a dataset and has just begun to."
    command = [sys.executable, "tests/making.py", str(root)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env=environment)
    process.stdout.readline()
    return process


def files_of(root):
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_killed_three_times_gives_the_same_bytes(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    process = start_making(whole)
    start = time.monotonic()
    assert process.wait() == 0
    needed = time.monotonic() - start
    rng = random.Random(3)
    for _ in range(3):
        process = start_making(killed)
        time.sleep(rng.uniform(0.05, 0.3) * needed)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, "it was killed while at work"
        assert not killed.exists(), "a partial dataset never appears under its final name"
    process = start_making(killed)
    assert process.wait() == 0
    assert "are there from a call that was cut off" in process.stdout.read()
    assert files_of(killed) == files_of(whole)
    assert not (tmp_path / ".killed.preparing").exists()


def paint_scene(path, k):
    "Writes a painted scene; its outlines, of a region of their own."
    rng, transform = np.random.default_rng(k), from_origin(-1_500_000 + 60_000 * k, -1_200_000, 3, 3)
    rgb, _, label = paint(rng, 400, 400, palette_of(rng), slumps=3)
    profile = dict(driver="GTiff", count=3, height=400, width=400, dtype="uint8", crs=CRS, transform=transform)
    with rasterio.open(path, "w", **profile) as f:
        f.write(rgb)
    traced = [shape(outline) for outline, _ in rasterio.features.shapes(label, label == 1, transform=transform)]
    return gpd.GeoDataFrame(geometry=traced, crs=CRS).assign(RegionName=f"r{k}", TrainClass="Positive")


def test_data_card_of_scenes(tmp_path):
    "Painted scenes and a GeoPackage, by papermill; the card shows what was counted."
    outlines = [paint_scene(tmp_path / f"s{k}.tif", k) for k in range(4)]
    pd.concat(outlines).to_file(tmp_path / "outlines.gpkg")
    parameters = dict(
        source="scenes",
        root=tmp_path / "rts",
        scenes=f"{tmp_path}/s*.tif",
        polygons=tmp_path / "outlines.gpkg",
        tile_size=64,
        options="negatives=1 away=30",
    )
    done = papermill("00_data", tmp_path / "card.ipynb", **parameters)
    assert done.returncode == 0, done.stderr[-2000:]
    text = outputs_of(cells_of(tmp_path / "card.ipynb")[-20:])
    assert "no faults found" in text
    assert "outlines read" in text
    assert text.count("image/png") == 3
    assert text.count("image/jpeg") == 1
    assert set(load_tiles(tmp_path / "rts").RegionName) == {"r0", "r1", "r2", "r3"}
    assert_slumps_are_whole(tmp_path / "rts", pd.concat(outlines))


def assert_slumps_are_whole(root, outlines):
    "Pieces in tiles of 192 m are put together to the slumps that were outlined, each with its own diameter."
    tiles = load_tiles(root)
    tiles = tiles[tiles["positive"]]
    pieces = [
        pieces_of(label_objects(read_tile(root, name)["label"] == 1)[0], 3.0, record)
        for name, record in zip(tiles["Tile_id"], slump_records(root, tiles, 192.0), strict=True)
    ]
    slumps = slumps_of(pieces)
    assert len(slumps) == len(outlines)
    assert max(len(slump.pieces) for slump in slumps) > 1, "a slump is cut by a tile"
    expected = sorted(longest_on_ground(outline) for outline in outlines.geometry)
    assert sorted(slump.metres for slump in slumps) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(
    "name", ["make_sample", "import_public", "tile_scenes", "check_dataset", "prepare", "open_dataset"]
)
def test_promised_names_come_from_data(name):
    assert name in rts_nb.data.__all__
    assert callable(getattr(rts_nb.data, name))


SUMMARY, STATISTICS = "splits_summary.json", "normalization_stats.json"


@pytest.fixture
def laid_out(tmp_path):
    "A dataset of eight tiles of 32 pixels."
    return make_sample(tmp_path / "laid_out", tile_size=32, n_regions=4, n_positive=4, n_negative=4, n_scenes=0)


def test_prepare_computes_what_is_missing(laid_out):
    "Statistics and pixels by split, as they were when the dataset was made; also where a summary lacks pixels."
    section = DataConfig(root=str(laid_out), tile_size=32)
    counted = {name: (laid_out / name).read_text(encoding="utf-8") for name in (SUMMARY, STATISTICS)}
    for name in counted:
        (laid_out / name).unlink()
    assert prepare(section) == laid_out
    assert {name: (laid_out / name).read_text(encoding="utf-8") for name in counted} == counted
    (laid_out / SUMMARY).write_text('{"train": {"tiles": 4}}', encoding="utf-8")
    prepare(section)
    assert (laid_out / SUMMARY).read_text(encoding="utf-8") == counted[SUMMARY]


def small_config(root, percentiles):
    "A config of the tests on a dataset of tiles of 32 pixels."
    overrides = f"data.root={root} data.tile_size=32 data.extra_channels=[] predict.overlap=8"
    return load_config("configs/test.yaml", f"{overrides} data.clip_percentiles={percentiles}")


def refuse_to_write(path, content):
    raise OSError(30, "Read-only file system")


def test_statistics_follow_the_percentiles_of_a_config(laid_out, monkeypatch):
    "Computed for the run alone; the dataset, which may be read-only or shared, keeps its own."
    before = files_of(laid_out)
    for module in (rts_nb.data, rts_nb.tiles.statistics, rts_nb.tiles.splits):
        monkeypatch.setattr(module, "write_json", refuse_to_write)
    _, tiles, stats = open_run_data(small_config(laid_out, "[0,100]"))
    assert files_of(laid_out) == before
    train = tiles.Tile_id[tiles.split == "train"]
    images = np.stack([read_tile(laid_out, tile)["rgb"] for tile in train], axis=1).reshape(3, -1)
    with_data = images[:, images.any(0)]
    assert stats["clip_percentiles"] == [0, 100]
    assert stats["rgb"]["clip_low"] == with_data.min(1).tolist()
    assert stats["rgb"]["clip_high"] == with_data.max(1).tolist()
    assert stats["rgb"]["mean"] == pytest.approx(with_data.mean(1))
    assert stats["rgb"]["std"] == pytest.approx(with_data.std(1))
    assert open_run_data(small_config(laid_out, "[1,99]"))[2] == read_json(laid_out / STATISTICS)


@pytest.mark.parametrize("are_there", [True, False])
def test_percentiles_that_leave_no_variation(laid_out, are_there):
    "Refused before anything is written."
    if not are_there:
        (laid_out / STATISTICS).unlink()
    before = files_of(laid_out)
    with pytest.raises(DataError, match=r"data.clip_percentiles \[0.0, 0.0001\].* has the standard deviation 0"):
        open_run_data(small_config(laid_out, "[0,0.0001]"))
    assert files_of(laid_out) == before


@pytest.mark.parametrize("name", [SUMMARY, STATISTICS])
@pytest.mark.parametrize("content", ["[]", "5", '{"train": 5, "rgb": []}'])
def test_computed_files_of_another_shape(laid_out, name, content):
    (laid_out / name).write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=f"{name} holds .*, expected .*; delete it, and it is co") as refused:
        open_run_data(small_config(laid_out, "[1,99]"))
    assert "\n" not in str(refused.value)
    assert any(name in fault for fault in check_dataset(laid_out))


@pytest.mark.parametrize(
    "given, says",
    [
        (dict(), "laid_out has tiles of 32 pixels, data.tile_size is 512; set data.tile_size=32 or name another root"),
        (dict(tile_size=32, extra_channels=["ndvi", "re"]), "laid_out has no ndvi (its extra channels: re)"),
        (dict(root="data/nowhere"), "data.root data/nowhere is missing or has no metadata.csv; set data.root"),
        (dict(root="/vsizip/nowhere.zip"), "nowhere.zip/version.json cannot be read"),
    ],
    ids=str,
)
def test_data_of_a_config_that_do_not_fit(laid_out, given, says):
    info = read_json(laid_out / "version.json")
    write_json(laid_out / "version.json", info | dict(extra_channels=["re"]))
    with pytest.raises(RTSError) as refused:
        prepare(DataConfig(**(dict(root=str(laid_out)) | given)))
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "given, says",
    [
        (dict(source="planet"), "source 'planet' is unknown; there are sample, field, public, scenes, tiles"),
        (dict(source="scenes", root="x", scenes="nowhere/*.tif"), "source 'scenes' needs scenes and polygons"),
        (
            dict(source="scenes", root="x", scenes="nowhere/*.tif", polygons="nowhere.gpkg"),
            "nowhere/*.tif: no raster there; expected a GeoTIFF",
        ),
        (
            dict(source="scenes", root="x", scenes="a", polygons="b", options="negatives"),
            "'negatives' is not of the form name=value",
        ),
        (
            dict(source="scenes", root="x", scenes="a", polygons="b", options="negative=5"),
            "tile_scenes has no argument 'negative'; did you mean 'negatives'?",
        ),
        (dict(source="tiles", root="data/nowhere"), "data/nowhere is missing"),
        (dict(source="tiles"), "name its root"),
        (dict(source="public", images="nowhere", root="x"), "has no folders images/ and masks/"),
    ],
    ids=str,
)
def test_bad_input_is_one_line(given, says):
    with pytest.raises(RTSError) as refused:
        open_dataset(**given)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not (ROOT / "x").exists()
