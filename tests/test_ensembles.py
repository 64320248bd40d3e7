"""Ensembles as their users make them: runs of folds, one calibration, a map of their mean."""

import shutil

import numpy as np
import pytest
import rasterio
from programs import cells_of, last_line, outputs_of, papermill, read_json, run_python
from safetensors.numpy import load_file, save_file

from rts_nb.calibrate import calibrate
from rts_nb.calibration.ensembles import out_of_fold_scores
from rts_nb.calibration.looks import final_evaluation
from rts_nb.calibration.passes import score_split
from rts_nb.calibration.thresholds import caveats, load_calibration, operating_point
from rts_nb.core.files import ConfigError, RunError, write_json
from rts_nb.data import make_sample
from rts_nb.infer import infer
from rts_nb.mapping.catalogue import finished_records
from rts_nb.predict.ensemble import make_ensemble
from rts_nb.predict.predictor import Predictor
from rts_nb.runs.directory import epoch_note
from rts_nb.runs.examples import quick_run
from rts_nb.scores.pixels import sigmoid
from rts_nb.settings.config import load_config, save_config
from rts_nb.tiles.layout import load_tiles
from rts_nb.train import train

FOLDS = 2
SETTINGS = "data.tile_size=64 predict.overlap=32 sampling.batch_size=4 loader.num_workers=0"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "rts"
    return make_sample(folder, tile_size=64, n_regions=6, n_positive=24, n_negative=24, n_scenes=1)


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    "The folder of the runs of two folds."
    folder = tmp_path_factory.mktemp("runs") / "test"
    for fold in range(FOLDS):
        of_fold = f"data.root={data} split.folds={FOLDS} split.fold={fold}"
        train(load_config("configs/test.yaml", f"{of_fold} {SETTINGS}"), folder / f"seed-42-fold-{fold}")
    return folder


@pytest.fixture(scope="module")
def calibrated(trained):
    "Their ensemble, calibrated."
    ensemble = make_ensemble(f"{trained}/seed-42-fold-*")
    calibrate(ensemble)
    return ensemble


@pytest.fixture
def copied(calibrated, tmp_path):
    "A copy of the ensemble and its members that a test may break."
    return shutil.copytree(calibrated.parent, tmp_path / "test") / calibrated.name


def test_every_region_of_train_and_val_calibrates(data, calibrated):
    seen = load_tiles(data).query("split != 'test'")
    calibration = load_calibration(calibrated)
    assert set(calibration["split_regions"]) == set(seen["RegionName"]) and calibration["split"] == "out of fold"
    assert sum(calibration["tiles"].values()) == len(seen)
    assert len(out_of_fold_scores(calibrated).histogram.table) == len(seen)


def test_calibration_keeps_both_thresholds_and_says_what_its_figures_are_of(calibrated):
    calibration = load_calibration(calibrated)
    assert calibration["transferred"] and calibration["temperature_of_members"] != calibration["temperature"]
    for entry in calibration["thresholds"].values():
        assert entry["transferred"] and entry["measured_on"] == "single members"
        assert entry["logit"] == pytest.approx(entry["logit_of_members"] + entry["shift"])
        assert entry["threshold"] == pytest.approx(1 / (1 + np.exp(-entry["logit"] / calibration["temperature"])))
        assert len(entry["precision_by_fold"]) == FOLDS
    assert any("of single members" in caveat for caveat in caveats(calibration))


def test_a_map_of_an_ensemble_is_its_mean_at_the_transferred_threshold(data, calibrated, tmp_path):
    log = infer(calibrated, f"{data}/scenes", tmp_path / "map", min_area_m2=0)
    point, predictor = operating_point(load_calibration(calibrated)), Predictor.from_dir(calibrated)
    assert any("of single members" in warning for warning in log["warnings"])
    (scene,) = (record["scene"] for record in finished_records(tmp_path / "map"))
    with rasterio.open(tmp_path / "map" / f"{scene}_mask.tif") as raster:
        mask = raster.read(1)
    logits = np.full(mask.shape, -np.inf, np.float32)
    for window, strip, valid in predictor.scene(f"{data}/scenes/{scene}.tif"):
        logits[window.toslices()] = np.where(valid, strip, -np.inf)
    known = np.isfinite(logits)
    assert known.any() and np.array_equal(mask[known], logits[known] >= point["logit"])
    of_members = [member.array for member in predictor.members]
    with rasterio.open(f"{data}/scenes/{scene}.tif") as raster:
        image = raster.read([1, 2, 3])[:, :64, :64]
    mean = np.mean([sigmoid(answer(image)) for answer in of_members], 0)
    assert np.allclose(sigmoid(predictor.array(image)), mean, atol=1e-5)


