"""Two processes over gloo do what one does that accumulates their half-batches."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from programs import last_line, read_json, run_python
from safetensors.numpy import load_file

TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]


class Results(NamedTuple):
    "What tests/ranks.py left, alone and as one of two processes."

    alone: dict
    first: dict  # of two
    second: dict
    weights_alone: dict  # 'model' and 'averaged' → tensors
    weights_of_two: dict


def load_weights_of(out, world):
    return {name: load_file(f"{out}-{world}-{name}.safetensors") for name in ("model", "averaged")}


@pytest.fixture(scope="module")
def results(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("ranks") / "r"
    for how in ([], TORCHRUN):
        done = run_python(*how, "tests/ranks.py", data, out)
        assert done.returncode == 0, done.stderr[-3000:]
    return Results(
        alone=read_json(Path(f"{out}-1-0.json")),
        first=read_json(Path(f"{out}-2-0.json")),
        second=read_json(Path(f"{out}-2-1.json")),
        weights_alone=load_weights_of(out, 1),
        weights_of_two=load_weights_of(out, 2),
    )


def test_every_draw_is_seen_once(results):
    epochs = zip(results.alone["drawn"], results.first["drawn"], results.second["drawn"], strict=True)
    for alone, first, second in epochs:
        n = len(first) + len(second)
        assert len(first) == len(second)
        assert sorted(first + second) == sorted(alone[:n]), "together the processes draw what one draws"
        assert len(alone) - n <= 4, "but for a last batch that has no partner"


def relative_difference(one, two):
    return np.abs(one - two).max() / max(np.abs(one).max(), 1e-3)


@pytest.mark.parametrize("name, limit", [("model", 1e-9), ("averaged", 1e-6)])
def test_weights_are_those_of_accumulated_half_batches(results, name, limit):
    one, two = results.weights_alone[name], results.weights_of_two[name]
    assert one.keys() == two.keys()
    differences = [relative_difference(one[key], two[key]) for key in one if one[key].dtype.kind == "f"]
    print(f"{name}: largest relative difference after 20 steps {max(differences):.1e}")
    assert max(differences) < limit, f"{name} differs by {max(differences):.1e}"


@pytest.mark.parametrize("name", ["focal", "tversky", "focal_dice", "balanced_bce"])
def test_losses_sum_over_all_processes(results, name):
    whole, parts = results.alone["losses"][name], results.first["losses"][name]
    message = f"{name}: the gradient of two half-batches is not that of the whole"
    np.testing.assert_allclose(parts, whole, rtol=1e-5, err_msg=message)


def test_validation_is_that_of_one_process(results):
    alone, first, second = results.alone, results.first, results.second
    assert first["tiles"] == alone["tiles"] == second["tiles"], "every tile once, in the same order"
    assert first["validation"] == second["validation"]
    assert first["validation"]["loss"] == pytest.approx(alone["validation"]["loss"], rel=1e-6)
    assert first["validation"]["watch"] == pytest.approx(alone["validation"]["watch"], rel=1e-6)


def train_on_two_devices(data, run, *more, batch_size=4):
    "The command that a notebook's train() gives for two devices."
    options = [
        f"data.root={data}",
        "data.source=tiles",
        "data.tile_size=64",
        "predict.overlap=32",
        f"sampling.batch_size={batch_size}",
        "train.devices=2",
        "train.val_frequency=1",
        "train.epochs=2",
    ]
    words = ["-m", "rts_nb.train", "--config", "configs/sample.yaml", "--run-dir", run]
    return run_python(*words, "--overrides", " ".join(options), *more)


@pytest.mark.long
def test_run_on_two_devices(data, tmp_path):
    "One run directory, one set of numbers."
    run = tmp_path / "run"
    done = train_on_two_devices(data, run)
    assert done.returncode == 0, done.stderr[-2000:]
    metrics = read_json(run / "metrics.json")
    assert metrics["epochs"] == 2
    assert metrics["confirmed_pr_auc"] == pytest.approx(metrics["best"]["metric"], abs=1e-6)
    wrong = train_on_two_devices(data, run, "--fresh", batch_size=24)
    assert wrong.returncode == 1, wrong.stderr[-1500:]
    says = "rts_nb.train: sampler: sampling.batch_size 24 is larger than epoch 1"
    assert last_line(wrong.stderr).startswith(says), wrong.stderr[-1500:]
