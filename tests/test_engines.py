"""One map by three ways: this machine, a Ray cluster of two workers, and three partners who merge.

And what kills do to the cluster's: one of a worker and one of the caller, in the middle of the largest scene;
RTS_KILLS=5 for five of each, the others at scenes and moments drawn anew from RTS_KILL_SEED (default 0).
"""

import json
import os
import random
import signal
import threading
import time

import geopandas as gpd
import psutil
import pytest
from programs import last_line, read_json, run_python
from toy_map import RASTERS, copy_scenes, cut_off, make_place, start_infer, start_map, unfinished_files

from rts_nb.core.files import RunError
from rts_nb.infer import infer
from rts_nb.mapping import engines
from rts_nb.mapping.engines import largest_first, on_ray
from rts_nb.mapping.examples import map_digests
from rts_nb.predict.predictor import Predictor
from rts_nb.predict.scenes import list_scenes

ROWS = [1, 2, 1, 8, 1, 2]  # heights of scenes, in sides
LARGE = ["s1", "s3", "s5"]
KILLS = range(int(os.environ.get("RTS_KILLS", 1)))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return make_place(tmp_path_factory.mktemp("place"), ROWS, slumps=12)


NOT_INSTALLED = "ray is not installed (pip install ray, in the version of requirements.txt, to see this test run)"


@pytest.fixture(scope="module")
def cluster():
    "A Ray cluster of two workers on this machine."
    ray = pytest.importorskip("ray", reason=NOT_INSTALLED)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield ray
    ray.shutdown()


def drawn(k):
    "The random numbers of the kth kill."
    return random.Random(f"{os.environ.get('RTS_KILL_SEED', 0)}-{k}")


def is_at(worker, scene):
    "Whether a worker has an unfinished file of a scene open."
    try:
        return any(f".unfinished/{scene}." in file.path for file in worker.open_files())
    except psutil.Error:
        return False


def working(process, scene=None):
    "The workers below a process that are at a scene (at that one)."
    try:
        children = psutil.Process(process).children(recursive=True)
        workers = [child for child in children if child.name() == "ray::map_task"]
    except psutil.Error:
        return []
    return [worker for worker in workers if scene is None or is_at(worker, scene)]


def assert_same_map(folder, whole):
    assert map_digests(folder) == map_digests(whole)
    assert not unfinished_files(folder), "nothing unfinished is left behind"


def write_times(paths):
    return {path: path.stat().st_mtime_ns for path in paths}


def map_chunk(place, folder, k):
    "Maps two scenes, named in a table, into a folder of their own; the folder."
    table, out = folder / f"part{k}.csv", folder / f"map{k}"
    rows = [f"s{i},{place}/scenes/s{i}.tif" for i in (2 * k, 2 * k + 1)]
    table.write_text("\n".join(["tile_id,path", *rows, ""]), encoding="utf-8")
    run = start_infer("--tile-list", table, "--model-dir", place / "model", "--out-dir", out)
    assert run.wait() == 0, run.stderr.read()
    return out


@pytest.mark.long
def test_partners(place, whole, tmp_path):
    "Three commands over chunks of a table, one that merges: the map of one run, to the byte."
    maps, merged = [map_chunk(place, tmp_path, k) for k in range(3)], tmp_path / "merged"
    run = start_infer("--merge", *maps, "--model-dir", place / "model", "--out-dir", merged)
    assert run.wait() == 0, run.stderr.read()
    assert_same_map(merged, whole)
    log, slumps = read_json(merged / "inference_log.json"), gpd.read_parquet(merged / "rts.parquet")
    parts = [read_json(folder / "inference_log.json") for folder in maps]
    assert log["tiles_done"] == sum(part["tiles_done"] for part in parts)
    assert log["scenes_done"] == 6
    assert log["rts"] < sum(part["rts"] for part in parts), "slumps that lie over two chunks are one"
    assert slumps["scene"].isin(["s1,s2", "s3,s4"]).any(), "some slumps lie over two chunks"
    assert (merged / "map.html").exists()
    assert (merged / "s0_mask.tif").is_symlink()


def visible_files(folder):
    return [path for path in folder.iterdir() if path.name != ".lock"]


