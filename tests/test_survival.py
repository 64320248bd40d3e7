"""Training that is killed, stopped, refused a disk or started twice ends where an undisturbed one ends, bit for bit.

Four kills here; RTS_KILLS=10 for ten, at places and moments drawn anew from RTS_KILL_SEED (default 0).
"""

import functools
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import time

import pytest
import rasterio
from programs import ROOT, last_line, papermill_command, read_json, tracked_run
from short_training import assert_same, go, overrides, start, wait_for

from rts_nb.core.files import DataError, RunError, read_umask
from rts_nb.runs.directory import read_checkpoint
from rts_nb.runs.set_aside import read_record
from rts_nb.tiles.layout import load_tiles
from rts_nb.train import RUN_FIGURES, train


def kills():
    """Where to kill, in this order: first places of which each must be reached, then moments.

    Inside a validation, inside the write of its weights and of its checkpoint, at a random step; then more of all
    kinds, the last one when the training is over.
    """
    rng = random.Random(int(os.environ.get("RTS_KILL_SEED", 0)))
    step, write = rng.randint(1, 6), rng.randint(1, 2)
    moments = [f"time:{rng.uniform(0, 1.5):.2f}" for _ in range(3)]
    places = ["validation:1", "best", "write:1", f"step:{step}", "rename:1", f"write:{write}"]
    return [*places, *moments, "finish"][: int(os.environ.get("RTS_KILLS", 4))]


def may_come_before_resumption(kill):
    "Whether a kill may fall before the resumed run has noted that it is one."
    name, _, moment = kill.partition(":")
    return name == "time" and float(moment) < 0.5


def test_killed_and_resumed_is_the_same(data, undisturbed, tmp_path):
    run, killed, finished = tmp_path / "run", [], False
    for kill in kills():
        done = go(data, run, kill)
        assert done.returncode in (-signal.SIGKILL, 0), done.stderr[-2000:]
        if done.returncode:
            killed.append(kill)
        else:
            assert finished or kill.startswith("time"), f"{kill} was not reached"
            finished = True
    done = go(data, run)
    assert done.returncode == 0, done.stderr[-2000:]
    assert_same(undisturbed, run)
    noted = read_json(run / "metrics.json")["resumptions"]
    print("killed at", *killed)
    print("resumed from", *((r["checkpoint"], r["after_epoch"], r["after_step"]) for r in noted), sep="\n")
    early = [kill for kill in killed if may_come_before_resumption(kill)]
    assert len(killed) >= min(3, len(kills()))
    assert len(killed) - len(early) <= len(noted) <= len(killed), "each resumption is listed"


def limit_file_size(n_bytes):
    "For a new process: no file may grow beyond so many bytes, as if the disk were full."
    return functools.partial(resource.setrlimit, resource.RLIMIT_FSIZE, (n_bytes, resource.RLIM_INFINITY))


