"""A training of seconds: its command, as it ends, started to be stopped, and whether two of them left the same."""

import subprocess
import sys
import time

from programs import ROOT, read_json, run_python
from safetensors.numpy import load_file

from rts_nb.runs.directory import read_checkpoint

OVERRIDES = [
    "data.source=tiles",
    "data.tile_size=64",
    "predict.overlap=32",
    "sampling.batch_size=4",
    "train.val_frequency=2",
    "checkpoints.every=2",
]
TIMES = {"seconds", "hours", "training_hours", "planned_hours", "cost_usd", "planned_usd", "resumptions"}


def overrides(data, epochs=6):
    return " ".join([f"data.root={data}", f"train.epochs={epochs}", *OVERRIDES])


def arguments(data, run, kill=None, fresh=False):
    "Those of Python that train; with `kill`, the process kills itself at that place (tests/killed.py)."
    program = ["tests/killed.py", kill] if kill else ["-m", "rts_nb.train"]
    config = ["--config", "configs/sample.yaml", "--overrides", overrides(data)]
    return [*program, *config, "--run-dir", str(run), *(["--fresh"] if fresh else [])]


def go(data, run, kill=None, fresh=False, before=None):
    "A finished training, or one that went on to its end or its kill."
    return run_python(*arguments(data, run, kill, fresh), before=before)


def start(data, run, env=None):
    "The same command, started, its output to be read at its end."
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return subprocess.Popen([sys.executable, *arguments(data, run)], cwd=ROOT, start_new_session=True, env=env, **pipes)


def wait_for(file, process, seconds=120):
    "Waits until a file of a running process appears."
    until = time.time() + seconds
    while not file.exists():
        assert process.poll() is None, process.communicate()
        assert time.time() < until, f"{file.name} did not appear"
        time.sleep(0.05)


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
    stored = [{path.name: path.read_bytes() for path in (run / "validations").iterdir()} for run in (a, b)]
    assert stored[0] == stored[1]
    one, two = (read_checkpoint(run / "checkpoints" / "last.pt") for run in (a, b))
    for part in ("model", "ema"):
        assert_same_tensors(one[part], two[part], f"{part} of the last checkpoint")
