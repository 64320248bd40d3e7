"""The slumps painted into PlanetScope scenes are found where they are, by a run trained on other scenes."""

import geopandas as gpd
from planet import SCALE, make_planet
from programs import papermill


def test_painted_slumps_are_found(tmp_path):
    planet = make_planet(tmp_path)
    root, run = tmp_path / "rts", tmp_path / "runs" / "seed-42"
    options = f"scale=[{SCALE[0]},{SCALE[1]}] negatives=3 away=60"
    sources = dict(source="scenes", scenes=planet.scenes, polygons=planet.outlines, root=root, extra="ndvi=scene")
    overrides = f"data.root={root} data.extra_channels=[ndvi]"
    for notebook, parameters in (
        ("00_data", dict(**sources, tile_size=128, options=options)),
        ("20_train", dict(config="configs/sample.yaml", run_dir=run, overrides=overrides)),
        ("30_calibrate", dict(run_dir=run)),
        ("40_infer", dict(model_dir=run, scenes=planet.later, out_dir=tmp_path / "map")),
    ):
        done = papermill(notebook, tmp_path / f"{notebook}.ipynb", **parameters)
        assert done.returncode == 0, done.stderr[-2000:]
    slumps = gpd.read_parquet(tmp_path / "map" / "rts.parquet")
    truth = planet.truth[planet.truth.scene.str.startswith("2025")].dissolve().explode(ignore_index=True)
    found = truth[truth.intersects(slumps.union_all())]
    assert len(found) >= 0.6 * len(truth), f"{len(found)} of {len(truth)} slumps found"
    shared = truth.union_all().intersection(slumps.union_all()).area
    assert shared > 0.5 * found.area.sum(), "outlines lie over the slumps, not beside them"