def test_ray_makes_the_same_map(cluster, place, whole, tmp_path):
    out = tmp_path / "map"
    log = infer(place / "model", place / "scenes", out, engine="ray")
    assert_same_map(out, whole)
    assert read_json(out / "inference_log.json") == log
    assert log["scenes_failed"] == {}
    times = write_times(visible_files(out))
    assert infer(place / "model", place / "scenes", out, engine="ray") == log
    assert write_times(visible_files(out)) == times, "a finished map is left as it is"


def kill_worker(k, log, killed):
    """Kills a worker of this process: at the largest scene (k = 0), or a while after a large one was begun.

    Appends its process number to `killed`; appends nothing only where `log` came first.
    """
    scene, delay = ("s3", 0.0) if k == 0 else (drawn(k).choice(LARGE), drawn(k).uniform(0, 0.5))
    while not working(os.getpid(), scene) and not log.exists():
        time.sleep(0.005)
    time.sleep(delay)
    while not log.exists():
        workers = working(os.getpid(), scene) or working(os.getpid())
        if workers:
            workers[0].kill()
            killed.append(workers[0].pid)
            return
        time.sleep(0.005)


@pytest.mark.parametrize("k", KILLS)
def test_killed_worker_loses_nothing(cluster, place, whole, tmp_path, k):
    out, killed = tmp_path / "map", []
    killer = threading.Thread(target=kill_worker, args=(k, out / "inference_log.json", killed))
    killer.start()
    log = infer(place / "model", place / "scenes", out, engine="ray")
    killer.join()
    assert killed, "the map was finished before a worker could be killed"
    assert_same_map(out, whole)
    assert read_json(out / "inference_log.json") == log
    assert log["scenes_failed"] == {}
    assert log["scenes_done"] == 6


def wait_until_finished(n, out, process):
    "Waits until a command has begun, and finished `n` scenes; fails if it ends before."
    while not list(out.glob(".unfinished/*")) or len(list(out.glob("parts/s*.json"))) < n:
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)


def workers_below(process):
    children = psutil.Process(process).children(recursive=True)
    return [child for child in children if child.name() in ("ray::map_task", "ray::IDLE")]


@pytest.mark.skipif("RTS_KILLS" not in os.environ, reason="over a minute: make test-all runs it")
@pytest.mark.parametrize("k", KILLS)
def test_killed_caller_goes_on(cluster, place, whole, tmp_path, k):
    "Killed when one scene is finished (k = 0), or a while after some are; all of them never are."
    out = tmp_path / "map"
    n_finished, delay = (1, 0.0) if k == 0 else (drawn(k).randint(0, 3), drawn(k).uniform(0, 0.2))
    run = start_map(place, out, "--engine", "ray")
    wait_until_finished(n_finished, out, run)
    time.sleep(delay)
    workers = workers_below(run.pid)
    run.kill()
    assert run.wait() == -signal.SIGKILL
    finished = [record.stem for record in out.glob("parts/s*.json")]
    assert n_finished <= len(finished) < 6, "it was killed in the middle"
    times = write_times(path for scene in finished for path in out.glob(f"{scene}_*.tif"))
    assert len(times) == 2 * len(finished), "a finished scene has both rasters"

    again = start_map(place, out, "--engine", "ray")
    assert again.wait() == 0, again.stderr.read()
    assert_same_map(out, whole)
    assert read_json(out / "inference_log.json")["scenes_failed"] == {}
    assert write_times(times) == times, "finished scenes are not done again"
    _, alive = psutil.wait_procs(workers, timeout=10)
    assert not alive, "no worker of the killed run lives on"
    print(f"caller killed with {len(finished)} of 6 scenes finished")


def test_largest_go_first(place):
    settings = Predictor.from_dir(place / "model").settings
    assert list(largest_first(list_scenes(place / "scenes"), settings)) == ["s3", "s1", "s5", "s0", "s2", "s4"]


