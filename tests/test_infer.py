"""Inference as its users run it: killed, out of disk, on a folder with bad files, as a command and as a notebook.

Three kills here; RTS_KILLS=10 for ten, at moments drawn anew from RTS_KILL_SEED (default 0).
"""

import os
import random
import resource
import shutil
import signal
import time

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from programs import cells_of, last_line, outputs_of, papermill, read_json
from rasterio.transform import from_origin
from toy_map import (
    PIXEL_M,
    RASTERS,
    SIDE,
    assert_whole_rasters,
    copy_scenes,
    cut_off,
    start_map,
    unfinished_files,
)

from rts_nb.core.files import write_json
from rts_nb.infer import infer
from rts_nb.mapping.examples import map_digests
from rts_nb.mapping.records import read_records
from rts_nb.mapping.tables import map_results
from rts_nb.predict.profile import as_line, image_profile
from rts_nb.tiles.layout import write_raster
from rts_nb.tiles.sample import paint, palette_of


def wait_for_lock(out, process):
    "Waits until a command holds the map's folder, or has ended."
    while not (out / ".lock").exists() and process.poll() is None:
        time.sleep(0.005)


@pytest.fixture(scope="module")
def seconds(place, whole):
    "How long the command takes, uninterrupted, from holding the map's folder to its log; it makes the same map."
    out = place / "command"
    run = start_map(place, out)
    wait_for_lock(out, run)
    start = time.time()
    assert run.wait() == 0, run.stderr.read()
    assert map_digests(out) == map_digests(whole)
    assert "warning: no threshold reaches the target precision" in run.stdout.read()
    return (out / "inference_log.json").stat().st_mtime - start


def test_outputs_are_sound(whole):
    slumps = gpd.read_parquet(whole / "rts.parquet")
    assert slumps.is_valid.all()
    assert slumps.rts_id.is_unique
    assert slumps.scene.str.contains(",").any(), "some slumps lie in two scenes"
    of_geopackage = gpd.read_file(whole / "rts.gpkg", layer="rts")
    assert of_geopackage.drop(columns="geometry").equals(slumps.drop(columns="geometry"))
    assert_whole_rasters(whole)
    assert len(list(whole.glob("s*.tif"))) == 12
    with rasterio.open(whole / "mosaic.vrt") as f:
        assert f.shape == (6 * SIDE, SIDE)
        assert f.tags()["TARGET_PRECISION"] == "NOT reached"


def finished_scenes(out):
    return [read_json(record)["scene"] for record in (out / "parts").glob("*.json")]


def write_times(paths):
    return {path: path.stat().st_mtime_ns for path in paths}


@pytest.mark.parametrize("k", range(int(os.environ.get("RTS_KILLS", 1))))
def test_killed_run_goes_on_to_the_same_map(place, whole, seconds, tmp_path, k):
    seed = os.environ.get("RTS_KILL_SEED", 0)
    moment = random.Random(f"{seed}-{k}").uniform(0, seconds)
    out = tmp_path / "map"
    run = start_map(place, out, start_new_session=True)
    wait_for_lock(out, run)
    time.sleep(moment)
    os.killpg(run.pid, signal.SIGKILL)
    killed = run.wait() == -signal.SIGKILL
    finished = finished_scenes(out)
    assert killed or (run.returncode == 0 and len(finished) == 6), "what was not killed had ended well"
    times = write_times(path for scene in finished for path in out.glob(f"{scene}_*.tif"))
    assert_whole_rasters(out)

    log = infer(place / "model", place / "scenes", out)
    print(
        "killed" if killed else "done", f"after {moment:.2f} of {seconds:.2f} s, {len(finished)} of 6 scenes finished"
    )
    assert map_digests(out) == map_digests(whole)
    assert write_times(times) == times, "finished scenes are not done again"
    assert log["scenes_done"] == 6
    assert log["hours_in_all"] * 3600 > sum(record["seconds"] for record in read_records(out))
    assert gpd.read_parquet(out / "rts.parquet").rts_id.is_unique
    assert not unfinished_files(out), "nothing unfinished is left behind"


def limit_file_size():
    "For a new process: no file may grow beyond 300 kB, as if the disk were full: less than an uncompressed scene."
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, -1))


def test_full_disk_is_one_line_and_loses_nothing(place, whole, tmp_path):
    out = tmp_path / "map"
    infer(place / "model", place / "scenes" / "s0.tif", out)
    before = map_digests(out)
    run = start_map(place, out, preexec_fn=limit_file_size)
    _, said = run.communicate()
    assert run.returncode == 1, said
    assert "scene s1 could not be written" in last_line(said), said
    assert "run again to go on" in last_line(said), said
    assert "Traceback" not in said, said
    assert before.items() <= map_digests(out).items(), "what is there is as it was"
    assert_whole_rasters(out)
    infer(place / "model", place / "scenes", out)
    assert map_digests(out) == map_digests(whole)


def write_without_crs(path, rgb, transform):
    size = dict(count=3, height=rgb.shape[1], width=rgb.shape[2], dtype="uint8", transform=transform)
    with rasterio.open(path, "w", driver="GTiff", **size) as f:
        f.write(rgb)


