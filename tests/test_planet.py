"""PlanetScope scenes as they are delivered, from 00_data to 40_infer without any conversion by hand."""

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from planet import SCALE, make_planet
from programs import last_line, papermill, read_json, run_python
from rasterio.windows import Window

from rts_nb.mapping.records import read_records
from rts_nb.tiles.imagery import load_imagery
from rts_nb.tiles.layout import load_tiles, read_tile, tile_path
from rts_nb.tiles.rasters import Grid, open_cached, scene_of
from rts_nb.tiles.reading import open_scene, scene_facts, scene_reader

OVERRIDES = "data.extra_channels=[ndvi]"


def cut(planet, root, out, options):
    "00_data on the generated imagery."
    sources = dict(source="scenes", scenes=planet.scenes, polygons=planet.outlines, root=root)
    return papermill("00_data", out, **sources, extra="ndvi=scene", tile_size=128, options=options)


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    "Imagery, the dataset cut from it, a run and its map."
    folder = tmp_path_factory.mktemp("planet")
    planet = make_planet(folder, size=500, slumps=6, n_later=1)
    scale = f"scale=[{SCALE[0]},{SCALE[1]}] negatives=2 away=60"
    done = cut(planet, folder / "rts", folder / "data.ipynb", scale)
    assert done.returncode == 0, done.stderr[-2000:]
    run, overrides = folder / "runs" / "seed-42", f"data.root={folder / 'rts'} {OVERRIDES}"
    for notebook, parameters in (
        ("20_train", dict(config="configs/test.yaml", run_dir=run, overrides=overrides)),
        ("30_calibrate", dict(run_dir=run)),
        ("40_infer", dict(model_dir=run, scenes=planet.later, out_dir=folder / "map")),
    ):
        done = papermill(notebook, folder / f"{notebook}.ipynb", **parameters)
        assert done.returncode == 0, done.stderr[-2000:]
    return folder, planet


def test_values_without_a_scale_are_refused_with_a_proposal(work, tmp_path):
    folder, planet = work
    done = cut(planet, tmp_path / "rts", tmp_path / "data.ipynb", "negatives=2")
    assert done.returncode != 0
    line = last_line(done.stderr)
    assert "has uint16 values (6 of 6 scenes not bytes); state one linear stretch for all scenes" in line
    low, high = (float(v) for v in line.split("scale=[")[1].split("]")[0].split(","))
    assert SCALE[0] < low < high < SCALE[1] + 10, "clouds of 9,000 are masked and count nowhere"
    assert not (tmp_path / "rts").exists()


def test_the_dataset_is_what_was_painted(work):
    folder, planet = work
    root = folder / "rts"
    checked = run_python("check_data.py", "--config", "configs/test.yaml", "--root", root, "--overrides", OVERRIDES)
    assert checked.returncode == 0, checked.stdout
    tiles = load_tiles(root)
    assert set(tiles.RegionName) == {"Chaun", "Billings", "Severny", "Blossom", "Somnitelnaya", "Hawaii Bay"}
    assert tiles.positive.sum() > 20
    truth = planet.truth.union_all()
    for row in tiles[tiles.positive].head(12).itertuples():
        tile = read_tile(root, row.Tile_id, ["ndvi"])
        with rasterio.open(tile_path(root, "rgb", row.Tile_id)) as f:
            painted = rasterio.features.rasterize([(truth, 1)], f.shape, transform=f.transform)
        known = tile["label"] != 255
        assert (tile["label"] == painted)[known].all(), row.Tile_id
        assert not tile["rgb"][:, ~known].any(), "collar and cloud have no data"
        assert np.abs(tile["extra"]).max() <= 1, "an index"
        bright = tile["rgb"][:, known].mean(1)
        assert bright[0] > bright[2], "red before blue: tundra and soil reflect more red"


def test_a_map_reads_what_training_read(work):
    folder, planet = work
    imagery = load_imagery(folder / "runs" / "seed-42")
    assert imagery.scale == SCALE and imagery.named_bands == ((3, 2, 1),)
    assert imagery.channels["ndvi"].source == "scene"
    tile_id = load_tiles(folder / "rts").query("positive").Tile_id.iloc[0]
    tile = read_tile(folder / "rts", tile_id, ["ndvi"])
    with rasterio.open(tile_path(folder / "rts", "rgb", tile_id)) as f:
        grid = Grid(f.transform, f.width, f.height)
    known = tile["label"] != 255
    agreeing = []
    for path in sorted(planet.scenes.glob("*_SR.tif")):
        scene = scene_of(path)
        reader = scene_reader(scene, scene_facts(scene, imagery, ("ndvi",)), open_cached, grid)
        pixels, valid = reader.read(Window(0, 0, grid.width, grid.height))
        if valid.any():
            agreeing.append((pixels[:3, known] == tile["rgb"][:, known]).all())
            assert np.abs(pixels[3] - tile["extra"][0])[known].max() < 1e-6
    assert agreeing == [True], "one scene holds the tile, and mapping sees the same pixels"


def test_the_map_has_no_data_where_the_scene_has_none(work):
    folder, planet = work
    log = read_json(folder / "map" / "inference_log.json")
    assert log["scenes_done"] == 1 and not log["scenes_failed"]
    read = next(read_records(folder / "map"))["read"]
    assert (
        read["bands"] == [3, 2, 1] and "1 in the first band is clear" in read["masks"][0] and read["values"] == "uint16"
    )
    assert abs(read["pixel_on_ground_m"] - 3) < 0.02 and not read["resampled"]
    (path,) = planet.later.glob("*_SR.tif")
    with open_scene(scene_of(path), imagery=load_imagery(folder / "runs" / "seed-42")) as scene:
        _, valid = scene.read(Window(0, 0, scene.width, scene.height))
    with rasterio.open(folder / "map" / f"{path.stem}_mask.tif") as f:
        mask = f.read(1)
    assert ((mask != 255) == valid).all()
    assert gpd.read_parquet(folder / "map" / "rts.parquet").crs.to_epsg() == 3413


def test_a_scene_of_another_kind_is_refused_by_name(work, tmp_path):
    folder, planet = work
    (path,) = planet.later.glob("*_SR.tif")
    with rasterio.open(path) as f:
        bands, profile = f.read(), f.profile
    for name, changed, more in (("nameless", bands, {}), ("floats", bands.astype("f4") / 1e4, dict(dtype="float32"))):
        with rasterio.open(tmp_path / f"{name}.tif", "w", **(profile | more)) as f:
            f.write(changed)
            if name == "floats":
                f.descriptions = ("blue", "green", "red", "nir")
    done = papermill(
        "40_infer", tmp_path / "o.ipynb", model_dir=folder / "runs" / "seed-42", scenes=tmp_path, out_dir=tmp_path / "m"
    )
    assert done.returncode != 0
    assert "nameless.tif says nothing of its bands, other scenes have red, green, blue in bands 3, 2, 1" in done.stderr
    assert "floats.tif has float32 values, scale [120, 2925] is of uint16 values" in done.stderr
