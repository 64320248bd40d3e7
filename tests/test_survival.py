"""Training that is killed, stopped, refused a disk or started twice ends where an undisturbed one ends, bit for bit.

Four kills here; RTS_KILLS=10 for ten, at places and moments drawn anew from RTS_KILL_SEED (default 0)."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.numpy import load_file

ROOT = Path(__file__).resolve().parent.parent
OVERRIDES = "data.root={root} data.source=tiles data.tile_size=64 predict.overlap=32 sampling.batch_size=4 train.epochs=6 train.val_frequency=2 checkpoints.every=2"
TIMES = {"seconds", "hours", "planned_hours", "cost_usd", "planned_usd", "resumptions"}


def command(data, run, kill=None, *more):
    program = ["tests/killed.py", kill] if kill else ["-m", "rts_nb.train"]
    return [
        sys.executable,
        *program,
        "--config",
        "configs/sample.yaml",
        "--overrides",
        OVERRIDES.format(root=data),
        "--run-dir",
        str(run),
        *more,
    ]


def go(*args, **kwargs):
    return subprocess.run(
        command(*args), cwd=ROOT, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)}, **kwargs
    )


def start(*args):
    return subprocess.Popen(
        command(*args), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def wait_for(file, process, seconds=120):
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
        return {k: timeless(v) for k, v in value.items() if k not in TIMES}
    return [timeless(v) for v in value] if isinstance(value, list) else value


def assert_same(a, b):
    one, two = (load_file(run / "model.safetensors") for run in (a, b))
    assert one.keys() == two.keys() and all((one[k] == two[k]).all() for k in one), "weights differ"
    metrics = [json.loads((run / "metrics.json").read_text()) for run in (a, b)]
    assert timeless(metrics[0]) == timeless(metrics[1])
    assert (a / "validation_scores.npz").read_bytes() == (b / "validation_scores.npz").read_bytes()
    from rts_nb.runs.directory import read_checkpoint

    states = [read_checkpoint(run / "checkpoints" / "last.pt") for run in (a, b)]
    for part in ("model", "ema"):
        assert all((states[0][part][k] == states[1][part][k]).all() for k in states[0][part]), (
            f"{part} of the last checkpoint differs"
        )


def kills():
    "Where to kill: inside a validation, inside the write of its weights and of its checkpoint, at a random step; then more of all kinds, the last one when the training is over."
    rng, n = random.Random(int(os.environ.get("RTS_KILL_SEED", 0))), int(os.environ.get("RTS_KILLS", 4))
    drawn = [
        "validation:1",
        "best",
        "write:1",
        f"step:{rng.randint(1, 6)}",
        "rename:1",
        f"write:{rng.randint(1, 2)}",
        *(f"time:{rng.uniform(0, 1.5):.2f}" for _ in range(3)),
        "finish",
    ]
    return drawn[:n]


def test_killed_and_resumed_is_the_same(data, undisturbed, tmp_path):
    run, table = tmp_path / "run", []
    for kill in kills():
        done = go(data, run, kill)
        table.append((kill, done.returncode))
        assert done.returncode in (-signal.SIGKILL, 0), done.stderr[-2000:]
    done = go(data, run)
    assert done.returncode == 0, done.stderr[-2000:]
    assert_same(undisturbed, run)
    noted = json.loads((run / "metrics.json").read_text())["resumptions"]
    killed = [k for k, status in table if status]
    print(*table, *((r["checkpoint"], r["after_epoch"], r["after_step"]) for r in noted), sep="\n")
    early = [
        k for k in killed if k.startswith("time") and float(k[5:]) < 0.5
    ]  # may fall before the resumed run has noted that it is one
    assert len(killed) >= 3 and len(killed) - len(early) <= len(noted) <= len(killed), "each resumption is listed"


def test_stopped_by_sigterm_then_without_disk(data, undisturbed, tmp_path):
    from rts_nb.core.files import RunError
    from rts_nb.train import train

    run = tmp_path / "run"
    process = start(data, run, None)
    wait_for(run / "checkpoints" / "last.pt", process)
    with pytest.raises(RunError, match=rf"is taken by train \(process {process.pid}"):
        train("configs/sample.yaml", run, OVERRIDES.format(root=data))
    asked = time.time()
    os.killpg(process.pid, signal.SIGTERM)  # to all of its processes, as a machine that is shut down does
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM and "SIGTERM: stopped" in said.splitlines()[-1], said
    assert time.time() - asked < 20
    from mlflow import MlflowClient

    run_id, client = (
        json.loads((run / "mlflow.json").read_text())["run_id"],
        MlflowClient(f"sqlite:///{os.environ['RTS_RUNS']}/mlflow.db"),
    )
    assert client.get_run(run_id).info.status == "KILLED"

    import resource

    kept = (run / "checkpoints" / "last.pt").read_bytes()
    full = go(
        data,
        run,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (len(kept) // 2, resource.RLIM_INFINITY)),
    )
    assert full.returncode == 1 and "cannot be written (File too large): it needs" in full.stderr.splitlines()[-1], (
        full.stderr[-1000:]
    )
    assert (run / "checkpoints" / "last.pt").read_bytes() == kept, "the checkpoint before it is whole"

    done = go(data, run)
    assert done.returncode == 0, done.stderr[-2000:]
    assert_same(undisturbed, run)
    assert (
        json.loads((run / "mlflow.json").read_text())["run_id"] == run_id
        and client.get_run(run_id).info.status == "FINISHED"
    ), "the same MLflow run went on"


def test_report_is_stopped_by_sigterm_too(data, tmp_path):
    "papermill dies of a SIGTERM at once; the training in its kernel still leaves its state, and says so to MLflow."
    run = tmp_path / "run"
    papermill = [
        "papermill",
        "nbs/20_train.ipynb",
        str(tmp_path / "out.ipynb"),
        "-p",
        "config",
        "configs/sample.yaml",
        "-p",
        "run_dir",
        str(run),
        "-p",
        "overrides",
        OVERRIDES.format(root=data).replace("train.epochs=6", "train.epochs=100"),
    ]
    process = subprocess.Popen(papermill, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(run / "checkpoints" / "last.pt", process)
    process.terminate()
    process.wait(timeout=60)
    from mlflow import MlflowClient

    run_id, client, until = (
        json.loads((run / "mlflow.json").read_text())["run_id"],
        MlflowClient(f"sqlite:///{os.environ['RTS_RUNS']}/mlflow.db"),
        time.time() + 20,
    )
    while client.get_run(run_id).info.status == "RUNNING" and time.time() < until:
        time.sleep(0.2)
    assert client.get_run(run_id).info.status == "KILLED"
    from rts_nb.runs.directory import read_checkpoint

    assert json.loads(read_checkpoint(run / "checkpoints" / "last.pt")["progress"])["epoch"] < 100
