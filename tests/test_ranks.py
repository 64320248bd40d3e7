"""Two processes over gloo do what one does that accumulates their half-batches."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

ROOT = Path(__file__).resolve().parent.parent
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]


@pytest.fixture(scope="module")
def results(data, tmp_path_factory):
    "{(world, rank): result} and {(world, name): weights}."
    out = tmp_path_factory.mktemp("ranks") / "r"
    for program in ([sys.executable], TORCHRUN):
        done = subprocess.run(
            [*program, "tests/ranks.py", str(data), str(out)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        assert done.returncode == 0, done.stderr[-3000:]
    return (
        {(w, r): json.loads(Path(f"{out}-{w}-{r}.json").read_text()) for w, r in ((1, 0), (2, 0), (2, 1))},
        {(w, n): load_file(f"{out}-{w}-{n}.safetensors") for w in (1, 2) for n in ("model", "averaged")},
    )


def test_every_draw_is_seen_once(results):
    one, first, second = (results[0][k]["drawn"] for k in ((1, 0), (2, 0), (2, 1)))
    for alone, a, b in zip(one, first, second):
        whole = len(a) + len(b)
        assert len(a) == len(b) and sorted(a + b) == sorted(alone[:whole]), "together the processes draw what one draws"
        assert len(alone) - whole <= 4, "but for a last batch that has no partner"


def test_weights_are_those_of_accumulated_half_batches(results):
    for name in ("model", "averaged"):
        one, two = results[1][1, name], results[1][2, name]
        assert one.keys() == two.keys()
        worst = max(
            np.abs(one[k] - two[k]).max() / max(np.abs(one[k]).max(), 1e-3) for k in one if one[k].dtype.kind == "f"
        )
        print(f"{name}: largest relative difference after 20 steps {worst:.1e}")
        assert worst < (1e-9 if name == "model" else 1e-6), f"{name} differs by {worst:.1e}"


@pytest.mark.parametrize("name", ["focal", "tversky", "focal_dice", "balanced_bce"])
def test_losses_sum_over_all_processes(results, name):
    whole, parts = results[0][1, 0]["losses"][name], results[0][2, 0]["losses"][name]
    np.testing.assert_allclose(
        parts, whole, rtol=1e-5, err_msg=f"{name}: the gradient of two half-batches is not that of the whole"
    )


def test_validation_is_that_of_one_process(results):
    one, two, other = (results[0][k] for k in ((1, 0), (2, 0), (2, 1)))
    assert two["tiles"] == one["tiles"] == other["tiles"], "every tile once, in the same order"
    assert two["validation"] == other["validation"]
    assert two["validation"]["loss"] == pytest.approx(one["validation"]["loss"], rel=1e-6)


def test_run_on_two_devices(data, tmp_path):
    "From the command that a notebook's train() gives: one run directory, one set of numbers, and resumed as any other."
    run = tmp_path / "run"
    command = [
        sys.executable,
        "-m",
        "rts_nb.train",
        "--config",
        "configs/sample.yaml",
        "--run-dir",
        str(run),
        "--overrides",
        f"data.root={data} data.source=tiles data.tile_size=64 predict.overlap=32 sampling.batch_size=4 train.devices=2 train.val_frequency=1 train.epochs=2",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["epochs"] == 2 and metrics["confirmed_pr_auc"] == pytest.approx(metrics["best"]["metric"], abs=1e-6)
    wrong = subprocess.run(
        [*command[:-1], command[-1] + " sampling.batch_size=24", "--fresh"], cwd=ROOT, capture_output=True, text=True
    )
    assert wrong.returncode == 1 and wrong.stderr.strip().splitlines()[-1].startswith(
        "rts_nb.train: sampler: sampling.batch_size 24 is larger than epoch 1"
    ), wrong.stderr[-1500:]
