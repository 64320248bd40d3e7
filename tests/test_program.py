"""The program as its users run it: papermill from the root, bad input, the real images."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def papermill(notebook, out, *args, **env):
    return subprocess.run(
        ["papermill", f"nbs/{notebook}.ipynb", str(out), *args],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | env,
    )


def test_train_with_another_seed_leaves_a_report(tmp_path):
    out = tmp_path / "out.ipynb"
    done = papermill("20_train", out, "-p", "seed", "43")
    assert done.returncode == 0, done.stderr[-2000:]
    run = Path(os.environ["RTS_RUNS"]) / "test" / "seed-43"
    for name in (
        "config.yaml",
        "environment.json",
        "normalization_stats.json",
        "training_profile.json",
        "metrics.json",
        "model.safetensors",
    ):
        assert (run / name).exists(), name
    cells = json.loads(out.read_text())["cells"]
    text = json.dumps([c.get("outputs", []) for c in cells])
    assert "Val-Realistic 1:1000" in text and text.count("image/png") >= 4, "the report shows its table and its figures"
    assert json.loads((run / "notebooks" / "expected.json").read_text())["20_train"]["path"] == str(out), (
        "the run knows where its report is"
    )
    # the next thing that touches the run collects it
    subprocess.run([sys.executable, "-m", "rts_nb.train", "--collect", str(run)], cwd=ROOT, check=True)
    assert (run / "notebooks" / "20_train.ipynb").exists()
    from mlflow import MlflowClient

    run_id, client = (
        json.loads((run / "mlflow.json").read_text())["run_id"],
        MlflowClient(f"sqlite:///{os.environ['RTS_RUNS']}/mlflow.db"),
    )
    assert client.get_run(run_id).info.status == "FINISHED" and client.get_run(run_id).data.params["seed"] == "43"
    assert [f.path for f in client.list_artifacts(run_id, "notebooks")] == ["notebooks/20_train.ipynb"]
    assert "model.safetensors" in [f.path for f in client.list_artifacts(run_id)]


@pytest.mark.parametrize(
    "args, says",
    [
        (["-p", "config", "configs/smaple.yaml"], "config configs/smaple.yaml is missing; configs/ has"),
        (["-p", "sed", "43"], "parameter 'sed' is not one of this notebook; did you mean 'seed'?"),
    ],
    ids=["no config", "unknown parameter"],
)
def test_bad_input_is_one_line_before_training(tmp_path, args, says):
    done = papermill("20_train", tmp_path / "out.ipynb", *args)
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert says in last, last
    assert "Error: " in last and "Traceback" not in done.stderr.split("Exception encountered")[-1], (
        "our part of the message is one line"
    )


@pytest.mark.parametrize(
    "args, says",
    [
        (["--overrides", "train.epoch=3"], "unknown key 'train.epoch'; did you mean 'train.epochs'?"),
        (["--seed", "-1"], "seed: Input should be greater than or equal to 0, found -1"),
        (["--overrides", "data.root=data/nowhere data.source=tiles"], "data.root data/nowhere is missing"),
        (["--run-dir", "/proc/nowhere/run"], "cannot be written"),
        (["--overrides", "sampling.batch_size=512"], "sampling.batch_size 512 is larger than epoch 1"),
    ],
    ids=["unknown key", "negative seed", "no data", "unwritable run", "batch larger than the epoch"],
)
def test_bad_input_of_the_command_is_one_line(args, says):
    "The same train() without the notebook around it, which takes a minute to reach it."
    done = subprocess.run([sys.executable, "-m", "rts_nb.train", *args], cwd=ROOT, capture_output=True, text=True)
    lines = done.stderr.strip().splitlines()
    assert (
        done.returncode == 1
        and lines[-1].startswith("rts_nb.train: ")
        and says in lines[-1]
        and "Traceback" not in done.stderr
    ), done.stderr[-1500:]


def test_public_images_import(tmp_path, public_set):
    from rts_nb.tiles.checks import check_dataset
    from rts_nb.tiles.layout import load_tiles
    from rts_nb.tiles.public import import_public

    root = import_public(public_set.folder, tmp_path / "public")
    tiles = load_tiles(root)
    assert check_dataset(root) == []
    assert len(tiles) >= public_set.tiles and tiles.positive.any() and not tiles.positive.all()
    images = tiles.Tile_id.str.rsplit("_", n=2).str[0]
    assert (tiles.groupby(images).split.nunique() == 1).all(), "an image lies in one split"
    share = tiles[tiles.positive].split.value_counts(normalize=True)
    assert abs(share["train"] - 0.8) < 0.03 and abs(share["val"] - 0.1) < 0.03 and abs(share["test"] - 0.1) < 0.03


@pytest.mark.parametrize("below", ["", "data", "rts"])
def test_config_imports_public_images_by_itself(tmp_path, public_set, below, monkeypatch):
    "From RTS_PUBLIC_IMAGES, whether it names the folder with images/ or one above it; three blocks of images are enough here."
    import shutil

    from rts_nb.data import prepare
    from rts_nb.settings.config import load_config
    from rts_nb.tiles.layout import load_tiles

    for kind in ("images", "masks"):
        (tmp_path / "set" / below / kind).mkdir(parents=True)
        for image in sorted((public_set.folder / kind).glob("train_yg_0[0-2]*.jpg")):
            shutil.copy(image, tmp_path / "set" / below / kind)
    monkeypatch.setenv("RTS_PUBLIC_IMAGES", str(tmp_path / "set"))
    root = prepare(load_config("configs/public.yaml", f"data.root={tmp_path}/tiles").data)
    assert set(load_tiles(root).RegionName) == {"train_yg_00", "train_yg_01", "train_yg_02"}


def test_check_data_command(tmp_path):
    done = subprocess.run(
        [sys.executable, "check_data.py", "--figure", str(tmp_path / "batch.png")],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and (tmp_path / "batch.png").stat().st_size > 10_000, done.stdout + done.stderr
    done = subprocess.run(
        [sys.executable, "check_data.py", "--overrides", "data.source=tiles data.root=nowhere"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and done.stderr.strip().count("\n") == 0 and "nowhere is missing" in done.stderr