@pytest.mark.long
def test_stopped_by_sigterm_then_without_disk(data, undisturbed, tmp_path):
    run = tmp_path / "run"
    checkpoint = run / "checkpoints" / "last.pt"
    process = start(data, run)
    wait_for(checkpoint, process)
    with pytest.raises(RunError, match=rf"is taken by train \(process {process.pid}"):
        train("configs/sample.yaml", run, overrides(data))

    asked = time.time()
    os.killpg(process.pid, signal.SIGTERM)  # to all of its processes, as a machine that is shut down does
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM, said
    assert "SIGTERM: stopped" in last_line(said), said
    assert time.time() - asked < 20
    client, run_id = tracked_run(run)
    assert client.get_run(run_id).info.status == "KILLED"

    kept = checkpoint.read_bytes()
    full = go(data, run, before=limit_file_size(len(kept) // 2))
    assert full.returncode == 1, full.stderr[-1000:]
    assert "cannot be written (File too large): it needs" in last_line(full.stderr), full.stderr[-1000:]
    assert checkpoint.read_bytes() == kept, "the checkpoint before it is whole"

    done = go(data, run)
    assert done.returncode == 0, done.stderr[-2000:]
    assert_same(undisturbed, run)
    assert read_json(run / "mlflow.json")["run_id"] == run_id, "the same MLflow run went on"
    assert client.get_run(run_id).info.status == "FINISHED"


@pytest.mark.long
def test_report_is_stopped_by_sigterm_too(data, tmp_path):
    "papermill dies of a SIGTERM at once; the training in its kernel still leaves its state, and says so to MLflow."
    run = tmp_path / "run"
    parameters = dict(config="configs/sample.yaml", run_dir=run, overrides=overrides(data, epochs=100))
    report = papermill_command("20_train", tmp_path / "out.ipynb", **parameters)
    process = subprocess.Popen(report, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(run / "checkpoints" / "last.pt", process)
    process.terminate()
    process.wait(timeout=60)

    client, run_id = tracked_run(run)
    until = time.time() + 20
    while client.get_run(run_id).info.status == "RUNNING" and time.time() < until:
        time.sleep(0.2)
    assert client.get_run(run_id).info.status == "KILLED"
    progress = read_checkpoint(run / "checkpoints" / "last.pt")["progress"]
    assert json.loads(progress)["epoch"] < 100


# ---------------------------------------------------------------- what a run leaves, and starting over


def test_a_command_leaves_the_figures_of_its_report(undisturbed):
    assert {path.stem for path in (undisturbed / "figures").glob("*.png")} == set(RUN_FIGURES)


def test_all_files_of_a_run_have_the_mode_of_the_umask(undisturbed):
    files = [path for path in undisturbed.rglob("*") if path.is_file() and not path.name.startswith(".")]
    kinds = {path.suffix for path in files}
    assert {".pt", ".safetensors", ".npz", ".json", ".yaml", ".csv", ".png"} <= kinds
    expected = oct(0o666 & ~read_umask())
    assert {oct(path.stat().st_mode & 0o777) for path in files} == {expected}


def contents(folder):
    "Relative path → bytes of all files below a folder, without locks and without the note of what was set aside."
    files = [path for path in folder.rglob("*") if path.is_file()]
    own = (".lock", ".holder", ".set_aside.json")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files if path.name not in own}


@pytest.mark.parametrize("fresh", [True, False])
def test_a_folder_of_photographs_stays(data, tmp_path, fresh):
    folder = tmp_path / "photographs"
    (folder / "2025").mkdir(parents=True)
    for name in ("a.jpg", "2025/b.jpg"):
        (folder / name).write_bytes(name.encode())
    before = contents(folder)
    with pytest.raises(RunError, match="photographs is no run directory: it holds 2025, a.jpg"):
        train("configs/sample.yaml", folder, overrides(data), fresh=fresh)
    assert contents(folder) == before
    assert [path.name for path in tmp_path.iterdir()] == ["photographs"]


@pytest.fixture
def run(undisturbed, tmp_path):
    "A copy of the finished run."
    return shutil.copytree(undisturbed, tmp_path / "run")


def test_a_start_that_is_refused_leaves_the_finished_run(data, run):
    "A mistyped folder of data, and data with a fault that only the pre-flight finds."
    before = contents(run)
    with pytest.raises(DataError, match="is missing or has no metadata.csv"):
        train("configs/sample.yaml", run, overrides(f"{data}s"), fresh=True)
    spoilt = shutil.copytree(data, run.parent / "spoilt")
    next((spoilt / "labels").glob("*.tif")).unlink()
    with pytest.raises(DataError, match="data: 1 faults, the first: .*is missing"):
        train("configs/sample.yaml", run, overrides(spoilt), fresh=True)
    assert contents(run) == before
    assert sorted(path.name for path in run.parent.iterdir()) == ["run", "spoilt"]


@pytest.mark.long
def test_the_old_run_is_kept_until_the_new_one_is_finished(data, undisturbed, run):
    "Killed while it is set aside, then in training, then resumed without `fresh`."
    before = contents(run)
    assert go(data, run, "move:3", fresh=True).returncode == -signal.SIGKILL
    assert read_record(run)["moving"] and not (run / "metrics.json").exists()

    assert go(data, run, "validation:1").returncode == -signal.SIGKILL
    (name,) = read_record(run)["aside"]
    assert contents(run.with_name(name)) == before
    assert not (run / "metrics.json").exists()

    done = go(data, run)
    assert done.returncode == 0, done.stderr[-2000:]
    assert_same(undisturbed, run)
    assert [path.name for path in run.parent.iterdir()] == ["run"]
    assert not (run / ".set_aside.json").exists()


def change_a_pixel(file):
    with rasterio.open(file, "r+") as tile:
        band = tile.read(1)
        band[0, 0] ^= 1
        tile.write(band, 1)


def test_data_that_changed_are_refused_before_anything_is_written(data, tmp_path):
    "A pixel of a validation tile, which no check of the dataset sees; a copy of the data is the same data."
    root, run = shutil.copytree(data, tmp_path / "data"), tmp_path / "run"
    assert go(root, run, "step:3").returncode == -signal.SIGKILL
    before = contents(run)
    val = next(row for row in load_tiles(root).itertuples() if row.split == "val")
    change_a_pixel(root / "PLANET-RGB" / f"{val.Tile_id}.tif")
    with pytest.raises(RunError, match="PLANET-RGB/ of val has changed since the run in .*run began; restore"):
        train("configs/sample.yaml", run, overrides(root))
    assert contents(run) == before

    shutil.rmtree(root)
    shutil.copytree(data, root, copy_function=shutil.copyfile)  # with other dates
    assert go(root, run, "step:1").returncode == -signal.SIGKILL, "it goes on"
