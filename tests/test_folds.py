"""Runs of folds, resumed where they were killed, and ensembles of runs as users make them."""

import re
import shutil
import signal

import numpy as np
import pandas as pd
import pytest
import torch
from programs import read_json, run_python
from safetensors.numpy import load_file, save_file

from rts_nb.calibration.passes import split_tiles
from rts_nb.core.files import DataError, RunError
from rts_nb.experiments.folds import failing_regions, folds_table, read_folds
from rts_nb.predict.ensemble import make_ensemble, read_ensemble
from rts_nb.predict.predictor import Predictor
from rts_nb.runs.directory import folds_of
from rts_nb.settings.config import load_config, save_config
from rts_nb.settings.examples import tiny_config, tiny_dataset
from rts_nb.tiles.layout import load_tiles
from rts_nb.tiles.loading import EvalTiles
from rts_nb.train import main, train

FOLDS = 2


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tiny_dataset(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    "The folder of the runs of two folds."
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    for fold in range(FOLDS):
        train(tiny_config(data, overrides=f"split.folds={FOLDS} split.fold={fold}"), folder / f"seed-42-fold-{fold}")
    return folder


@pytest.fixture
def runs(trained, tmp_path):
    "A copy of them that a test may break."
    return shutil.copytree(trained, tmp_path / "tiny")


def val_tiles(run):
    "Raw validation tiles (N, C, H, W) of a run."
    cfg = load_config(run / "config.yaml")
    root, tiles = split_tiles(cfg, run, "val")
    images = EvalTiles(root, tiles, cfg.data)
    return torch.stack([images[k]["image"] for k in range(len(tiles))])


def test_folds_together_validate_on_every_region_once(data, trained):
    folds = read_folds(f"{trained}/seed-42-fold-*")
    by_fold = folds_of(folds[0].cfg, data)
    assert [sorted(run.metrics["regions"]) for run in folds] == [sorted(regions) for regions in by_fold]
    seen = load_tiles(data).query("split != 'test'")
    assert sum(len(run.histogram.table.rows) for run in folds) == len(seen)
    assert set(sum(by_fold, [])) == set(seen["RegionName"])
    assert list(folds_table(folds).index) == ["fold 0", "fold 1", "mean ± standard deviation"]
    assert set(failing_regions(folds)) <= set(seen["RegionName"])


def test_members_normalise_with_their_own_tiles(trained):
    stats = [read_json(trained / f"seed-42-fold-{fold}" / "normalization_stats.json") for fold in range(FOLDS)]
    assert stats[0]["tiles_digest"] != stats[1]["tiles_digest"]
    assert stats[0]["rgb"]["mean"] != stats[1]["rgb"]["mean"]


def test_a_fold_that_the_dataset_no_longer_has_is_refused(data, runs, tmp_path):
    changed = shutil.copytree(data, tmp_path / "changed")
    tiles = load_tiles(data)
    table = pd.read_csv(changed / "metadata.csv", dtype=str, keep_default_na=False)
    table[table["Tile_id"] != tiles.query("split == 'train'")["Tile_id"].iloc[0]].to_csv(
        changed / "metadata.csv", index=False
    )
    with pytest.raises(DataError, match="fold [01] of .* is not what it was when .* was trained"):
        for run in (runs / "seed-42-fold-0", runs / "seed-42-fold-1"):  # the tile was in the training of one of them
            save_config(load_config(run / "config.yaml", f"data.root='{changed}'"), run / "config.yaml")
            split_tiles(load_config(run / "config.yaml"), run, "val")


@pytest.mark.long
def test_a_killed_fold_ends_as_an_undisturbed_one(data, trained, tmp_path):
    cfg = load_config(trained / "seed-42-fold-1" / "config.yaml")
    save_config(cfg, tmp_path / "tiny.yaml")
    arguments = ["--config", tmp_path / "tiny.yaml", "--fold", "1", "--run-dir", tmp_path / "run"]
    for kill in ("validation:1", "write:2"):
        assert run_python("tests/killed.py", kill, *arguments).returncode == -signal.SIGKILL
    done = run_python("-m", "rts_nb.train", *arguments)
    assert done.returncode == 0, done.stderr[-2000:]
    for name in ("model.safetensors", "validation_scores.npz", "normalization_stats.json"):
        assert (tmp_path / "run" / name).read_bytes() == (trained / "seed-42-fold-1" / name).read_bytes(), name
    assert read_json(tmp_path / "run" / "metrics.json")["epoch_chosen_on"] == "the config"


COMMANDS = {
    "fold 0 is given and folds is 0; give the number too": ["--fold", "0"],
    "fold 3 is none of the 3 folds, 0 to 2": ["--fold", "3", "--overrides", "split.folds=3"],
    "has 3 folds .* no fold is named; train one with -p fold 0": ["--overrides", "split.folds=3"],
    "give the fold by the parameter fold": ["--fold", "1", "--overrides", "split.folds=3 split.fold=1"],
}


@pytest.mark.parametrize("message", COMMANDS)
def test_a_fold_that_cannot_be_is_refused_in_one_line(message, tmp_path):
    with pytest.raises(SystemExit) as refusal:
        main(["--run-dir", str(tmp_path / "run"), *COMMANDS[message]])
    assert re.search(message, str(refusal.value)) and "\n" not in str(refusal.value)
    assert not (tmp_path / "run").exists()


def test_an_ensemble_answers_with_the_mean_of_its_members(runs):
    folder = make_ensemble(f"{runs}/seed-42-fold-*")
    assert folder == runs / "ensemble-folds-seed-42"
    assert [row["path"] for row in read_ensemble(folder)["members"]] == ["../seed-42-fold-0", "../seed-42-fold-1"]
    batch = val_tiles(runs / "seed-42-fold-0")[:4]
    for settings in (dict(), dict(tta="standard"), dict(scales=[1, 0.5], fusion="mean")):
        both = Predictor.from_dir(folder, precision="fp32", **settings)
        members = [Predictor.from_dir(runs / f"seed-42-fold-{k}", precision="fp32", **settings) for k in range(FOLDS)]
        expected = torch.stack([member.tiles(batch).double().sigmoid() for member in members]).mean(0)
        np.testing.assert_allclose(both.tiles(batch).double().sigmoid(), expected, atol=1e-5)
    picture = batch[0].numpy().astype("u1")
    both = Predictor.from_dir(folder, precision="fp32")
    maps = [Predictor.from_dir(runs / f"seed-42-fold-{k}", precision="fp32").array(picture) for k in range(FOLDS)]
    expected = np.mean([1 / (1 + np.exp(-logits.astype(float))) for logits in maps], axis=0)
    np.testing.assert_allclose(1 / (1 + np.exp(-both.array(picture).astype(float))), expected, atol=1e-5)
    assert both.describe().startswith("2 members one after the other")


@pytest.mark.long
def test_seeds_make_an_ensemble(data, tmp_path):
    for seed in (42, 43):
        train(
            tiny_config(data, epochs=1, overrides=f"seed={seed} freeze_backbone_epochs=0"), tmp_path / f"x/seed-{seed}"
        )
    folder = make_ensemble([tmp_path / "x" / "seed-42", tmp_path / "x" / "seed-43"])
    assert folder.name == "ensemble-seeds" and read_ensemble(folder)["kind"] == "seeds"
    assert make_ensemble(f"{tmp_path}/x/*") == folder, "the ensemble is no member of itself"
    assert len(Predictor.from_dir(folder).members) == 2


def change_weights(run):
    weights = load_file(run / "model.safetensors")
    first = next(name for name, values in weights.items() if values.ndim)
    save_file(weights | {first: weights[first] + 1}, run / "model.safetensors")


def unfinish(run):
    (run / "metrics.json").unlink()


def change_settings(run):
    save_config(load_config(run / "config.yaml", "predict.overlap=16"), run / "config.yaml")


REFUSED = {
    "seed-42-fold-1 lacks metrics.json and is no finished run; finish it": unfinish,
    "seed-42-fold-1 differs from .*seed-42-fold-0 in predict.overlap": change_settings,
    "seed-42-fold-1 lacks .*no finished run|lacks fold 1 of 2; make folds": shutil.rmtree,
}


@pytest.mark.parametrize("message", REFUSED)
def test_members_that_do_not_belong_are_refused(message, runs):
    REFUSED[message](runs / "seed-42-fold-1")
    with pytest.raises(RunError, match=message) as refusal:
        make_ensemble([f"{runs}/seed-42-fold-0", f"{runs}/seed-42-fold-1"])
    assert "\n" not in str(refusal.value)


def test_a_member_that_changed_is_refused(runs):
    folder = make_ensemble(f"{runs}/seed-42-fold-*")
    change_weights(runs / "seed-42-fold-1")
    with pytest.raises(RunError, match="seed-42-fold-1 of .* model.safetensors has changed since"):
        Predictor.from_dir(folder)
    shutil.rmtree(runs / "seed-42-fold-1")
    with pytest.raises(RunError, match="seed-42-fold-1 of .* lacks model.safetensors"):
        Predictor.from_dir(folder)


def test_folds_that_are_not_finished_have_no_table(runs):
    unfinish(runs / "seed-42-fold-1")
    with pytest.raises(RunError, match="seed-42-fold-1 has no metrics.json; it is not a finished run"):
        read_folds(f"{runs}/seed-42-fold-*")
    shutil.rmtree(runs / "seed-42-fold-1")
    with pytest.raises(RunError, match="lacks fold 1 of 2; make folds"):
        read_folds(f"{runs}/seed-42-fold-*")
