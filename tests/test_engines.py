"""One map by three ways: this machine, a Ray cluster of two workers, and three partners who merge; and what kills do to the cluster's.
One kill of a worker and one of the caller, in the middle of the largest scene; RTS_KILLS=5 for five of each, the others at moments drawn anew from RTS_KILL_SEED (default 0)."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import geopandas as gpd
import psutil
import pytest
from toy_map import command, make_place, outputs

from rts_nb.core.files import RunError
from rts_nb.infer import infer
from rts_nb.mapping.engines import largest_first
from rts_nb.predict.predictor import Predictor
from rts_nb.predict.scenes import list_scenes

ROOT = Path(__file__).resolve().parent.parent
ROWS = 1, 2, 1, 8, 1, 2  # heights of scenes, in sides
KILLS = range(int(os.environ.get("RTS_KILLS", 1)))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return make_place(tmp_path_factory.mktemp("place"), ROWS, slumps=12)


@pytest.fixture(scope="module")
def whole(place):
    "The map that this process makes alone."
    infer(place / "model", place / "scenes", place / "whole")
    return place / "whole"


@pytest.fixture(scope="module")
def cluster():
    "A Ray cluster of two workers on this machine."
    ray = pytest.importorskip(
        "ray", reason="ray is not installed (pip install ray, in the version of requirements.txt, to see this test run)"
    )
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield ray
    ray.shutdown()


def working(process, on=""):
    "The workers below a process that are at a scene (at that one)."
    at_it = [p for p in psutil.Process(process).children(recursive=True) if p.name() == "ray::map_task"]
    return [p for p in at_it if not on or any(f".unfinished/{on}." in f.path for f in p.open_files())]


def moment(process, out, k, sign, over):
    "Waits for a sign that the largest scene is worked at (k = 0), or to a random moment after any is; a worker (that worker), or None if `over` came first."
    while not over() and not list(out.glob(".unfinished/*" if k else sign)):
        time.sleep(0.005)
    if k:
        time.sleep(random.Random(f"{os.environ.get('RTS_KILL_SEED', 0)}-{k}").uniform(0, 3))
    try:
        return next(iter(working(process, "" if k else "s3")), None)
    except psutil.Error:
        return None


def same_map(folder, whole):
    assert outputs(folder) == outputs(whole)
    assert not [f for f in folder.rglob(".*") if f.name != ".lock"], "nothing unfinished is left behind"
    return json.loads((folder / "inference_log.json").read_text())


def test_partners(place, whole, tmp_path):
    "Three commands over chunks of a table, one that merges: the map of one run, to the byte."
    for k, chunk in enumerate(([0, 1], [2, 3], [4, 5])):
        (tmp_path / f"part{k}.csv").write_text(
            "tile_id,path\n" + "".join(f"s{i},{place}/scenes/s{i}.tif\n" for i in chunk)
        )
        run = command(
            "--tile-list", tmp_path / f"part{k}.csv", "--model-dir", place / "model", "--out-dir", tmp_path / f"map{k}"
        )
        assert run.wait() == 0, run.stderr.read()
    run = command(
        "--merge",
        *(tmp_path / f"map{k}" for k in range(3)),
        "--model-dir",
        place / "model",
        "--out-dir",
        tmp_path / "merged",
    )
    assert run.wait() == 0, run.stderr.read()
    log, slumps = same_map(tmp_path / "merged", whole), gpd.read_parquet(tmp_path / "merged" / "rts.parquet")
    parts = [json.loads((tmp_path / f"map{k}" / "inference_log.json").read_text()) for k in range(3)]
    assert log["tiles_done"] == sum(p["tiles_done"] for p in parts) and log["scenes_done"] == 6
    assert log["rts"] < sum(p["rts"] for p in parts) and slumps["scene"].isin(["s1,s2", "s3,s4"]).any(), (
        "slumps that lie over two chunks are one"
    )
    assert (tmp_path / "merged" / "map.html").exists() and (tmp_path / "merged" / "s0_mask.tif").is_symlink()


def test_ray_makes_the_same_map(cluster, place, whole, tmp_path):
    log = infer(place / "model", place / "scenes", tmp_path / "map", engine="ray")
    assert same_map(tmp_path / "map", whole) == log and log["scenes_failed"] == {}
    times = {f: f.stat().st_mtime_ns for f in (tmp_path / "map").iterdir()}
    assert infer(place / "model", place / "scenes", tmp_path / "map", engine="ray") == log
    assert {f: f.stat().st_mtime_ns for f in times if f.name != ".lock"} == {
        f: t for f, t in times.items() if f.name != ".lock"
    }, "a finished map is left as it is"


@pytest.mark.parametrize("k", KILLS)
def test_killed_worker_loses_nothing(cluster, place, whole, tmp_path, k):
    killed = []

    def kill():
        if worker := moment(
            os.getpid(),
            tmp_path / "map",
            k,
            ".unfinished/s3.*/plain_*",
            (tmp_path / "map" / "inference_log.json").exists,
        ):
            killed.append(worker.pid)
            worker.kill()

    killer = threading.Thread(target=kill)
    killer.start()
    log = infer(place / "model", place / "scenes", tmp_path / "map", engine="ray")
    killer.join()
    assert (killed or k) and same_map(tmp_path / "map", whole) == log and log["scenes_failed"] == {}
    print(f"worker {killed or 'none, all was done'} killed, {log['scenes_done']} scenes done")


@pytest.mark.parametrize("k", KILLS)
def test_killed_caller_goes_on(cluster, place, whole, tmp_path, k):
    out = tmp_path / "map"
    args = ["--model-dir", place / "model", "--scenes", place / "scenes", "--out-dir", out, "--engine", "ray"]
    run = command(*args)
    moment(run.pid, out, k, "parts/s*.json", lambda: run.poll() is not None)
    workers = [
        p for p in psutil.Process(run.pid).children(recursive=True) if p.name() in ("ray::map_task", "ray::IDLE")
    ]
    run.kill()
    killed = run.wait() == -signal.SIGKILL
    finished = {f: f.stat().st_mtime_ns for r in (out / "parts").glob("s*.json") for f in out.glob(f"{r.stem}_*.tif")}
    again = command(*args)
    assert again.wait() == 0, again.stderr.read()
    log = same_map(out, whole)
    assert (killed and 0 < len(finished) < 12 or k) and log["scenes_failed"] == {}
    assert {f: f.stat().st_mtime_ns for f in finished} == finished, "finished scenes are not done again"
    assert not psutil.wait_procs(workers, timeout=10)[1], "no worker of the killed run lives on"
    print(f"caller {'killed' if killed else 'done'} with {len(finished) // 2} of 6 scenes finished")


def test_largest_go_first(place):
    cfg = Predictor.from_dir(place / "model").settings
    assert list(largest_first(list_scenes(place / "scenes"), cfg)) == ["s3", "s1", "s5", "s0", "s2", "s4"]


def test_failing_scene_is_listed(cluster, place, whole, tmp_path):
    "A scene that is cut off fails for good, and is the only one."
    scenes = tmp_path / "scenes"
    scenes.mkdir()
    for k in (0, 2, 4):
        (scenes / f"s{k}.tif").write_bytes((place / "scenes" / f"s{k}.tif").read_bytes())
    content = (scenes / "s2.tif").read_bytes()
    (scenes / "s2.tif").write_bytes(content[: len(content) // 2])
    log = infer(place / "model", scenes, tmp_path / "map", engine="ray")
    assert (
        list(log["scenes_failed"]) == ["s2"]
        and "s2.tif: rows" in log["scenes_failed"]["s2"]
        and "\n" not in log["scenes_failed"]["s2"]
    ), log["scenes_failed"]
    made, expected = outputs(tmp_path / "map"), outputs(whole)
    assert all(
        made[f"s{k}_{kind}.tif"] == expected[f"s{k}_{kind}.tif"] for k in (0, 4) for kind in ("mask", "probability")
    )


def test_tasks_are_retried(cluster, tmp_path):
    "Each call fails twice before it goes well, by an exception or by the death of its worker; the third of them fails always."
    from rts_nb.mapping.engines import on_ray

    def task(name, fails, how):
        tries = tmp_path / name
        with tries.open("a") as f:
            f.write("x")
        if tries.stat().st_size <= fails:
            how()
        return tries.stat().st_size

    def die():
        os.kill(os.getpid(), signal.SIGKILL)

    def refuse():
        raise RunError("no")

    ends = dict(
        on_ray(
            cluster,
            task,
            [
                (n, (n, *how))
                for n, how in dict(
                    refused=(2, refuse), killed=(2, die), never=(9, refuse), dead=(9, die), well=(0, die)
                ).items()
            ],
            dict(num_cpus=1),
        )
    )
    assert (ends["refused"], ends["killed"], ends["well"]) == (3, 3, 1)
    assert isinstance(ends["never"], RunError) and isinstance(ends["dead"], cluster.exceptions.WorkerCrashedError)


def test_model_is_loaded_once_a_worker(cluster, place, tmp_path):
    from rts_nb.mapping.engines import on_ray

    def task(n):
        from rts_nb.mapping import engines

        engines.task_predictor(str(place / "model"), None, json.dumps(dict(overlap=64)))
        time.sleep(0.05)
        return os.getpid(), engines.cached_predictor.cache_info().misses

    ends = dict(on_ray(cluster, task, [(n, (n,)) for n in range(12)], dict(num_cpus=1)))
    assert len({pid for pid, _ in ends.values()}) <= 2 and {misses for _, misses in ends.values()} == {1}, ends


def test_tasks_on_gpus_name_their_own(tmp_path):
    "Two GPUs as Ray counts them: tasks at the same time have different ones, and a worker keeps living."
    pytest.importorskip("ray", reason="ray is not installed")
    code = """
import os, time, ray
from rts_nb.mapping.engines import on_ray, ray_cluster, task_device, task_share
from unittest.mock import patch
with patch.object(ray, 'init', lambda *a, init=ray.init, **k: init(*a, num_cpus=4, num_gpus=2, **k)), ray_cluster() as ray:
    share = task_share(ray.nodes())
    def task(n):
        import ray
        start = time.time(); time.sleep(.3)
        return start, task_device(ray.get_gpu_ids()), os.getpid(), time.time()
    ends = [r for _, r in on_ray(ray, task, [(n, (n,)) for n in range(6)], share)]
same = [(a, b) for a in ends for b in ends if a is not b and a[1] == b[1] and a[0] < b[3] and b[0] < a[3]] # at the same time on the same GPU
print(share, sorted({e[1] for e in ends}), len({e[2] for e in ends}), same)
"""
    said = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={k: v for k, v in os.environ.items() if k != "CUDA_VISIBLE_DEVICES"},
    )
    assert said.stdout.splitlines()[-1:] == ["{'num_gpus': 1, 'num_cpus': 2} ['cuda:0', 'cuda:1'] 2 []"], (
        said.stdout + said.stderr
    )
