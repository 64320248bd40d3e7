"""Preparing a dataset survives kill -9 at any moment, and the data card runs from the command line."""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MAKE = """
import sys
from rts_nb.data import make_sample
print("ready", flush=True)
make_sample(sys.argv[1], tile_size=64, n_regions=6, n_positive=60, n_negative=60, n_scenes=1)
"""


def making(root):
    return subprocess.Popen([sys.executable, "-c", MAKE, str(root)], cwd=ROOT, stdout=subprocess.PIPE, text=True)


def files_of(root):
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def test_killed_three_times_gives_the_same_bytes(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    process = making(whole)
    process.stdout.readline()
    start = time.monotonic()
    assert process.wait() == 0
    needs, rng = time.monotonic() - start, random.Random(3)
    for _ in range(3):
        process = making(killed)
        process.stdout.readline()
        time.sleep(rng.uniform(0.05, 0.3) * needs)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not killed.exists(), "half a dataset is not there"
    process = making(killed)
    assert process.wait() == 0 and "are there from a call that was cut off" in process.stdout.read()
    assert files_of(killed) == files_of(whole)
    assert not (tmp_path / ".killed.preparing").exists()


def test_data_card_of_scenes(tmp_path):
    "Painted scenes and a GeoPackage, by papermill; the card shows what was counted."
    import geopandas as gpd
    import numpy as np
    import pandas as pd
    import rasterio.features
    from rasterio.transform import from_origin
    from shapely.geometry import shape

    from rts_nb.tiles.layout import load_tiles
    from rts_nb.tiles.sample import paint, palette_of

    outlines = []
    for k in range(4):
        rng, transform = np.random.default_rng(k), from_origin(-1_500_000 + 60_000 * k, -1_200_000, 3, 3)
        rgb, _, label = paint(rng, 400, 400, palette_of(rng), slumps=3)
        with rasterio.open(
            tmp_path / f"s{k}.tif",
            "w",
            driver="GTiff",
            count=3,
            height=400,
            width=400,
            dtype="uint8",
            crs="EPSG:3413",
            transform=transform,
        ) as f:
            f.write(rgb)
        traced = [shape(g) for g, _ in rasterio.features.shapes(label, label == 1, transform=transform)]
        outlines.append(gpd.GeoDataFrame(geometry=traced, crs="EPSG:3413").assign(RegionName=f"r{k}"))
    pd.concat(outlines).to_file(tmp_path / "outlines.gpkg")
    call = [
        "papermill",
        "nbs/00_data.ipynb",
        str(tmp_path / "card.ipynb"),
        "-p",
        "source",
        "scenes",
        "-p",
        "root",
        str(tmp_path / "rts"),
        "-p",
        "scenes",
        f"{tmp_path}/s*.tif",
        "-p",
        "polygons",
        str(tmp_path / "outlines.gpkg"),
        "-p",
        "tile_size",
        "64",
        "-p",
        "options",
        "negatives=1 away=30",
    ]
    done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    text = json.dumps([c.get("outputs", []) for c in json.loads((tmp_path / "card.ipynb").read_text())["cells"]][-20:])
    assert "no faults found" in text and "outlines read" in text
    assert text.count("image/png") == 3 and text.count("image/jpeg") == 1
    assert set(load_tiles(tmp_path / "rts").RegionName) == {"r0", "r1", "r2", "r3"}


def test_promised_names_come_from_data():
    import rts_nb.data

    for name in ("make_sample", "import_public", "tile_scenes", "check_dataset", "prepare", "open_dataset"):
        assert name in rts_nb.data.__all__ and callable(getattr(rts_nb.data, name))


COUNTED = ("splits_summary.json", "normalization_stats.json")


@pytest.fixture
def laid_out(tmp_path):
    "A dataset of eight tiles of 32 pixels."
    from rts_nb.data import make_sample

    return make_sample(tmp_path / "laid_out", tile_size=32, n_regions=4, n_positive=4, n_negative=4, n_scenes=0)


def test_prepare_computes_what_is_missing(laid_out):
    "Statistics and pixels by split, as they were when the dataset was made; also where a summary lacks pixels."
    from rts_nb.data import prepare
    from rts_nb.tiles.layout import DataConfig

    counted = {name: (laid_out / name).read_text() for name in COUNTED}
    for name in COUNTED:
        (laid_out / name).unlink()
    assert prepare(DataConfig(root=str(laid_out), tile_size=32)) == laid_out
    assert {name: (laid_out / name).read_text() for name in COUNTED} == counted
    (laid_out / COUNTED[0]).write_text('{"train": {"tiles": 4}}')
    prepare(DataConfig(root=str(laid_out), tile_size=32))
    assert (laid_out / COUNTED[0]).read_text() == counted[COUNTED[0]]


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
    from rts_nb.core.files import RTSError
    from rts_nb.data import prepare
    from rts_nb.tiles.layout import DataConfig

    info = json.loads((laid_out / "version.json").read_text())
    (laid_out / "version.json").write_text(json.dumps(info | dict(extra_channels=["re"])))
    with pytest.raises(RTSError) as e:
        prepare(DataConfig(**(dict(root=str(laid_out)) | given)))
    assert says in str(e.value) and "\n" not in str(e.value)


@pytest.mark.parametrize(
    "given, says",
    [
        (dict(source="planet"), "source 'planet' is unknown; there are 'sample', 'public', 'scenes' and 'tiles'"),
        (dict(source="scenes", root="x", scenes="nowhere/*.tif"), "source 'scenes' needs scenes and polygons"),
        (
            dict(source="scenes", root="x", scenes="nowhere/*.tif", polygons="nowhere.gpkg"),
            "nowhere.gpkg: cannot be read as outlines",
        ),
        (
            dict(source="scenes", root="x", scenes="a", polygons="b", options="negatives"),
            'are not like "negatives=5 years=union"',
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
    from rts_nb.core.files import RTSError
    from rts_nb.data import open_dataset

    with pytest.raises(RTSError) as e:
        open_dataset(**given)
    assert says in str(e.value) and "\n" not in str(e.value)
    assert not (ROOT / "x").exists()