@pytest.mark.long
def test_failing_task_is_listed(cluster, place, whole, tmp_path):
    "A scene that is cut off fails for good, and is the only one; tests/test_infer.py has all kinds of bad scenes."
    scenes = copy_scenes(place, tmp_path / "scenes", ["s0", "s2", "s4"])
    cut_off(scenes / "s2.tif")
    log = infer(place / "model", scenes, tmp_path / "map", engine="ray")
    failed = log["scenes_failed"]
    assert list(failed) == ["s2"]
    assert "s2.tif: rows" in failed["s2"]
    assert "\n" not in failed["s2"]
    made, expected = map_digests(tmp_path / "map"), map_digests(whole)
    for raster in (f"{scene}_{kind}.tif" for scene in ("s0", "s4") for kind in RASTERS):
        assert made[raster] == expected[raster], raster


@pytest.mark.long
def test_lost_gpu_ends_its_worker(cluster, place, whole, tmp_path, monkeypatch):
    "The worker whose GPU fails maps nothing afterwards; its scene is mapped by another one."
    log, lost, out = tmp_path / "log", tmp_path / "lost", tmp_path / "map"

    def map_task(model, scene, name, job):
        from unittest.mock import patch

        import torch

        from rts_nb.mapping import engines
        from rts_nb.predict.predictor import Predictor

        def fail(predictor, wide):
            raise torch.AcceleratorError("CUDA error: unspecified launch failure")

        with log.open("a", encoding="utf-8") as f:
            f.write(f"{os.getpid()} {name}\n")
        if name == "s3" and not lost.exists():
            lost.write_text(str(os.getpid()), encoding="utf-8")
            with patch.object(Predictor, "forward", fail):
                return engines.map_task(model, scene, name, job)
        return engines.map_task(model, scene, name, job)

    monkeypatch.setattr(engines, "map_task", map_task)
    assert infer(place / "model", place / "scenes", out, engine="ray")["scenes_failed"] == {}
    assert_same_map(out, whole)
    worker = int(lost.read_text(encoding="utf-8"))
    tasks = [line.split() for line in log.read_text(encoding="utf-8").splitlines()]
    at_s3 = [int(pid) for pid, name in tasks if name == "s3"]
    assert len(at_s3) == 2 and at_s3[0] == worker != at_s3[1]
    assert not psutil.pid_exists(worker) or psutil.Process(worker).status() == psutil.STATUS_ZOMBIE


def test_tasks_are_retried(cluster, tmp_path):
    """Tasks that fail twice go well in the end; those that fail always do not.

    They fail by an exception or by the death of their worker.
    """

    def task(name, n_failures, fail):
        tries = tmp_path / name
        with tries.open("a", encoding="utf-8") as f:
            f.write("x")
        if tries.stat().st_size <= n_failures:
            fail()
        return tries.stat().st_size

    def die():
        os.kill(os.getpid(), signal.SIGKILL)

    def refuse():
        raise RunError("no")

    calls = {
        "refused": (2, refuse),
        "killed": (2, die),
        "never": (9, refuse),
        "dead": (9, die),
        "well": (0, die),
    }
    ends = dict(on_ray(cluster, task, [(name, (name, *call)) for name, call in calls.items()], dict(num_cpus=1)))
    assert (ends["refused"], ends["killed"], ends["well"]) == (3, 3, 1)
    assert isinstance(ends["never"], RunError)
    assert isinstance(ends["dead"], cluster.exceptions.WorkerCrashedError)


def test_model_is_loaded_once_a_worker(cluster, place, tmp_path):
    model, settings = str(place / "model"), json.dumps(dict(overlap=64))

    def task(n):
        from rts_nb.mapping import engines

        engines.task_predictor(model, None, settings)
        time.sleep(0.05)
        return os.getpid(), engines.cached_predictor.cache_info().misses

    ends = [end for _, end in on_ray(cluster, task, [(n, (n,)) for n in range(12)], dict(num_cpus=1))]
    assert len({pid for pid, _ in ends}) <= 2, ends
    assert {misses for _, misses in ends} == {1}, ends


def test_tasks_on_gpus_name_their_own(monkeypatch):
    "Two GPUs as Ray counts them: tasks at the same time have different ones, and a worker keeps living."
    pytest.importorskip("ray", reason=NOT_INSTALLED)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    said = run_python("tests/gpus.py")
    assert said.returncode == 0, said.stderr
    assert json.loads(last_line(said.stdout)) == dict(
        share=dict(num_gpus=1, num_cpus=2),
        devices=["cuda:0", "cuda:1"],
        workers=2,
        overlapping=[],
    )
