"""The program as its users run it: papermill from the root, bad input, public images."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest
from programs import (
    cells_of,
    count_figures,
    last_line,
    outputs_of,
    papermill,
    papermill_command,
    read_json,
    run_program,
    run_python,
    tracked_run,
)

from rts_nb.data import prepare
from rts_nb.settings.config import load_config
from rts_nb.tiles.checks import check_dataset
from rts_nb.tiles.layout import load_tiles
from rts_nb.tiles.overlaps import connected_groups, public_overlaps
from rts_nb.tiles.public import import_public
from rts_nb.train import RUN_FIGURES, main

RUN_FILES = (
    "config.yaml",
    "environment.json",
    "normalization_stats.json",
    "training_profile.json",
    "metrics.json",
    "model.safetensors",
)


EPOCH_LINE = re.compile(
    r"epoch (?P<epoch>\d+)/(?P<epochs>\d+)  loss (?P<loss>[\d.]+)  PR-AUC at 1:200 (?P<pr_auc>[\d.]+) "
    r"\(best( (?P<best>[\d.]+))?, epoch (?P<best_epoch>\d+)\)  (?P<usd>[\d.]+) USD  (?P<left>.+ left|last epoch)"
)


def check_epoch_lines(log, metrics):
    "A log has one line an epoch, in order, and its figures are those of the run's metrics."
    found = [line for line in log.splitlines() if line.startswith("epoch ")]
    lines = [EPOCH_LINE.fullmatch(line) for line in found]
    assert all(lines) and len(lines) == metrics["epochs"], found
    for number, line in enumerate(lines, 1):
        validation = metrics["validations"][number - 1]
        so_far = metrics["validations"][:number]
        assert (int(line["epoch"]), int(line["epochs"])) == (number, metrics["epochs"])
        assert line["loss"] == f"{metrics['history'][number - 1]['train_loss']:.3f}"
        assert line["pr_auc"] == f"{validation['metric']:.3f}"
        assert (line["best"] or line["pr_auc"]) == f"{max(v['metric'] for v in so_far):.3f}"
        assert float(line["usd"]) <= metrics["cost_usd"] + 0.005
    assert int(lines[-1]["best_epoch"]) == metrics["best_epoch"]
    assert [line["left"] == "last epoch" for line in lines] == [False] * (len(lines) - 1) + [True]


def test_train_with_another_seed_leaves_a_report(tmp_path):
    out = tmp_path / "out.ipynb"
    done = run_program(*papermill_command("20_train", out, seed=43), "--no-progress-bar", "--stdout-file", "-")
    assert done.returncode == 0, done.stderr[-2000:]
    run = Path(os.environ["RTS_RUNS"]) / "test" / "seed-43"
    check_epoch_lines(done.stdout, read_json(run / "metrics.json"))
    assert "\r" not in done.stdout + done.stderr, "nothing is redrawn in a log"
    for name in RUN_FILES:
        assert (run / name).exists(), name
    text = outputs_of(cells_of(out))
    assert "Val-Realistic 1:1000" in text, "the report shows its table"
    assert count_figures(text) >= 4, "the report shows its figures"
    training = next(cell for cell in cells_of(out) if "run = train_in_report(" in "".join(cell["source"]))
    assert "boundary handling" in outputs_of([training]), "the pre-flight stands above the epochs"
    assert {path.stem for path in (run / "figures").glob("*.png")} == set(RUN_FIGURES)
    expected = read_json(run / "notebooks" / "expected.json")
    assert expected["20_train"]["path"] == str(out), "the run knows where its report is"

    for file in run.rglob("*.json"):
        json.loads(file.read_text(encoding="utf-8"), parse_constant=pytest.fail)  # NaN and Infinity are not JSON
    assert (run / "requirements-installed.txt").read_text(encoding="utf-8").count("==") > 50

    # the next thing that touches the run collects it
    assert run_python("-m", "rts_nb.train", "--collect", run).returncode == 0
    assert (run / "notebooks" / "20_train.ipynb").exists()
    client, run_id = tracked_run(run)
    tracked = client.get_run(run_id)
    assert tracked.info.status == "FINISHED"
    assert tracked.data.params["seed"] == "43"
    used = {name: tracked.data.params[name] for name in ("loss.lambda_dice", "optimizer.name", "train.precision_used")}
    assert used["loss.lambda_dice"] == "1.0" and used["optimizer.name"] == "AdamW", "as used, not as left open"
    assert used["train.precision_used"].startswith(("fp32", "bf16")), used
    shown = [f.path for f in client.list_artifacts(run_id, "notebooks")]
    assert shown == ["notebooks/20_train.html", "notebooks/20_train.ipynb"], (
        "as a page, which MLflow shows, and as it is"
    )
    assert (tracked.data.tags["config"], tracked.data.tags["seed"], tracked.data.tags["fold"]) == (
        "test",
        "43",
        "split",
    )
    assert tracked.data.tags["mlflow.source.name"] == "nbs/20_train.ipynb"
    assert {"pr_auc", "val_loss", "train_loss"} == {name for name in tracked.data.metrics if "/" not in name}
    assert len(tracked.inputs.dataset_inputs) == 1, "what it learned from"
    artifacts = {f.path for f in client.list_artifacts(run_id)}
    assert {"model.safetensors", "requirements.txt", "requirements-installed.txt"} <= artifacts


@pytest.mark.parametrize(
    "parameters, says",
    [
        (dict(config="configs/smaple.yaml"), "config configs/smaple.yaml is missing; configs/ has"),
        (dict(sed=43), "parameter 'sed' is not one of this notebook; did you mean 'seed'?"),
    ],
    ids=["no config", "unknown parameter"],
)
def test_bad_input_is_one_line_before_training(tmp_path, parameters, says):
    done = papermill("20_train", tmp_path / "out.ipynb", **parameters)
    assert done.returncode != 0
    last = last_line(done.stderr)
    assert says in last, last
    assert "Error: " in last
    assert "Traceback" not in done.stderr.split("Exception encountered")[-1], "our part of the message is one line"


@pytest.mark.parametrize(
    "arguments, says",
    [
        (["--overrides", "train.epoch=3"], "unknown key 'train.epoch'; did you mean 'train.epochs'?"),
        (["--seed", "-1"], "seed: Input should be greater than or equal to 0, found -1"),
        (["--overrides", "data.root=data/nowhere data.source=tiles"], "data.root data/nowhere is missing"),
        (["--run-dir", "/proc/nowhere/run"], "cannot be written"),
    ],
    ids=["unknown key", "negative seed", "no data", "unwritable run"],
)
def test_bad_input_of_the_command_is_one_line(arguments, says):
    "What the process of the command ends with; the next test sees that it prints it, after the pre-flight."
    with pytest.raises(SystemExit) as left:
        main(arguments)
    line = left.value.code
    assert line.startswith("rts_nb.train: ") and "\n" not in line, line
    assert says in line, line


def test_a_run_that_is_stopped_shows_its_pre_flight_first():
    done = run_python("-m", "rts_nb.train", "--overrides", "sampling.batch_size=512")
    lines = done.stdout.splitlines()
    assert all(line.startswith("pre-flight ") for line in lines), done.stdout
    stops = [line for line in lines if " STOP " in line]
    assert len(stops) == 1 and "sampling.batch_size 512 is larger than epoch 1" in stops[0]
    assert len({line.index(line.split()[2]) for line in lines}) == 1, "the items stand in a column"
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr[-1500:]
    assert last_line(done.stderr).startswith("rts_nb.train: sampler: sampling.batch_size 512"), done.stderr


def test_public_images_import(tmp_path, public_set):
    root = import_public(public_set.folder, tmp_path / "public")
    tiles = load_tiles(root)
    assert check_dataset(root) == []
    assert len(tiles) >= public_set.tiles
    assert tiles.positive.any() and not tiles.positive.all()
    images = tiles.Tile_id.str.rsplit("_", n=2).str[0]
    assert (tiles.groupby(images).split.nunique() == 1).all(), "an image lies in one split"
    groups = images.map(connected_groups(set(images), public_overlaps()))
    for column in ("RegionName", "split", "block"):
        assert (tiles.groupby(groups)[column].nunique() == 1).all(), f"overlapping images lie in one {column}"
    assert (groups.groupby(tiles.block).nunique() == 1).all(), "a block holds one group"
    share = tiles[tiles.positive].split.value_counts(normalize=True)
    for split, expected in dict(train=0.8, val=0.1, test=0.1).items():
        assert abs(share[split] - expected) < 0.03, f"{split} has {share[split]:.0%} of the positive tiles"


@pytest.mark.parametrize("below", ["", "data", "rts"])
def test_config_imports_public_images_by_itself(tmp_path, public_set, below, monkeypatch):
    """From RTS_PUBLIC_IMAGES, whether it names the folder with images/ or one above it.

    Three blocks of images are enough here.
    """
    for kind in ("images", "masks"):
        folder = tmp_path / "set" / below / kind
        folder.mkdir(parents=True)
        for image in sorted((public_set.folder / kind).glob("train_yg_0[0-2]*.jpg")):
            shutil.copy(image, folder)
    monkeypatch.setenv("RTS_PUBLIC_IMAGES", str(tmp_path / "set"))
    root = prepare(load_config("configs/public.yaml", f"data.root={tmp_path}/tiles").data)
    assert set(load_tiles(root).RegionName) == {"train_yg_00", "train_yg_01", "train_yg_02"}


def test_check_data_command(tmp_path):
    figure = tmp_path / "batch.png"
    done = run_python("check_data.py", "--figure", figure)
    assert done.returncode == 0, done.stdout + done.stderr
    assert figure.stat().st_size > 10_000, done.stdout + done.stderr


def test_check_data_command_without_data():
    done = run_python("check_data.py", "--overrides", "data.source=tiles data.root=nowhere")
    assert done.returncode == 1
    assert done.stderr.strip().count("\n") == 0, "one line"
    assert "nowhere is missing" in done.stderr