@pytest.mark.long
def test_report_makes_an_ensemble_from_a_pattern_and_calibrates_it(trained, tmp_path):
    runs = shutil.copytree(trained, tmp_path / "runs" / "test", ignore=shutil.ignore_patterns("ensemble-*"))
    done = papermill("30_calibrate", tmp_path / "out.ipynb", run_dir=f"{runs}/seed-42-fold-*", compare="none")
    assert done.returncode == 0, done.stderr[-2000:]
    said = outputs_of(cells_of(tmp_path / "out.ipynb"))
    assert "the mean of 2 folds of config test" in said and "threshold of members" in said
    assert read_json(runs / "ensemble-folds-seed-42" / "calibration.json")["transferred"]


def test_folds_can_be_transferred_on_scenes(data, copied):
    calibration = calibrate(copied, ground=f"{data}/scenes")
    assert calibration["ground"] == "1 scenes"
    assert calibration["thresholds"]["200"]["flagged_pixels"] >= 0


def test_an_ensemble_that_is_not_calibrated_is_refused(data, trained, copied):
    (copied / "calibration.json").unlink()
    with pytest.raises(RunError, match="ensemble-folds-seed-42 has no calibration.json; calibrate it"):
        infer(copied, f"{data}/scenes", copied / "map")


@pytest.mark.long
def test_a_calibration_of_other_members_is_refused(data, copied):
    members = copied.parent / "seed-42-fold-1"
    content = read_json(members / "normalization_stats.json")
    write_json(members / "normalization_stats.json", content | dict(changed=True))
    refused = run_python(
        "-m", "rts_nb.infer", "--model-dir", copied, "--scenes", f"{data}/scenes", "--out-dir", copied / "m"
    )
    assert refused.returncode == 1 and "normalization_stats.json has changed since" in last_line(refused.stderr)
    make_ensemble(f"{copied.parent}/seed-42-fold-*")
    with pytest.raises(
        RunError, match="calibrated with other members than it has .*seed-42-fold-1.*; calibrate it again"
    ):
        infer(copied, f"{data}/scenes", copied / "map")
    calibrate(copied)
    assert infer(copied, f"{data}/scenes", copied / "map")["scenes_done"]


@pytest.mark.long
def test_seeds_calibrate_on_the_val_split_as_one_run_does(tmp_path):
    first = quick_run(tmp_path)
    second = shutil.copytree(first, first.parent / "seed-43")
    save_config(load_config(first / "config.yaml", "seed=43"), second / "config.yaml")
    weights = load_file(second / "model.safetensors")
    save_file(
        {name: values * 0.98 if values.ndim else values for name, values in weights.items()},
        second / "model.safetensors",
    )
    ensemble = make_ensemble([first, second])
    calibration = calibrate(ensemble)
    assert calibration["split"] == "val" and "transferred" not in calibration
    assert calibration["weights"] == Predictor.from_dir(ensemble).weights
    of_one = calibrate(first)
    assert calibration["tiles"] == of_one["tiles"] and calibration["split_regions"] == of_one["split_regions"]
    assert calibration["temperature"] != of_one["temperature"]
    assert not any("single members" in caveat for caveat in caveats(load_calibration(ensemble)))
    gain = calibration["gain"]
    assert gain["of_members"][0] == pytest.approx(score_split(*of_run(first)).histogram.pr_auc(200).value)
    low, high = gain["pr_auc_gain_ci_low"], gain["pr_auc_gain_ci_high"]
    assert low <= gain["pr_auc_gain"] <= high and gain["pr_auc_gain"] == pytest.approx(
        gain["pr_auc"] - np.mean(gain["of_members"])
    )
    assert not (ensemble / "training_profile.json").exists()  # its members have none
    on_test = final_evaluation(ensemble)["gain"]
    assert gain["logit_of_members"] == pytest.approx(calibration["thresholds"]["200"]["logit"], abs=0.5)
    assert set(on_test["objects"]) == set(on_test["objects_of_members"][1]) == {"precision", "recall", "f1"}


def of_run(run):
    "What score_split takes to score the val split with a run."
    return Predictor.from_dir(run), load_config(run / "config.yaml"), run, "val"