BAD_SCENES = {
    "cut": "cut.tif: rows",
    "deep": "deep.tif is uint16, expected uint8",
    "grey": "grey.tif has 1 band(s), expected R, G, B",
    "lost": "lost.tif has no georeference",
    "missing": "missing.tif cannot be opened",
    "note": "note.tif cannot be opened",
}


def spoil_scenes(scenes):
    "Writes the scenes of BAD_SCENES beside a good one, s2; a link without a target is the missing one."
    with rasterio.open(scenes / "s2.tif") as f:
        rgb, transform = f.read(), f.transform
    (scenes / "s2.tif").rename(scenes / "cut.tif")
    cut_off(scenes / "cut.tif")
    write_raster(scenes / "deep.tif", rgb.astype("uint16"), transform)
    write_raster(scenes / "grey.tif", rgb[:1], transform)
    write_without_crs(scenes / "lost.tif", rgb, transform)
    (scenes / "missing.tif").symlink_to(scenes / "away" / "missing.tif")
    (scenes / "note.tif").write_text("no raster", encoding="utf-8")


def test_bad_scenes_are_listed_and_the_rest_is_finished(place, whole, tmp_path):
    scenes, out = copy_scenes(place, tmp_path / "scenes", ["s0", "s2", "s5"]), tmp_path / "map"
    spoil_scenes(scenes)
    run = start_map(place, out, scenes=scenes)
    _, said = run.communicate()
    assert run.returncode == 1, said
    assert "6 of 8 scenes failed, the rest is finished" in last_line(said), said
    assert "Traceback" not in said, said
    failed = read_json(out / "inference_log.json")["scenes_failed"]
    assert list(failed) == list(BAD_SCENES)
    for name, reason in BAD_SCENES.items():
        assert reason in failed[name], failed[name]
        assert "\n" not in failed[name], failed[name]
        assert f"{name}.tif" in last_line(said), said
    made, expected = map_digests(out), map_digests(whole)
    for raster in (f"{scene}_{kind}.tif" for scene in ("s0", "s5") for kind in RASTERS):
        assert made[raster] == expected[raster], f"{raster}: a scene's result depends on that scene alone"
    assert (out / "map.html").exists()


def test_notebook_makes_the_same_map(place, whole, tmp_path):
    report, out = tmp_path / "out.ipynb", tmp_path / "map"
    done = papermill("40_infer", report, model_dir=place / "model", scenes=place / "scenes", out_dir=out)
    assert done.returncode == 0, done.stderr[-2000:]
    assert map_digests(out) == map_digests(whole)
    text = outputs_of(cells_of(report))
    assert "20 million km" in text
    assert "NOT reached" in text


def paint_profile(n_regions=12, n_tiles=6):
    "A training profile of painted regions; its scores are of two regions, too few to judge by."
    rng = np.random.default_rng(8)
    palettes = [palette_of(rng) for _ in range(n_regions)]
    tiles = [paint(rng, 64, 64, palette)[0] for palette in palettes for _ in range(n_tiles)]
    regions = [f"region {r:02d}" for r in range(n_regions) for _ in range(n_tiles)]
    bands = image_profile(tiles, ["red", "green", "blue"], regions)
    line = as_line(np.eye(56, dtype=int)[20] * 64**2)
    scores = dict(logit=list(range(56)), weights=[1.0, 1.0], tiles=[line, line], regions=["a", "b"])
    return dict(tile_pixels=64**2, bands=bands, scores=scores)


def paint_scene(path, brighter=1.0):
    "A raster of a new region, as bright as painted or brighter."
    rng = np.random.default_rng(9)
    rgb = paint(rng, 192, 192, palette_of(rng))[0]
    write_raster(path, (rgb * brighter).clip(0, 255).astype("u1"), from_origin(-2e6, -1e5, PIXEL_M, PIXEL_M))
    return path


def test_map_like_training_is_quiet_and_a_brighter_one_warns(place, tmp_path):
    model, profile = shutil.copytree(place / "model", tmp_path / "model"), paint_profile()
    write_json(model / "training_profile.json", profile)
    quiet = infer(model, paint_scene(tmp_path / "like.tif"), tmp_path / "quiet")
    loud = infer(model, paint_scene(tmp_path / "bright.tif", 1.4), tmp_path / "loud")
    check = quiet["shift_checks"]["imagery"]
    assert (check["regions"], check["nominal_rate"], check["judged"]) == (12, round(1 / 13, 4), True)
    assert not any(row["shifted"] for row in quiet["shift"].values()), quiet["shift"]
    assert quiet["shift_checks"]["scores"]["reason"] == "2 regions to judge by, expected at least 3"
    assert any(row["shifted"] for row in loud["shift"].values()), loud["shift"]
    assert loud["warnings"][:-1] == quiet["warnings"]
    assert "nominal 1 in 13" in loud["warnings"][-1]
    assert map_results(loud).loc["like training"].item().startswith("shifted")


def test_profile_of_an_earlier_version_judges_nothing(place, tmp_path):
    model, profile = shutil.copytree(place / "model", tmp_path / "model"), paint_profile()
    for histogram in (*profile["bands"].values(), profile["scores"]):
        del histogram["regions"]
    write_json(model / "training_profile.json", profile)
    log = infer(model, place / "scenes" / "s0.tif", tmp_path / "map")
    assert {row["shifted"] for row in log["shift"].values()} == {None}
    assert "not judged: profile of an earlier version" in map_results(log).loc["like training"].item()
