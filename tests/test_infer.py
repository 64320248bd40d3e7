"""Inference as its users run it: killed, out of disk, on a folder with bad files in it, as a command and as a notebook.
Three kills here; RTS_KILLS=10 for ten, at moments drawn anew from RTS_KILL_SEED (default 0)."""

import json
import os
import random
import resource
import signal
import subprocess
import time
from pathlib import Path

import geopandas as gpd
import pytest
import rasterio
from toy_map import SIDE, command, make_place, outputs

from rts_nb.infer import infer
from rts_nb.mapping.rasters import cog_faults

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return make_place(tmp_path_factory.mktemp("place"), [1] * 6, slumps=6)


@pytest.fixture(scope="module")
def whole(place):
    "The map of an uninterrupted run."
    infer(place / "model", place / "scenes", place / "whole")
    return place / "whole"


@pytest.fixture(scope="module")
def seconds(place, whole):
    "How long the command takes from holding the map's folder to its log, uninterrupted; its map is that of the function."
    run, lock = (
        command("--model-dir", place / "model", "--scenes", place / "scenes", "--out-dir", place / "command"),
        place / "command" / ".lock",
    )
    while not lock.exists() and run.poll() is None:
        time.sleep(0.01)
    start = time.time()
    assert run.wait() == 0, run.stderr.read()
    assert outputs(place / "command") == outputs(whole)
    assert "warning: no threshold reaches the target precision" in run.stdout.read()
    return (place / "command" / "inference_log.json").stat().st_mtime - start


def test_outputs_are_sound(whole):
    slumps = gpd.read_parquet(whole / "rts.parquet")
    assert slumps.is_valid.all() and slumps.rts_id.is_unique and slumps.scene.str.contains(",").any(), (
        "some slumps lie in two scenes"
    )
    assert gpd.read_file(whole / "rts.gpkg").drop(columns="geometry").equals(slumps.drop(columns="geometry"))
    assert all(not cog_faults(f) for f in whole.glob("*.tif")) and len(list(whole.glob("*.tif"))) == 12
    with rasterio.open(whole / "mosaic.vrt") as f:
        assert f.shape == (6 * SIDE, SIDE) and f.tags()["TARGET_PRECISION"] == "NOT reached"


@pytest.mark.parametrize("k", range(int(os.environ.get("RTS_KILLS", 3))))
def test_killed_run_goes_on_to_the_same_map(place, whole, seconds, tmp_path, k):
    moment, out = random.Random(f"{os.environ.get('RTS_KILL_SEED', 0)}-{k}").uniform(0, seconds), tmp_path / "map"
    run = command(
        "--model-dir", place / "model", "--scenes", place / "scenes", "--out-dir", out, start_new_session=True
    )
    while not (out / ".lock").exists() and run.poll() is None:
        time.sleep(0.005)
    time.sleep(moment)
    os.killpg(run.pid, signal.SIGKILL)
    killed = run.wait() == -signal.SIGKILL
    finished = [json.loads(f.read_text())["scene"] for f in (out / "parts").glob("*.json")]
    times = {f: f.stat().st_mtime_ns for s in finished for f in out.glob(f"{s}_*.tif")}
    assert all(not cog_faults(f) for f in out.glob("*.tif")), "a raster under its final name is whole"
    log = infer(place / "model", place / "scenes", out)
    print(
        f"{'killed' if killed else 'done'} after {moment:.2f} of {seconds:.2f} s with {len(finished)} of 6 scenes finished"
    )
    assert outputs(out) == outputs(whole)
    assert {f: f.stat().st_mtime_ns for f in times} == times, "finished scenes are not done again"
    assert log["scenes_done"] == 6 and gpd.read_parquet(out / "rts.parquet").rts_id.is_unique
    assert not [f for f in out.rglob(".*") if f.name not in (".lock",)], "nothing unfinished is left behind"


def test_full_disk_is_one_line_and_loses_nothing(place, whole, tmp_path):
    "No file may grow beyond 300 kB, as if the disk were full: less than an uncompressed scene."
    infer(place / "model", place / "scenes" / "s0.tif", tmp_path / "map")
    before = outputs(tmp_path / "map")
    run = command(
        "--model-dir",
        place / "model",
        "--scenes",
        place / "scenes",
        "--out-dir",
        tmp_path / "map",
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, -1)),
    )
    out, err = run.communicate()
    last = err.strip().splitlines()[-1]
    assert (
        run.returncode == 1
        and "scene s1 could not be written" in last
        and "run again to go on" in last
        and "Traceback" not in err
    ), err
    assert before.items() <= outputs(tmp_path / "map").items() and all(
        not cog_faults(f) for f in (tmp_path / "map").glob("*.tif")
    ), "what is there is as it was, and whole"
    infer(place / "model", place / "scenes", tmp_path / "map")
    assert outputs(tmp_path / "map") == outputs(whole)


def test_bad_scenes_are_listed_and_the_rest_is_finished(place, whole, tmp_path):
    scenes = tmp_path / "scenes"
    scenes.mkdir()
    for k in (0, 5):
        (scenes / f"s{k}.tif").write_bytes((place / "scenes" / f"s{k}.tif").read_bytes())
    content = (place / "scenes" / "s2.tif").read_bytes()
    (scenes / "s2.tif").write_bytes(content[: len(content) // 2])
    run = command("--model-dir", place / "model", "--scenes", scenes, "--out-dir", tmp_path / "map")
    out, err = run.communicate()
    assert (
        run.returncode == 1
        and "1 of 3 scenes failed, the rest is finished" in err.splitlines()[-1]
        and "s2.tif" in err.splitlines()[-1]
        and "Traceback" not in err
    ), err
    made, expected = outputs(tmp_path / "map"), outputs(whole)
    assert all(
        made[f"{s}_{kind}.tif"] == expected[f"{s}_{kind}.tif"] for s in ("s0", "s5") for kind in ("mask", "probability")
    ), "a scene's result depends on that scene alone"
    assert (
        list(json.loads((tmp_path / "map" / "inference_log.json").read_text())["scenes_failed"]) == ["s2"]
        and (tmp_path / "map" / "map.html").exists()
    )


def test_notebook_makes_the_same_map(place, whole, tmp_path):
    done = subprocess.run(
        [
            "papermill",
            "nbs/40_infer.ipynb",
            str(tmp_path / "out.ipynb"),
            "-p",
            "model_dir",
            str(place / "model"),
            "-p",
            "scenes",
            str(place / "scenes"),
            "-p",
            "out_dir",
            str(tmp_path / "map"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert outputs(tmp_path / "map") == outputs(whole)
    report = json.dumps([c.get("outputs", []) for c in json.loads((tmp_path / "out.ipynb").read_text())["cells"]])
    assert "20 million km" in report and "NOT reached" in report
