"""Training that is killed, stopped, refused a disk or started twice ends where an undisturbed one ends, bit for bit.

Four kills here; RTS_KILLS=10 for ten, at places and moments drawn anew from RTS_KILL_SEED (default 0).
"""

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time

import pytest
from programs import ROOT, last_line, papermill_command, read_json, run_program, tracked_run
from safetensors.numpy import load_file

from rts_nb.core.files import RunError
from rts_nb.runs.directory import read_checkpoint
from rts_nb.train import train

OVERRIDES = [
    "data.source=tiles",
    "data.tile_size=64",
    "predict.overlap=32",
    "sampling.batch_size=4",
    "train.val_frequency=2",
    "checkpoints.every=2",
]
TIMES = {"seconds", "hours", "planned_hours", "cost_usd", "planned_usd", "resumptions"}


def overrides(data, epochs=6):
    return " ".join([f"data.root={data}", f"train.epochs={epochs}", *OVERRIDES])


def command(data, run, kill=None):
    "The command that trains; with `kill`, it kills itself at that place (tests/killed.py)."
    program = ["tests/killed.py", kill] if kill else ["-m", "rts_nb.train"]
    config = ["--config", "configs/sample.yaml", "--overrides", overrides(data)]
    return [sys.executable, *program, *config, "--run-dir", str(run)]


def go(data, run, kill=None, **how):
    return run_program(*command(data, run, kill), env={"PYTHONPATH": str(ROOT)}, **how)


def start(data, run):
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return subprocess.Popen(command(data, run), cwd=ROOT, start_new_session=True, **pipes)


def wait_for(file, process, seconds=120):
    "Waits until a file of a running process appears."
    until = time.time() + seconds
    while not file.exists():
        assert process.poll() is None, process.communicate()
        assert time.time() < until, f"{file.name} did not appear"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def undisturbed(data, tmp_path_factory):
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    done = go(data, run)
    assert done.returncode == 0, done.stderr[-2000:]
    return run


def timeless(value):
    "JSON without what a clock wrote."
    if isinstance(value, dict):
        return {key: timeless(of_key) for key, of_key in value.items() if key not in TIMES}
    if isinstance(value, list):
        return [timeless(item) for item in value]
    return value


def assert_same_tensors(one, two, what):
    assert one.keys() == two.keys(), f"{what} has other tensors"
    different = [name for name in one if not (one[name] == two[name]).all()]
    assert not different, f"{what} differs in {different[:3]}"


def assert_same(a, b):
    "Two run directories hold the same, but for times."
    weights = [load_file(run / "model.safetensors") for run in (a, b)]
    assert_same_tensors(*weights, "the model")
    metrics = [timeless(read_json(run / "metrics.json")) for run in (a, b)]
    assert metrics[0] == metrics[1]
    assert (a / "validation_scores.npz").read_bytes() == (b / "validation_scores.npz").read_bytes()
    one, two = (read_checkpoint(run / "checkpoints" / "last.pt") for run in (a, b))
    for part in ("model", "ema"):
        assert_same_tensors(one[part], two[part], f"{part} of the last checkpoint")


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

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, resource.RLIM_INFINITY))

    return limit


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
    full = go(data, run, preexec_fn=limit_file_size(len(kept) // 2))
    assert full.returncode == 1, full.stderr[-1000:]
    assert "cannot be written (File too large): it needs" in last_line(full.stderr), full.stderr[-1000:]
    assert checkpoint.read_bytes() == kept, "the checkpoint before it is whole"

    done = go(data, run)
    assert done.returncode == 0, done.stderr[-2000:]
    assert_same(undisturbed, run)
    assert read_json(run / "mlflow.json")["run_id"] == run_id, "the same MLflow run went on"
    assert client.get_run(run_id).info.status == "FINISHED"


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