def test_a_look_with_folds_measures_their_mean_and_what_it_adds(data, copied, tmp_path):
    before = infer(copied, f"{data}/scenes", tmp_path / "before", min_area_m2=0)
    look = final_evaluation(copied)
    assert look["looks"] == 1 and final_evaluation(copied)["looks"] == 1
    operating = load_calibration(copied)["thresholds"]["200"]
    scores = score_split(Predictor.from_dir(copied), load_config(copied / "config.yaml"), copied, "test")
    at = scores.histogram.at_threshold(sigmoid(operating["logit"]), 200)
    assert look["results"]["200"]["recall"] == pytest.approx(float(at.recall), abs=2e-3)
    gain = look["gain"]
    assert gain["pr_auc"] == pytest.approx(scores.histogram.pr_auc(200).value)
    assert len(gain["of_members"]) == len(gain["objects_of_members"]) == FOLDS
    after = infer(copied, f"{data}/scenes", tmp_path / "after", min_area_m2=0)
    assert any("not known before a labelled look" in warning for warning in before["warnings"])
    assert any("of the mean, on " in warning for warning in after["warnings"])
    assert not any("not known before a labelled look" in warning for warning in after["warnings"])


def test_a_map_of_folds_is_compared_with_what_calibrated_them(data, calibrated, tmp_path):
    profile = read_json(calibrated / "training_profile.json")
    scores = out_of_fold_scores(calibrated).histogram
    assert profile["scores"]["moved"] and len(profile["scores"]["tiles"]) == len(scores.table)
    log = infer(calibrated, f"{data}/scenes", tmp_path / "map", min_area_m2=0)
    assert {"red", "green", "blue", "scores"} <= set(log["shift"])


@pytest.mark.long
def test_reports_say_what_an_ensemble_adds(copied, tmp_path):
    done = papermill("30_calibrate", tmp_path / "looked.ipynb", run_dir=copied, compare="", evaluate="true")
    assert done.returncode == 0, done.stderr[-2000:]
    said = outputs_of(cells_of(tmp_path / "looked.ipynb"))
    assert "look 1 of 1 of this run" in said and "seconds of networks on these tiles" in said
    done = papermill("50_report", tmp_path / "report.ipynb", runs=f"{copied.parent}/*")
    assert done.returncode == 0, done.stderr[-2000:]
    said = outputs_of(cells_of(tmp_path / "report.ipynb"))
    assert "ensemble-folds-seed-42" in said and f"{FOLDS} folds" in said and "passes of a window" in said


@pytest.fixture(scope="module")
def final(data, trained, calibrated):
    "A final fit beside the folds, calibrated by them."
    overrides = f"data.root={data} split.folds={FOLDS} split.final=true {SETTINGS}"
    run = train(load_config("configs/test.yaml", overrides), trained / "seed-42-final")
    calibrate(run)
    return run


def test_a_final_fit_learns_from_all_regions_and_is_calibrated_by_its_folds(final, calibrated, data):
    tiles = load_tiles(data)
    in_train_and_val = tiles["split"].isin(["train", "val"]).sum()
    stats = read_json(final / "normalization_stats.json")
    assert stats["n_tiles_used"] == in_train_and_val
    metrics = read_json(final / "metrics.json")
    assert metrics["best_epoch"] == metrics["epochs"] and metrics["epoch_chosen_on"] == "the config"
    own, of_mean = load_calibration(final), load_calibration(calibrated)
    entry, beside = operating_point(own), operating_point(of_mean)
    assert own["transferred_to"] == "the final fit" and len(own["folds"]) == FOLDS
    assert entry["logit_of_members"] == beside["logit_of_members"]  # both from the same out-of-fold scores
    assert entry["precision"] == beside["precision"] and entry["logit"] != beside["logit"]
    assert "those of the final fit are not known before a labelled look" in " ".join(caveats(own))
    with np.load(next((final / "scores").glob("ground-*.npz"))) as ground:
        flagged_by_folds = entry["flagged_share"]
        assert ground["ensemble"].sum() == ground["members"][0].sum() and 0 <= flagged_by_folds < 1


def test_a_final_fit_without_its_folds_or_as_a_member_is_refused(final, tmp_path):
    alone = shutil.copytree(final, tmp_path / "test" / "seed-42-final")
    with pytest.raises(RunError, match="no directory matches .*seed-42-fold-.*make folds"):
        calibrate(alone)
    with pytest.raises(RunError, match="is a final fit on all regions, and no member"):
        make_ensemble([final, final.parent / "seed-42-fold-0"])


def test_a_final_fit_says_that_its_validation_tiles_were_learnt_from(final):
    cfg = load_config(final / "config.yaml")
    assert epoch_note(cfg) == "trained on these tiles: no measure of quality"
    with pytest.raises(ConfigError, match="calibrated by its folds"):
        load_config("configs/test.yaml", "split.final=true")
    with pytest.raises(ConfigError, match="no region is left to choose the epoch"):
        load_config("configs/test.yaml", "split.final=true split.folds=3 split.epochs=own")
